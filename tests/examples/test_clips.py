"""A convolutional LSTM on clips of different lengths, padded and masked, in a shipped task."""

import json

import pytest

pytestmark = pytest.mark.one_row


def test_clips_of_different_lengths_are_learnt(door, example):
    result = door("train", "--config=experiment.py", "--workdir=run")
    assert result.returncode == 0, result.stderr
    assert not result.stderr, "labels int64 and clips warn of nothing"
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((example / "run" / "evaluation.json").read_text())["metrics"]
    assert metrics["error"] < 0.45, "chance is 0.75"
    # The whole data set is known to the config, so that the summary needs no --input.
    result = door("summary", "--config=experiment.py")
    assert result.returncode == 0, result.stderr
    assert "ConvLSTM" in result.stdout
