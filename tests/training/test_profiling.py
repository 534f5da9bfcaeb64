"""Traces of training steps: which span the command line names, and files that a viewer reads."""

import gzip
import json

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.training.profiling import Span, parse

RUN = (
    "--config=rcnn_digits", "--workdir=run", "--config.steps=4", "--config.epochs=0",
    "--config.batch_size=8", "--config.model.features=8", "--config.model.steps=1",
    "--config.log_every=1", "--config.evaluate_every=4",
)  # fmt: skip


def test_a_span_of_steps():
    assert parse("3:3") == Span(3, 3)


@pytest.mark.parametrize("text", ["3", "3:2", "0:2", "a:b", "1:2:3", "1.5:2", "-1:2", ""])
def test_no_span_is_one_sentence(text):
    with pytest.raises(UsageError, match=f"^--profile={text}: "):
        parse(text)


@pytest.mark.one_row
def test_a_run_leaves_a_trace_of_the_steps_that_were_asked_for(door, tmp_path):
    result = door("train", *RUN, "--profile=2:3")
    assert result.returncode == 0, result.stderr
    assert "trace of steps 2 to 3: run/profile" in result.stdout
    (file,) = (tmp_path / "run/profile").rglob("perfetto_trace.json.gz")
    with gzip.open(file) as opened:
        events = json.load(opened)["traceEvents"]
    names = [event.get("name", "") for event in events]
    assert sum("PjitFunction" in name and "step" in name for name in names) >= 2
    assert list((tmp_path / "run/profile").rglob("*.xplane.pb"))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step_s"] is None for line in lines if "loss" in line and "split" not in line] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.one_row
def test_a_span_that_is_none_ends_before_anything_is_written(door, tmp_path):
    result = door("train", *RUN, "--profile=5")
    assert result.returncode == 2
    assert result.stderr.startswith("error: --profile=5: FROM:TO are two whole numbers")
    assert not (tmp_path / "run").exists()
