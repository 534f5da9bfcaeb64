"""An optimiser, a schedule, a metric and a writer by import path, in a shipped task."""

import json

import pytest

pytestmark = pytest.mark.one_row


def test_parts_of_ones_own_train_and_evaluate_by_config_alone(door, example):
    result = door("train", "--config=experiment.py", "--workdir=run")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (example / "run" / "lines.txt").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates
    scores = [line["confidence"] for line in lines if "confidence" in line]
    assert len(scores) == 2
    # A process that knows the fork through the workdir's config alone.
    result = door("evaluate", "--workdir=run", "--split=validation", fresh=True)
    assert result.returncode == 0, result.stderr
    evaluation = json.loads((example / "run" / "evaluation.json").read_text())
    assert evaluation["metrics"]["confidence"] == pytest.approx(max(scores), rel=1e-5)
    assert {"error", "loss"} <= evaluation["metrics"].keys()
