"""A loss that explodes or is no number: the run stops, or goes back and on more slowly."""

import json
import pathlib

import pytest

from rcnn_jax.training.checkpoints import reading

FLAGS = [
    f"--config={pathlib.Path(__file__).parents[1] / 'multiprocess' / 'small.py'}",
    "--workdir=run",
    "--config.precision=float32",
    "--config.model.dropout=0.0",
    "--config.steps=20",
    "--config.evaluate_every=20",
    "--config.checkpoint_every=5",
    "--config.log_every=5",
    "--config.schedule.name=stepwise",
    "--config.schedule.value=0.001",
    "--config.schedule.boundaries=(0.5,)",
]
# From step 11 on the rate is 1e12 times what it was.
EXPLODES = "--config.schedule.factor=1e12"
ROLLBACK = "--config.divergence.action=rollback"

pytestmark = [pytest.mark.faults, pytest.mark.one_row]


def lines(tmp_path):
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_stops_and_keeps_the_last_good_checkpoint(door, tmp_path):
    result = door("train", *FLAGS, EXPLODES)
    assert result.returncode == 1
    assert "training has diverged: the loss is" in result.stderr
    assert "the last good checkpoint, of step 10, is kept" in result.stderr
    assert reading.steps(tmp_path / "run" / "checkpoints") == [5, 10]


def test_goes_back_and_on_with_a_lower_rate_also_after_a_kill(door, tmp_path):
    """A run that stopped may be told to roll back; the lower rate is part of its checkpoints."""
    assert door("train", *FLAGS, EXPLODES).returncode == 1
    flags = [*FLAGS, EXPLODES, ROLLBACK, "--config.divergence.rate_factor=1e-6"]
    flags += ["--config.divergence.max_loss=100"]
    result = door("train", *flags)
    assert result.returncode == 0, result.stderr
    assert "going on with divergence.action: 'stop' -> 'rollback'" in result.stdout
    for attempt, scale in ((1, "1e-06"), (2, "1e-12")):
        assert (
            f"rolled back to step 10, attempt {attempt} of 3: the learning rate is {scale} of the "
            "schedule's" in result.stdout
        )
    assert "attempt 3" not in result.stdout
    assert result.stderr.count("warning: training has diverged") == 2
    trained = [line for line in lines(tmp_path) if "split" not in line]
    assert [line["step"] for line in trained] == [5, 10, 15, 20], "a step was logged twice"
    assert trained[-1]["learning_rate"] == pytest.approx(1e-3)
    again = door("train", *flags)
    assert "all 20 steps have been taken" in again.stdout


def test_gives_up_after_as_many_attempts_as_were_allowed(door, tmp_path):
    flags = [*FLAGS, EXPLODES, ROLLBACK, "--config.divergence.rate_factor=0.5"]
    result = door("train", *flags, "--config.divergence.attempts=2")
    assert result.returncode == 1
    assert "attempt 2 of 2" in result.stdout
    assert result.stderr.count("error: training has diverged") == 1
    assert reading.steps(tmp_path / "run" / "checkpoints") == [5, 10]


def test_a_loss_above_the_bound_is_a_divergence_too(door, tmp_path):
    """Before the first checkpoint there is only the start to go back to."""
    flags = [*FLAGS, "--config.divergence.max_loss=0.5", ROLLBACK, "--config.divergence.attempts=1"]
    result = door("train", *flags)
    assert result.returncode == 1
    assert "rolled back to step 0, attempt 1 of 1" in result.stdout
    assert "above config.divergence.max_loss=0.5; no checkpoint had been written" in result.stderr
    assert not reading.steps(tmp_path / "run" / "checkpoints")
