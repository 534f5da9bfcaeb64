"""What a fast recipe adds, through the doors: stages, a whitened layer, epochs of rows."""

import json
import re
import shutil

import numpy as np
import pytest

from rcnn_jax.training.checkpoints import reading

pytestmark = pytest.mark.one_row

ALL = [
    "--config=rcnn_digits",
    "--config.model.features=8",
    "--config.model.steps=1",
    "--config.model.recurrent_init=identity",
    "--config.epochs=0",
    "--config.steps=6",
    "--config.batch_size=32",
    "--config.log_every=1",
    "--config.data.augment=alternating_flip",
    "--config.data.augment_until=((0.5, 'resize(6)|alternating_flip'),)",
    "--config.sampler.name=rcnn_jax.data.samplers:ShuffledWithEpochs",
    "--config.init_fit.name=rcnn_jax.layers.whitening:WhitenedKernel",
    "--config.init_fit.path=conv/kernel",
    "--config.ema_decay=0.9",
    "--config.optimizer.groups=(('conv/kernel', 0.0),)",
    "--workdir=run",
]


def losses(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return {(e["step"], e.get("split")): e["loss"] for e in map(json.loads, lines)}


def test_a_run_goes_on_in_the_stage_where_it_was(door, tmp_path):
    arguments = [*ALL, "--config.checkpoint_every=2", "--config.keep_latest=9"]
    result = door("train", *arguments)
    assert result.returncode == 0, result.stderr
    run, unbroken = tmp_path / "run", losses(tmp_path / "run")
    assert {step for step, _ in unbroken} == set(range(1, 7))
    # The first layer is frozen, so that it still is what was fitted.
    kernel = reading.read_variables(run / "checkpoints", [])["params/conv/kernel"]
    np.testing.assert_allclose(kernel[..., 0::2], -kernel[..., 1::2])
    assert np.abs(kernel).min(axis=(0, 1, 2)).max() > 0
    # Step 3 is the last of the first stage.
    again = shutil.copytree(run, tmp_path / "again")
    for checkpoint in (again / "checkpoints").iterdir():
        if int(re.search(r"\d+$", checkpoint.name)[0]) > 2:
            shutil.rmtree(checkpoint)
    result = door("train", *arguments, "--workdir=again")
    assert result.returncode == 0, result.stderr
    assert "resuming from the checkpoint of step 2" in result.stdout
    assert losses(again) == unbroken
    assert door("evaluate", "--workdir=again").returncode == 0


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            "--config.sampler.name=rcnn_jax.data.samplers:Shuffled",
            ["'index'", "ShuffledWithEpochs"],
        ),
        ("--config.init_fit.path=conv/kernal", ["'conv/kernal'", "did you mean 'conv/kernel'?"]),
        ("--config.init_fit.epsilom=0.1", ["'epsilom'", "did you mean 'epsilon'?"]),
        ("--config.data.augment_until=((0.5, 'resiz(6)'),)", ["did you mean 'resize'?"]),
        ("--config.data.augment_until=((1.5, 'flip'),)", ["augment_until", "between 0 and 1"]),
        ("--config.data.augment_until=(0.5, 'flip')", ["augment_until", "pairs"]),
    ],
)
def test_a_mistake_is_one_sentence(door, tmp_path, change, parts):
    result = door("train", *ALL, change)
    assert result.returncode in (1, 2)
    (line,) = result.stderr.splitlines()
    for part in parts:
        assert part in line, line
    assert not (tmp_path / "run").exists()


def test_the_summary_applies_transforms_that_follow_an_example(door):
    result = door("summary", *ALL[:-1])
    assert result.returncode == 0, result.stderr
    assert "[1, 16, 16, 1] -> [1, 10]" in result.stdout
