"""A fork trains with an optimiser, a schedule and a writer that are not in the package."""

import json
import shutil

import numpy as np
import pytest

from rcnn_jax import evaluate, train
from rcnn_jax.configuration import importing, loading
from rcnn_jax.training.checkpoints import reading
from test_fork import CONFIG, FORK

pytestmark = pytest.mark.one_row

TRAINING = '''
"""What moves the weights, and where the log goes."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Memory(NamedTuple):
    mean: optax.Params


def signs(learning_rate, beta: float = 0.9):
    """Steps of one length against the sign of a running mean."""

    def update(gradient, state, params=None):
        mean = jax.tree.map(lambda m, g: beta * m + (1 - beta) * g, state.mean, gradient)
        return jax.tree.map(lambda m: -learning_rate * jnp.sign(m), mean), Memory(mean)

    return optax.GradientTransformation(
        lambda params: Memory(jax.tree.map(jnp.zeros_like, params)), update
    )


class Rates:
    def __init__(self, workdir):
        self.file = workdir / "rates.txt"

    def write(self, entry):
        if "learning_rate" in entry:
            with self.file.open("a") as file:
                file.write(json.dumps([entry["step"], entry["learning_rate"]]) + "\\n")
        else:
            raise ConnectionError("away")

    def close(self):
        pass
'''


def leaves(workdir):
    return reading.read_variables(workdir / "checkpoints", [])


def test_a_fork_trains_by_what_its_config_names_alone(door, tmp_path):
    package = tmp_path / "my_fork"
    package.mkdir()
    (package / "parts.py").write_text(FORK)
    (package / "training.py").write_text(TRAINING)
    (tmp_path / "mine.py").write_text(CONFIG)
    command = [
        "train", "--config=mine.py", "--config.log_every=5", "--config.evaluate_every=10",
        "--config.steps=20", "--config.optimizer.name=my_fork.training:signs",
        "--config.optimizer.options.beta=0.5", "--config.writers=my_fork.training:Rates",
        "--config.schedule.name=optax:cosine_onecycle_schedule", "--config.schedule.value=0.03",
        "--config.schedule.options.pct_start=0.5",
    ]  # fmt: skip
    result = door(*command, "--workdir=whole")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("my_fork.training:Rates is left out from here on") == 1
    assert "ConnectionError: away (my_fork/training.py:" in result.stderr
    rates = [json.loads(x) for x in (tmp_path / "whole" / "rates.txt").read_text().splitlines()]
    assert [step for step, _ in rates] == [5, 10]
    log = [json.loads(x) for x in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in log if "split" not in row}
    assert losses[20] < 0.5 * losses[5]

    # Stopped half-way, it ends with the same bits.
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    newest = max((tmp_path / "broken" / "checkpoints").iterdir(), key=lambda p: p.name)
    shutil.rmtree(newest)
    before = leaves(tmp_path / "broken")
    result = door(*command, "--workdir=broken")
    assert "resuming from the checkpoint of step 10" in result.stdout, result.stderr
    whole, again = leaves(tmp_path / "whole"), leaves(tmp_path / "broken")
    assert any((before[name] != again[name]).any() for name in again)
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)

    # A process of its own knows of the fork by config.json alone.
    result = door("evaluate", "--workdir=broken", fresh=True)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "broken" / "evaluation.json").read_text())
    assert found["metrics"]["error"] <= 0.1
    (package / "training.py").write_text("1 / 0\n")
    result = door("evaluate", "--workdir=broken")
    assert result.returncode == 0, "what only trains is not asked for"
    result = door(*command, "--workdir=another")
    assert result.returncode == 2
    assert "ZeroDivisionError: division by zero (my_fork/training.py:1)" in result.stderr


def test_a_workdir_outlives_the_addresses_in_its_config(tmp_path, monkeypatch, capsys):
    given = {
        "model": {
            "name": "rcnn_jax.models.fully_connected:FullyConnected",
            "classes": 10,
            "hidden": (2,),
        },
        "data": {"name": "digits", "preprocess": "to_float(16)", "residency": "memory"},
        "steps": 1,
    }
    config = loading.complete(given, "test")
    assert train.train(config, tmp_path) == 0
    file = tmp_path / "config.json"
    old = file.read_text().replace("rcnn_jax.models.fully_connected:", "rcnn_jax.nets:Old")
    old = old.replace("rcnn_jax.tasks.", "rcnn_jax.questions.")
    assert old.count("rcnn_jax.nets:OldFully") == old.count("rcnn_jax.questions.") == 1
    file.write_text(old)
    moved = {"rcnn_jax.nets:OldFullyConnected": config.model.name}
    moved["rcnn_jax.questions.classification"] = "rcnn_jax.tasks.classification"
    monkeypatch.setattr(importing, "MOVED", moved)
    stored = loading.for_evaluation(file, [])
    assert stored.to_dict() == config.to_dict()
    assert evaluate.evaluate(stored, tmp_path, split="validation")["n"] > 0
    assert train.train(config, tmp_path) == 0  # the same experiment: nothing is left to do
    assert "all 1 steps have been taken" in capsys.readouterr().out
