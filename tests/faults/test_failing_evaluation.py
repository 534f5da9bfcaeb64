"""What goes wrong in an evaluation costs no step: the state is saved before it."""

import json
import pathlib

import pytest

from rcnn_jax.training.checkpoints import reading

TASK = """
import dataclasses
import pathlib

import numpy as np

from rcnn_jax.tasks.classification import Classification


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored(Classification):
    @property
    def evaluates_on_host(self):
        return True

    def evaluate(self, predictions):
        rows = sum(len(batch["mask"]) for _, batch in predictions)
        if rows >= 180 and pathlib.Path("broken").exists():
            raise KeyError("no such class")
        return {"rows": float(rows)}
"""
SMALL = pathlib.Path(__file__).parents[1] / "multiprocess" / "small.py"
FLAGS = [
    f"--config={SMALL}",
    "--workdir=run",
    "--config.task.name=scored:Scored",
    "--config.evaluate_every=4",
    "--config.checkpoint_every=0",
]

pytestmark = [pytest.mark.faults, pytest.mark.one_row]


def test_an_error_of_a_fork_names_its_line_and_what_is_saved(door, tmp_path):
    (tmp_path / "scored.py").write_text(TASK)
    (tmp_path / "broken").touch()
    result = door("train", *FLAGS)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    line = 1 + TASK.splitlines().index('            raise KeyError("no such class")')
    assert (
        f"error: the evaluation after step 4 failed: KeyError: 'no such class' (scored.py:{line}); "
        "the checkpoint of step 4 is saved, the same command goes on from there." in result.stderr
    )
    assert reading.steps(tmp_path / "run" / "checkpoints") == [4]

    (tmp_path / "broken").unlink()
    result = door("train", *FLAGS)
    assert result.returncode == 0, result.stderr
    assert "resuming from the checkpoint of step 4" in result.stdout
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows if "split" in row] == [4, 8]
