"""A workdir says which code it was made by."""

import json
import subprocess

import pytest

from rcnn_jax.configuration import importing
from rcnn_jax.output import provenance

pytestmark = pytest.mark.one_row


def git(folder, *arguments):
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def fork(tmp_path):
    folder = tmp_path / "fork"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "models.py").write_text("width = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def entries(workdir):
    return [json.loads(line) for line in (workdir / provenance.FILE).read_text().splitlines()]


def of(entry, folder):
    (found,) = [each for each in entry["repositories"] if each["folder"] == str(folder.resolve())]
    return found


def test_commit_local_changes_and_versions_of_every_start_are_kept(fork, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    provenance.record(workdir, [fork])
    (fork / "models.py").write_text("width = 2\n")
    (fork / "new.py").write_text("")
    provenance.record(workdir, [fork, fork])
    provenance.record(workdir, [fork])

    first, second, third = entries(workdir)
    commit = git(fork, "rev-parse", "HEAD").strip()
    assert of(first, fork) == {"folder": str(fork.resolve()), "commit": commit, "changes": []}
    changed = of(second, fork)
    assert changed["commit"] == commit
    assert changed["changes"] == [" M models.py", "?? new.py"]
    assert "+width = 2" in (workdir / changed["difference"]).read_text()
    assert of(third, fork) == changed
    assert len(list(workdir.glob("provenance-*.diff"))) == len(
        {each["difference"] for each in third["repositories"] if "difference" in each}
    )
    assert first["kernels"].startswith(("compiled, ", "XLA's forms: "))
    assert {"python", "jax", "jaxlib", "flax", "optax", "numpy"} <= set(first["versions"])


def test_without_git_or_a_commit_the_rest_is_kept(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert provenance.repository(tmp_path / "empty")["commit"] is None
    assert provenance.repository(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance.record(tmp_path, [tmp_path / "empty"])
    (entry,) = entries(tmp_path)
    assert entry["repositories"] == []
    assert entry["versions"]["jax"]


def test_the_code_that_a_config_names_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "nets_of_mine.py").write_text("Net = 1\n")
    importing.resolve("deep.nets_of_mine:Net", "test")
    monkeypatch.chdir(tmp_path)
    config = {"model": {"name": "deep.nets_of_mine:Net"}, "data": {"augment": "flip"}, "steps": 3}
    assert importing.folders_of_code(config) == [str(tmp_path), str(tmp_path / "deep")]
