"""Damaged records of a data file: the end of the run, or named, counted and left out."""

import json

import pytest

from data.records.prepared import files_below, spoil
from rcnn_jax.data.datasets.images.digits import DIGITS
from rcnn_jax.data.records import builder

FLAGS = [
    "--config=rcnn_digits",
    "--workdir=run",
    "--config.data.residency=stream",
    "--config.model.features=8",
    "--config.model.steps=1",
    "--config.epochs=1",
    "--config.log_every=10",
    "--config.evaluate_every=100",
]

pytestmark = pytest.mark.faults


@pytest.mark.one_row
def test_stops_or_goes_on_without_them_as_the_config_says(door, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    builder.prepare(DIGITS, tmp_path, "train")
    (train,) = files_below(tmp_path / "cache")
    for record in (3, 200):
        spoil(train, record)
    result = door("train", *FLAGS)
    assert result.returncode == 1
    assert result.stderr.count("error: ") == 1
    assert "of digits split 'train' in" in result.stderr
    assert "--config.data.damaged=skip goes on without such records" in result.stderr
    assert "Traceback" not in result.stderr

    result = door("train", *FLAGS, "--config.data.damaged=skip")
    assert result.returncode == 0, result.stderr
    for record in (3, 200):
        assert result.stderr.count(f"warning: record {record} of digits split 'train' in") == 1
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["damaged_records"] for line in lines if "split" not in line][-1] == 2
    result = door("evaluate", "--workdir=run")
    assert "test: 360 examples" in result.stdout, result.stderr
