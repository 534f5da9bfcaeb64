"""What a person sees: a bar on a terminal, lines elsewhere, JSON that can be read."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import UserError
from rcnn_jax.training import meter, parameters, writers
from rcnn_jax.training.parallel import mesh
from rcnn_jax.training.workdir import Workdir

ENTRY = {"step": 2, "epoch": 0.5, "images_per_s": 1234.5, "loss": 0.25, "error": 0.125}


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path)


def test_json_lines_are_json_even_for_nan(tmp_path):
    log = writers.JsonLines(tmp_path / "metrics.jsonl")
    log.write({"step": 1, "loss": float("nan"), "rate": float("inf"), "note": "x"})
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": None, "rate": None, "note": "x"}


def test_lines_elsewhere(workdir, capsys):
    with writers.Log((), workdir, 10, 0, "images") as log:
        log.write(ENTRY)
        log.write({"step": 2, "split": "validation", "error": 0.5})
    out = capsys.readouterr().out.splitlines()
    expected = "step 2/10 epoch 0.5 images_per_s 1234.5 loss 0.25 error 12.50 %"
    assert " ".join(out[0].split()) == expected
    assert "validation:" in out[1]
    assert "50.00 %" in out[1]


@pytest.mark.parametrize("columns", [0, 120])
def test_a_bar_with_speed_and_time_left_on_a_terminal(tmp_path, columns):
    """Run on a pseudo terminal, as a user's shell would."""
    script = f"""
import pathlib
from rcnn_jax.training import writers
from rcnn_jax.training.workdir import Workdir
with writers.Log((), Workdir(pathlib.Path({str(tmp_path)!r})), 4, 0, "images") as log:
    for step in range(1, 4):
        log.advance()
        log.write({{**{ENTRY!r}, "step": step, "images_per_s": None if step == 1 else 1234.0}})
    log.write({{"step": 3, "split": "validation", "error": 0.5}})
"""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    subprocess.run([sys.executable, "-c", script], stderr=terminal, stdout=terminal, check=True)
    os.close(terminal)
    shown = os.read(reader, 100_000).decode()
    os.close(reader)
    assert "3/4" in shown  # steps taken of all
    assert "<" in shown  # the time left
    assert "1234 images/s" in shown
    assert "validation:" in shown
    assert shown.count("epoch") == 0  # training lines are in the bar, not below each other


def test_tensorboard_gets_every_number(workdir):
    pytest.importorskip("tensorboardX")
    with writers.Log(("tensorboard",), workdir, 10, 0, "images") as log:
        log.write(ENTRY)
    (events,) = (workdir.path / "tensorboard").iterdir()
    data = events.read_bytes()
    assert b"train/loss" in data
    assert b"train/images_per_s" in data


def test_a_writer_that_is_not_installed_says_what_to_install(workdir, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'rcnn-jax\[wandb\]'"):
        writers.Log(("wandb",), workdir, 10, 0, "images")


class Kept:
    """A writer of a fork that fails at its second line."""

    made: ClassVar[list] = []

    def __init__(self, folder):
        self.folder, self.entries = folder, []
        Kept.made.append(self)

    def write(self, entry):
        if self.entries:
            raise ConnectionError("the service is\naway")
        self.entries.append(dict(entry))
        entry.clear()  # what a writer does to its line is its affair

    def close(self):
        self.entries.append("closed")


class Fragile(Kept):
    def close(self):
        raise RuntimeError("no")


class NoClose:
    def __init__(self, folder):
        raise OSError(f"no room in {folder}")

    def write(self, entry):
        pass


class NoRoom(NoClose):
    def close(self):
        pass


def late(folder):
    return NoClose.__new__(NoClose)


def test_a_writer_of_a_fork_that_fails_is_warned_of_once(workdir, capsys, monkeypatch):
    monkeypatch.setattr(Kept, "made", [])
    names = (f"{__name__}:Kept", f"{__name__}:Fragile")
    with writers.Log(names, workdir, 10, 0, "images") as log:
        log.write(ENTRY)
        assert [w.folder for w in Kept.made] == [workdir.path] * 2
        Kept.made[1].write = lambda entry: None
        log.write(ENTRY | {"step": 2})
        log.write(ENTRY | {"step": 3})
    assert Kept.made[0].entries == [ENTRY]
    steps = [json.loads(line)["step"] for line in workdir.metrics.read_text().splitlines()]
    assert steps == [ENTRY["step"], 2, 3]
    said = capsys.readouterr().err
    assert said.count(f"warning: config.writers: {__name__}:Kept is left out") == 1
    assert "its write raises ConnectionError: the service is away (" in said
    assert "test_writers.py:" in said
    assert said.count(f"{__name__}:Fragile is left out from here on, its close raises") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("NoClose", "NoClose has no method close: a writer has"),
        ("late", "late has no method close"),
        ("NoRoom", r"NoRoom cannot be made for .*: OSError: no room in .* \(.*test_writers.py:\d+"),
        ("ENTRY", "is a dict, not a class that is called with"),
        ("Keep", "has no Keep; did you mean 'Kept'"),
    ],
)
def test_what_cannot_be_a_writer(workdir, name, says):
    with pytest.raises(UserError, match=says):
        writers.Log((f"{__name__}:{name}",), workdir, 10, 0, "images")


def test_parameter_table():
    text = parameters.parameter_table({"a": {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}})
    assert "a/kernel" in text
    assert "3x4" in text
    assert text.endswith("total 16 parameters, 0.00 MB")


def test_meter_counts_speed_without_compilation_and_evaluation():
    clock = meter.Meter("images", 8)
    one = np.float32(1)
    sums = {"loss": (np.float32(6), np.float32(3)), "learning_rate": (one, one)}
    clock.add(sums)
    assert clock.read(waited_s=0.0)["loss"] == 2.0
    clock.add(sums)
    clock.begin(waited_s=5.0)
    entry = clock.read(waited_s=5.0)
    assert entry["images_per_s"] is None  # the only step was spent on compilation
    assert entry["data_wait_share"] == 0.0
    clock.add({**sums, "loss": (np.float32(0), np.float32(1))})
    clock.add(sums)
    with clock.paused():
        pass
    entry = clock.read(waited_s=5.0)
    assert entry["images_per_s"] > 0
    assert entry["loss"] == 1.5  # sums are added up before they are divided


def test_meter_divides_by_the_time_that_was_not_paused(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    clock, one = meter.Meter("images", 8), np.float32(1)
    sums = {"loss": (one, one), "learning_rate": (one, one)}
    for _ in range(2):
        now[0] += 3.0
        clock.add(sums)
    with clock.paused():
        now[0] += 50.0
    now[0] += 2.0
    entry = clock.read(waited_s=2.0)
    assert entry["images_per_s"] == 2 * 8 / 8.0
    assert entry["step_s"] == 8.0 / 2
    assert entry["memory_mib"] > 1
    assert entry["data_wait_share"] == 2.0 / 8.0


def test_meter_lets_eight_steps_be_under_way():
    clock, finished = meter.Meter("images", 8), []

    class Computing:
        def __init__(self, step):
            self.step = step

        def block_until_ready(self):
            finished.append(self.step)

    for step in range(12):
        clock.add({"loss": Computing(step)})
    assert finished == [0, 1, 2, 3]
    with clock.paused():
        assert finished == [0, 1, 2, 3, 11]  # an evaluation begins when the steps have ended


@pytest.mark.parametrize(
    ("axes", "parallelism", "says"),
    [
        ({"data": -1}, "jit", "must name the axes 'data' and 'fsdp'"),
        ({"data": -1, "fsdp": -1}, "jit", "at most one of them is -1"),
        ({"data": 0, "fsdp": 1}, "jit", "1 or more"),
        ({"data": 8, "fsdp": 1}, "jit", "does not fit the 4 devices"),
        ({"data": -1, "fsdp": 3}, "jit", "does not fit the 4 devices"),
        ({"data": 2, "fsdp": 2}, "pmap", "fsdp=2 must be 1"),
    ],
)
def test_a_mesh_that_cannot_be(axes, parallelism, says):
    with pytest.raises(UserError, match=says):
        mesh.make_devices(axes, parallelism)


def test_a_batch_that_cannot_be_shared():
    devices = mesh.make_devices({"data": -1, "fsdp": 1}, "jit")
    devices.check_batch_size(8)
    assert devices.divisible(9) == 12
    with pytest.raises(UserError, match=r"batch_size=10 .* 4 devices .* use 8 or 12"):
        devices.check_batch_size(10)
    with pytest.raises(UserError, match="use 4, or"):
        devices.check_batch_size(3)
