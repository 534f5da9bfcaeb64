"""A sweep: every variant with every seed, once, whatever stops it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from jobs import QUICK
from rcnn_jax.configuration import loading

pytestmark = pytest.mark.one_row

CONFIG = """
def get_config():
    return {
        "model": {"name": "rcnn_jax.models.fully_connected:FullyConnected", "classes": 10},
        "data": {"name": "digits", "residency": "memory", "preprocess": "to_float(16)"},
        "steps": 3, "batch_size": 16, "optimizer": {"momentum": 0.0},
    }

VARIANTS = {
    "slow": {"schedule.value": 1e-3},
    "smooth": {"task.label_smoothing": 0.1},
    "long": {"steps": 200_000, "checkpoint_every": 50},
    "broken": {"divergence.max_loss": 1.0},
}
"""
SWEEP = ["--config=nets.py", "--workdir=runs"]


@pytest.fixture(autouse=True)
def config(tmp_path):
    (tmp_path / "nets.py").write_text(CONFIG)


def finished(folder, config="nets.py", step=3, **metrics):
    """What a run that was trained and evaluated leaves behind."""
    folder.mkdir(parents=True)
    loaded = loading.load(config, [("seed", folder.name)])
    (folder / "config.json").write_text(loading.to_json(loaded))
    result = {"step": step, "split": "test", "n": 360, "metrics": metrics, "details": {}}
    (folder / "evaluation.json").write_text(json.dumps(result))
    (folder / "spent.json").write_text('{"seconds": 2.0, "starts": 1}')


def test_a_variant_is_run_once_with_every_seed(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs/slow+smooth/0", "nets.py:slow,smooth", error=0.5, loss=1.0)
    arguments = [*SWEEP, "--variants=slow+smooth", "--seeds=0,1", "--config.log_every=1"]
    result = door("sweep", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads((tmp_path / "runs/sweep.json").read_text())["runs"]
    assert [(r["variant"], r["seed"]) for r in rows] == [("slow+smooth", 0), ("slow+smooth", 1)]
    assert all(r["test"]["n"] == 360 and r["seconds"] > 0 and r["starts"] == 1 for r in rows)
    own = json.loads((tmp_path / "runs/slow+smooth/1/config.json").read_text())
    assert (own["seed"], own["schedule"]["value"], own["log_every"]) == (1, 1e-3, 1)
    assert own["task"]["label_smoothing"] == 0.1

    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/evaluation.json")}
    assert len(before) == 2
    result = door("sweep", *arguments, "--metrics=loss")
    assert result.returncode == 0, result.stderr
    assert "test loss" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_the_table_has_mean_and_deviation_of_each_variant(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {"base": (0.10, 0.12, 0.17), "slow": (0.5, 0.5, 0.8)}
    for variant, errors in found.items():
        config = "nets.py" if variant == "base" else f"nets.py:{variant}"
        for seed, error in enumerate(errors):
            finished(tmp_path / f"runs/{variant}/{seed}", config, error=error, f1=None)
    result = door("sweep", *SWEEP, "--variants=slow,base", "--metrics=error,f1")
    assert result.returncode == 0, result.stderr
    header, _, slow, base = result.stdout.splitlines()[:4]
    assert header.split("  ")[0] == "variant"
    assert slow.split() == ["slow", "3", "60.00", "%", "±", "17.32", "%", "2"]
    assert base.split() == ["base", "3", "13.00", "%", "±", "3.61", "%", "2"]
    rows = json.loads((tmp_path / "runs/sweep.json").read_text())["runs"]
    order = [("slow", 0), ("base", 0), ("slow", 1), ("base", 1), ("slow", 2), ("base", 2)]
    assert [(r["variant"], r["seed"]) for r in rows] == order
    result = door("sweep", *SWEEP, "--variants=slow,base", "--metrics=eror")
    assert result.returncode == 1
    assert "'eror' was not measured, only error, f1" in result.stderr


def test_a_run_that_fails_does_not_end_the_others(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs/base/0", error=0.25)
    result = door("sweep", *SWEEP, "--variants=broken,base", "--seeds=0")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "1 of 2 runs failed: broken, seed 0" in line
    assert "failed with exit code 1: error: " in result.stdout
    assert any(
        line.split()[:4] == ["base", "1", "25.00", "%"] for line in result.stdout.splitlines()
    )


def test_a_sweep_that_is_stopped_stops_its_run_which_saves_itself(tmp_path, compiled):
    command = [sys.executable, "-m", "rcnn_jax.sweep", *SWEEP, "--variants=long", "--seeds=0"]
    environment = {**os.environ, **QUICK, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": compiled}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as sweep:
        checkpoints = tmp_path / "runs/long/0/checkpoints"
        deadline = time.monotonic() + 120
        while not (checkpoints.is_dir() and any(p.name.isdigit() for p in checkpoints.iterdir())):
            assert sweep.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        sweep.send_signal(signal.SIGTERM)
        said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 143
    assert "goes on where it was by the same command" in said
    assert "the same command goes on from there" in (tmp_path / "runs/long/0/log.txt").read_text()
    spent = json.loads((tmp_path / "runs/long/0/spent.json").read_text())
    assert spent["starts"] == 1
    assert not (tmp_path / "runs/long/0/evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--variants=slw"], ["no variant 'slw'", "did you mean 'slow'?"]),
        (["--variants=slow+smoth"], ["no variant 'smoth'"]),
        (["--variants=base,base"], ["'base' twice"]),
        (["--seeds=0,one"], ["'one' is no whole number"]),
        (["--seeds=1,1"], ["'1' twice"]),
        (["--config.batch_sise=3"], ["did you mean 'batch_size'?"]),
        (["--seeds="], ["--seeds= is empty"]),
    ],
)
def test_a_mistake_is_one_sentence(door, tmp_path, arguments, parts):
    result = door("sweep", *SWEEP, *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    for part in parts:
        assert part in line
    assert not (tmp_path / "runs").exists()


def test_results_of_another_experiment_are_not_taken_for_these(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished(tmp_path / "runs/base/0", error=0.25)
    result = door("sweep", *SWEEP, "--seeds=0", "--config.batch_size=8")
    assert result.returncode == 1
    assert "holds another experiment: batch_size: 16 -> 8" in result.stderr
    (tmp_path / "runs/base/0/evaluation.json").write_text("{")
    result = door("sweep", *SWEEP, "--seeds=0")
    assert result.returncode == 1
    assert "evaluation.json is damaged" in result.stderr
