"""A loss over all pairs of the global batch: one number on any layout, or one sentence."""

import json
import pathlib

import numpy as np
import pytest

TRAIN = ("train", "--config=experiment.py", "--config.precision=float64", "--config.log_every=1")


def numbers(workdir: pathlib.Path) -> np.ndarray:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    return np.array([*losses, lines[-1]["recall_at_10"]])


@pytest.mark.one_row
@pytest.mark.faults
def test_one_device_four_by_jit_four_by_pmap_and_two_processes_agree(door, job, example):
    layouts = {
        "jit": {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        "pmap": {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    }
    result = door(*TRAIN, "--workdir=one")
    assert result.returncode == 0, result.stderr
    expected = numbers(example / "one")
    for parallelism, flags in layouts.items():
        arguments = (f"--workdir={parallelism}", f"--config.parallelism={parallelism}")
        result = door(*TRAIN, *arguments, **flags)
        assert result.returncode == 0, result.stderr
        np.testing.assert_allclose(numbers(example / parallelism), expected, rtol=1e-10)
    for result in job(*TRAIN, "--workdir=job", processes=2, devices=2):
        assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(numbers(example / "job"), expected, rtol=1e-10)


@pytest.mark.one_row
def test_what_would_be_another_loss_is_refused(door, example):
    result = door(*TRAIN, "--workdir=parts", "--config.accumulate=2")
    assert result.returncode == 2
    assert "looks at all rows of a batch, which config.accumulate takes in parts" in result.stderr

    parts = example / "parts.py"
    text = parts.read_text()
    alone = "everyone, mask = whole_batch((sentences, batch['mask']))".replace("'", '"')
    assert alone in text
    naive = text.replace(alone, 'everyone, mask = sentences, batch["mask"]')
    parts.write_text(naive.replace("row_numbers(len(images))", "jnp.arange(len(images))"))
    result = door(
        *TRAIN, "--workdir=naive", "--config.parallelism=pmap",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )  # fmt: skip
    assert result.returncode == 2
    assert "the rows of a batch are coupled" in result.stderr
    assert "by pmap on 4 devices" in result.stderr
    assert not (example / "naive").exists()
    result = door(*TRAIN, "--workdir=naive", "--config.accumulate=2")
    assert result.returncode == 2
    assert "in 2 parts" in result.stderr
    assert "Use config.accumulate=1" in result.stderr
