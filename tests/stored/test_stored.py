"""Runs of an older version evaluate and go on: to the same bits on the machine they came from.

`make.py` made them; nothing in `a20cca2` is ever changed.
"""

import json
import math
import pathlib

import pytest

from jobs import AS_USERS
from stored import make

pytestmark = pytest.mark.oldest_row

HERE = pathlib.Path(__file__).parent
STORED = HERE / "a20cca2"


def same_cpu() -> bool:
    try:
        return json.loads((STORED / "machine.json").read_text()) == make.machine()
    except OSError:  # not on Linux
        return False


# One run goes on by compiled kernels, which that version did not have: to nearly the same state.
RUNS = [(name, "0") for name in sorted(make.EXPERIMENTS)] + [("captioner", "1")]


@pytest.mark.parametrize(("name", "kernels"), RUNS)
def test_a_stored_run_evaluates_and_goes_on_to_the_stored_state(door, tmp_path, name, kernels):
    switch = {"RCNN_JAX_KERNELS": kernels}
    result = door(HERE / "go_on.py", STORED, tmp_path / "runs", name, **AS_USERS, **switch)
    assert result.returncode == 0, result.stderr
    line = json.loads(result.stdout)
    assert line["step"] == make.AT
    assert not line["paths"], "the state has other leaves"
    expected = json.loads((STORED / name / "evaluation.json").read_text())["metrics"]
    assert line["metrics"].keys() == expected.keys()
    if same_cpu() and not line["topology"]:
        assert line["metrics"] == pytest.approx(expected, abs=0, rel=0, nan_ok=True)
        assert line["exact"], f"other bits: {line['distances']}"
    else:
        # A share of examples may change by one where two answers were all but equal.
        assert line["metrics"]["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        for part, distance in line["distances"].items():
            assert distance < 1e-5, f"{part} is {distance} away"
    assert not any(math.isnan(d) for d in line["distances"].values())
