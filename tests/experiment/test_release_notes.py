"""A run says what its files are read as since it was trained."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from rcnn_jax.configuration import loading
from rcnn_jax.data.datasets.images import digits
from rcnn_jax.experiment import evaluation_run
from rcnn_jax.training.workdir import Workdir

pytestmark = pytest.mark.one_row

STORED = pathlib.Path(__file__).parent.parent / "stored" / "a20cca2" / "digits"
NOTES = {"1.1.0": "Blots are left out.", "1.10.0": "Pages are turned."}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A workdir that names no version, as those of a20cca2, and a data set that has changed."""
    spec = dataclasses.replace(digits.DIGITS, version="1.10.0", release_notes=NOTES)
    monkeypatch.setattr(digits, "DIGITS", spec)
    shutil.copytree(STORED, tmp_path / "run")
    return Workdir(tmp_path / "run")


def evaluated(run: Workdir, capsys) -> list[str]:
    evaluation_run.prepare_evaluation(loading.for_evaluation(run.config), run.path, "validation")
    lines = capsys.readouterr().err.splitlines()
    return [line.partition("change: ")[2] for line in lines if "read differently" in line]


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        (None, ["Blots are left out", "Pages are turned"]),
        ("", ["Blots are left out", "Pages are turned"]),
        ("1.0.0", ["Blots are left out", "Pages are turned"]),
        ("1.2.0", ["Pages are turned"]),
        ("1.10.0", []),
    ],
)
def test_the_notes_of_later_versions_are_said(run, capsys, recorded, said):
    facts = {} if recorded is None else {"version": recorded}
    run.data.write_text(json.dumps({**run.data_facts(), **facts}))
    assert evaluated(run, capsys) == said


@pytest.mark.parametrize("has_facts", [True, False])
def test_a_run_that_goes_on_keeps_the_version_it_began_with(run, has_facts):
    if not has_facts:
        run.data.unlink()
    config = loading.from_json(run.config)
    examples = run.data_facts().get("examples", 5)
    run.adopt(config, {"examples": examples, "version": "1.10.0"})
    assert run.data_facts()["version"] == ""


def test_a_new_run_records_the_version(run, tmp_path):
    new = Workdir(tmp_path)
    new.adopt(loading.from_json(run.config), {"examples": 5, "version": "1.10.0"})
    assert new.data_facts()["version"] == "1.10.0"


def test_versions_are_numbers():
    with pytest.raises(ValueError, match=r"got '1\.1'"):
        dataclasses.replace(digits.DIGITS, release_notes={"1.1": "Blots are left out."})
