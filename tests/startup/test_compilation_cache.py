"""A second start compiles nothing and computes the same bits; no fault of the cache stops it."""

import json
import os
import pathlib

import pytest

from jobs import AS_USERS
from rcnn_jax.configuration import environment
from rcnn_jax.errors import UsageError
from rcnn_jax.startup import compilation_cache
from rcnn_jax.training.checkpoints import reading

SCRIPT = pathlib.Path(__file__).parent / "cached_programs.py"
CONFIG = """
def get_config():
    return {
        "model": {
            "name": "rcnn_jax.models.fully_connected:FullyConnected",
            "classes": 10, "hidden": (16,), "dropout": 0.3,
        },
        "data": {
            "name": "digits", "preprocess": "to_float(16)", "augment": "flip",
            "residency": "device",
        },
        "batch_size": 32,
        "steps": 6,
        "evaluate_every": 3,
    }
"""


@pytest.fixture
def start(door):
    """Starts a process with a cache; returns what it said of its programs."""

    def run(folder, *flags, max_bytes=2**30, notes=()):
        done = door(SCRIPT, folder, max_bytes, *flags, **AS_USERS)
        assert done.returncode == 0, done.stderr
        ours = [line for line in done.stderr.splitlines() if line.startswith(("note:", "warning:"))]
        assert len(ours) == len(notes), done.stderr
        for line, part in zip(ours, notes, strict=True):
            assert part in line
        assert "UserWarning" not in done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def entries(said):
    return sorted(pathlib.Path(said["folder"]).glob("*-cache"))


def test_a_second_start_compiles_nothing_and_computes_the_same_bits(start, tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    said, leaves = {}, {}
    for name in ("off", "cold", "warm"):
        folder = "off" if name == "off" else tmp_path / "cache"
        said[name] = start(folder, "--config=tiny.py", f"--workdir={name}")
        leaves[name] = reading._manifest(tmp_path / name / "checkpoints", 6)["leaves"]
    assert leaves["off"] == leaves["cold"] == leaves["warm"]
    off, cold, warm = said.values()
    assert off["folder"] is None
    assert off["programs"] > 5  # of init, step, evaluation, and moves between host and device
    assert off["hits"] == off["misses"] == 0
    # Programs that are alike are taken from the cache within one run, too.
    assert cold["misses"] == cold["programs"] - cold["hits"] > 5
    assert warm["hits"] == warm["programs"] == off["programs"]
    assert warm["misses"] == 0


def test_cores_have_folders_of_their_own(start, tmp_path):
    said = start(tmp_path / "cache")
    cores = len(os.sched_getaffinity(0))
    assert said["folder"] == str(tmp_path / "cache" / f"{cores}_cores")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0, "others may read or write"


@pytest.mark.parametrize("damage", ["half", "flipped", "empty"])
def test_a_damaged_entry_is_compiled_anew_and_replaced(start, tmp_path, damage):
    whole = start(tmp_path / "cache")
    assert whole["misses"] == whole["programs"] == len(entries(whole))
    for path in entries(whole):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle] ^= 16
        broken = {"half": content[:middle], "flipped": content, "empty": b""}[damage]
        path.write_bytes(broken)
    mended = start(tmp_path / "cache", notes=["cannot be read"])
    assert mended["hits"] == 0
    assert mended["result"] == whole["result"]
    again = start(tmp_path / "cache")
    assert again["hits"] == again["programs"] == whole["programs"]
    assert again["result"] == whole["result"]


def test_a_folder_that_cannot_be_written_is_said_once(start, tmp_path):
    (tmp_path / "file").touch()
    said = start(tmp_path / "file" / "cache", notes=["Not a directory"])
    assert said["folder"] is None
    assert said["hits"] == said["misses"] == 0


def test_entries_that_can_be_neither_read_nor_replaced_are_said_once(start, tmp_path):
    whole = start(tmp_path / "cache")
    for path in entries(whole):
        path.unlink()
        path.mkdir()  # in the way, whoever asks
    said = start(tmp_path / "cache", notes=["cannot be read"])
    assert said["result"] == whole["result"]
    assert said["hits"] == 0


def test_the_least_recently_used_entries_make_room(start, tmp_path):
    whole = start(tmp_path / "cache")
    files = entries(whole)
    other = tmp_path / "cache" / "999_cores" / "jit_other-0-cache"
    other.parent.mkdir()
    other.write_bytes(b"x" * 100)
    bystander = tmp_path / "cache" / "thesis.tex"
    bystander.write_bytes(b"x" * 10**6)
    for age, path in enumerate((*files, other)):
        os.utime(path, (10**9 - age, 10**9 - age))
    # Room for all but the oldest, that of another number of cores.
    size = sum(path.stat().st_size for path in files)
    said = start(tmp_path / "cache", max_bytes=size)
    assert not other.exists()
    assert bystander.exists()
    assert said["hits"] == said["programs"]
    said = start(tmp_path / "cache", max_bytes=0)
    assert said["hits"] == 0
    assert said["misses"] == said["programs"]


def test_a_folder_that_the_user_named_is_used_and_left_as_it_is(start, compiled):
    """Every door of these tests runs with JAX_COMPILATION_CACHE_DIR set."""
    first = start("default")
    assert first["folder"] == compiled
    before = set(entries(first))
    second = start("default", max_bytes=0)
    assert second["hits"] == second["programs"] > 0
    assert before <= set(entries(second))


def test_the_switch_is_0_or_1(monkeypatch):
    monkeypatch.setenv(environment.COMPILATION_CACHE, "off")
    with pytest.raises(UsageError, match=r"RCNN_JAX_COMPILATION_CACHE='off' must be 0"):
        compilation_cache.enable()
