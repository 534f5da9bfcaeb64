"""Copy memory through the doors: a label for each step of a sequence of symbols."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.one_row

FORK = """
from rcnn_jax.data.datasets.series import lags

SHORT = lags.copy_memory(3, splits={"train": 40, "validation": 9, "test": 10})
"""
RUN = [
    "--config=copy_memory:elman",
    "--config.data.name=fork:SHORT",
    "--config.model.hidden=8",
    "--config.steps=30",
    "--config.batch_size=8",
    "--config.evaluation_batch_size=4",
    "--config.evaluate_every=30",
    "--config.log_every=10",
    "--workdir=run",
]


def test_it_is_trained_and_evaluated(door, tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    result = door("train", *RUN)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(n) for n in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "split" not in line or line["split"] == "train"]
    assert training[0]["loss"] > training[-1]["loss"] > 0
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    metrics = found["metrics"]
    assert found["n"] == 10
    assert set(metrics) == {"error", "loss", "recall_error"}
    # Wrong steps are whole, among 23 of each sequence, and among the 10 symbols of each.
    wrong, said = 230 * metrics["error"], 100 * metrics["recall_error"]
    np.testing.assert_allclose([wrong, said], np.round([wrong, said]), atol=1e-3)
    assert 0 < said <= wrong


def test_a_class_too_few_is_said_at_once(door, tmp_path):
    """Blanks would have no class."""
    (tmp_path / "fork.py").write_text(FORK)
    result = door("train", *RUN, "--config.model.classes=8")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.endswith("config.task.blank=8 must be the number of a class of 8, from 0 on.")
    assert not (tmp_path / "run").exists()


def test_the_summary_knows_the_input(door):
    result = door("summary", "--config=copy_memory:lag_100")
    assert result.returncode == 0, result.stderr
    assert "[1, 120] -> [1, 120, 9]" in result.stdout
