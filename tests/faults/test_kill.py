"""A run that is killed without warning and started again ends with the same bits."""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from jobs import AS_USERS, QUICK
from rcnn_jax.training.checkpoints import reading

HERE = pathlib.Path(__file__).parent
STEPS = 20
# A net with batch normalisation of which little is to be traced: the moments are of the loop.
SMALL = [f"--config={HERE.parent}/multiprocess/small.py:normed", "--config.precision=float32"]
RCNN = [
    "--config=rcnn_digits",
    "--config.model.features=8",
    "--config.model.steps=1",
    "--config.model.norm=batch",
    "--config.model.dropout=0.3",
    "--config.epochs=0",
]
COMMON = [
    "--config.data.augment=random_affine(10.0, 0.1, 1.0)",
    "--config.batch_size=32",
    f"--config.steps={STEPS}",
    "--config.evaluate_every=6",
    "--config.checkpoint_every=4",
    "--config.log_every=5",
    "--config.ema_decay=0.9",
    "--config.schedule.name=plateau",
    "--config.schedule.patience=1",
    "--config.optimizer.clip_norm=1.0",
]
FLAGS = [*SMALL, *COMMON]

pytestmark = pytest.mark.faults


def final_state(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every leaf of the last checkpoint, as its checksum."""
    return reading._manifest(workdir / "checkpoints", STEPS)["leaves"]


def metric_lines(workdir: pathlib.Path) -> list[dict]:
    """Evaluations in full; of training lines their place, for they average since the resume."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        line if "split" in line else {k: line[k] for k in ("step", "epoch", "learning_rate")}
        for line in lines
    ]


def unbroken_run(tmp_path_factory, compiled, flags, programs=QUICK):
    """What the run leaves when nobody kills it."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    subprocess.run(
        [sys.executable, HERE / "killed_train.py", "never", *flags, f"--workdir={workdir}"],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **programs, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": compiled},
    )
    return final_state(workdir), metric_lines(workdir)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, compiled):
    return unbroken_run(tmp_path_factory, compiled, FLAGS)


# Moments of the kill, and the steps that the next start may go on from: a save that was under way
# has been finished or not.
@pytest.mark.one_row
@pytest.mark.parametrize(
    "moments",
    [
        {"step:2": {0}},  # before the first checkpoint
        {"step:13": {8, 12}},  # while the checkpoint of step 12 may still be in writing
        {"saving:8": {6}},  # inside a save: its temporary folder is left behind
        {"saved:12": {12}},  # just when a save has got its name
        {"evaluating:6": {0, 4, 6}},
        # inside an evaluation of what is saved: it is repeated, also behind the last step
        {"late:6": {6}, "late:20": {20}},
        {"line:10": {6, 8}},  # half a line of metrics on disk
        {"step:7": {4, 6}, "saving:16": {12}},  # twice in one run
    ],
    ids="+".join,
)
def test_killed_and_resumed_is_bit_identical(door, tmp_path, unbroken, moments):
    goes_on_as_unbroken(door, tmp_path, FLAGS, unbroken, moments)


def test_a_recurrent_net_with_dropout_is_bit_identical(door, tmp_path, tmp_path_factory, compiled):
    """By the programs that users get, just behind a checkpoint, with steps to repeat."""
    flags = [*RCNN, *COMMON]
    unbroken = unbroken_run(tmp_path_factory, compiled, flags, AS_USERS)
    door = functools.partial(door, **AS_USERS)
    goes_on_as_unbroken(door, tmp_path, flags, unbroken, {"step:5": {0, 4}})


def goes_on_as_unbroken(door, tmp_path, flags, unbroken, moments):
    """Kills a run at each moment, and then lets it end."""
    state, lines = unbroken
    workdir = tmp_path / "run"
    possible = {0}
    for moment in [*moments, "never"]:
        result = door(HERE / "killed_train.py", moment, *flags, f"--workdir={workdir}")
        expected = 0 if moment == "never" else -signal.SIGKILL
        assert result.returncode == expected, result.stderr
        resumed = re.search(r"resuming from the checkpoint of step (\d+)", result.stdout)
        assert int(resumed[1] if resumed else 0) in possible
        assert "warning:" not in result.stderr
        possible = moments.get(moment)
        if moment.startswith("saving"):
            assert list((workdir / "checkpoints").glob("*tmp*")), "no temporary folder was left"
    assert final_state(workdir) == state
    assert metric_lines(workdir) == lines
    assert not list((workdir / "checkpoints").glob("*tmp*"))


@pytest.mark.one_row
def test_interrupted_run_says_how_to_go_on_and_does(tmp_path, compiled):
    """SIGTERM saves, tells how to go on and exits with 128 + 15; so does SIGINT with 128 + 2."""
    env = {**os.environ, **QUICK, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": compiled}
    workdir = tmp_path / "run"
    slow = [*FLAGS, "--config.steps=4000", f"--workdir={workdir}"]
    saved = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, "-m", "rcnn_jax.train", *slow],
            env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for line in process.stdout:
            if line.startswith("first step"):
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 128 + number, err
        assert f"{number.name}: saved step" in out
        assert "the same command goes on" in out
        newest = reading.steps(workdir / "checkpoints")[-1]
        assert newest > saved
        saved = newest


def test_saved_by_pmap_goes_on_by_jit_on_other_devices(door, tmp_path):
    """A run on four devices by pmap is killed, and goes on by jit on two."""
    flags = [*FLAGS, "--workdir=run"]
    four = "--xla_force_host_platform_device_count=4"
    killed = door(
        HERE / "killed_train.py", "saved:8", *flags, "--config.parallelism=pmap",
        XLA_FLAGS=four,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    result = door("train", *flags, XLA_FLAGS=four.replace("4", "2"))
    assert result.returncode == 0, result.stderr
    assert "going on with parallelism: 'pmap' -> 'jit'" in result.stdout
    assert "resuming from the checkpoint of step 8" in result.stdout
    assert "note: devices was 4 and is 2" in result.stdout
    assert reading.steps(tmp_path / "run" / "checkpoints")[-1] == STEPS
    shutil.copy(HERE.parent / "multiprocess" / "normed.py", tmp_path)
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr


@pytest.mark.one_row
def test_killed_while_assets_are_written(door, tmp_path):
    """The folder of assets is there, its manifest is not: the next start fits them anew."""
    (tmp_path / "run" / "assets").mkdir(parents=True)
    (tmp_path / "run" / "assets" / "pixel_mean-0123456789ab.npy").write_bytes(b"half")
    result = door("train", *FLAGS, "--workdir=run")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "assets" / "manifest.json").is_file()


@pytest.mark.one_row
def test_a_workdir_that_vanishes_ends_the_run_with_one_sentence(door, tmp_path):
    """Where it went, the last good checkpoint is whole, and the run goes on from there."""
    result = door(HERE / "killed_train.py", "vanish:8", *FLAGS, "--workdir=run")
    assert result.returncode == 1
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert re.search(
        r"run/checkpoints.* cannot be written: the checkpoint of step (8|12)", result.stderr
    )
    shutil.rmtree(tmp_path / "run", ignore_errors=True)  # what was made anew in its place
    result = door("train", *FLAGS, "--workdir=elsewhere")
    assert result.returncode == 0, result.stderr
    assert "resuming from the checkpoint of step 8" in result.stdout
