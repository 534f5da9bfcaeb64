"""A fork adds a model, a data set and a task outside the package, and edits nothing in it."""

import json
import pathlib
import re

import pytest

pytestmark = pytest.mark.one_row

FORK = '''
"""A research fork: one file."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.tasks.classification import Classification


class Mine(nn.Module):
    classes: int
    width: int = 8

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = RCL(self.width, steps=2, norm="batch")(x, train=train)
        return nn.Dense(self.classes)(x.mean(axis=(1, 2)))


def read(root, split):
    """Stripes: the label is their direction."""
    rng = np.random.default_rng({"train": 0, "validation": 1, "test": 2}[split])
    label = rng.integers(0, 2, 96).astype(np.int64)
    stripes = np.indices((96, 6, 6))[1:] % 2 * 200
    image = np.where(label[:, None, None] == 0, stripes[0], stripes[1])
    image = image + rng.integers(0, 50, image.shape)
    return {"image": image[..., None].astype(np.uint8), "label": label}


STRIPES = DatasetSpec(
    name="stripes",
    version="1.0.0",
    features={"image": Feature((6, 6, 1), "uint8"), "label": Feature((), "int64", 2)},
    splits={"train": 96, "validation": 96, "test": 96},
    files=lambda root, split: [],
    read=read,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithConfidence(Classification):
    def metrics(self, params, model_state, batch):
        sums = super().metrics(params, model_state, batch)
        p = self.predict(params, model_state, batch)["probabilities"].max(-1)
        return sums | {"confidence": ((p * batch["mask"]).sum(), batch["mask"].sum())}


@dataclasses.dataclass(frozen=True)
class InOrder:
    """An order of its own: no shuffling."""

    size: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self):
        return self.size / self.batch_size

    def indices(self, step):
        return (step * self.batch_size + np.arange(self.batch_size)) % self.size

    def epoch(self, step):
        return step * self.batch_size / self.size


@dataclasses.dataclass(frozen=True)
class Invert:
    random = False

    def __call__(self, batch, keys):
        return {**batch, "image": 255.0 - batch["image"].astype(jnp.float32)}
'''

CONFIG = '''
"""The fork's experiment."""


def get_config():
    return {
        "model": {"name": "my_fork.parts:Mine", "classes": 2},
        "task": {"name": "my_fork.parts:WithConfidence"},
        "data": {
            "name": "my_fork.parts:STRIPES",
            "preprocess": "my_fork.parts:Invert()|to_float(255)",
            "residency": "memory",
        },
        "sampler": {"name": "my_fork.parts:InOrder"},
        "batch_size": 32,
        "steps": 40,
        "evaluate_every": 20,
        "best_metric": "confidence",
        "best_mode": "max",
        "extra": {"why": "to show that it needs no edit of rcnn_jax"},
    }


VARIANTS = {"wide": {"model.width": 16}}
'''


def test_a_fork_trains_and_evaluates_what_it_added(door, tmp_path):
    package = tmp_path / "my_fork"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(FORK)
    (tmp_path / "mine.py").write_text(CONFIG)

    result = door("train", "--config=mine.py:wide", "--workdir=run", fresh=True)
    assert result.returncode == 0, result.stderr
    assert "RCL_0/recurrent_kernel" in result.stdout
    result = door("evaluate", "--workdir=run", fresh=True)
    assert result.returncode == 0, result.stderr

    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["n"] == 96
    assert found["metrics"]["error"] <= 0.05
    assert found["metrics"]["confidence"] > 0.5
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["width"] == 16
    assert config["extra"]["why"]

    # Another experiment starts from its weights, and freezes a part of them.
    before = door(
        "train", "--config=mine.py:wide", "--workdir=next", "--config.init_from=run",
        "--config.optimizer.groups=(('RCL_0/.*', 0.0),)", "--config.steps=3",
    )  # fmt: skip
    assert before.returncode == 0, before.stderr

    from rcnn_jax.training.checkpoints import reading

    old = reading.read_variables(tmp_path / "run" / "checkpoints", [])
    new = reading.read_variables(tmp_path / "next" / "checkpoints", [])
    assert (old["params/RCL_0/kernel"] == new["params/RCL_0/kernel"]).all()
    assert (old["params/Dense_0/kernel"] != new["params/Dense_0/kernel"]).any()


def test_the_example_of_the_readme_runs_as_it_stands(door, tmp_path):
    readme = pathlib.Path(__file__).parent.parent / "README.md"
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", readme.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["my_fork/models.py", "mine.py"]
    for name, text in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    arguments = ["--config=mine.py", "--workdir=run", "--config.precision=bfloat16"]
    result = door("train", *arguments, "--config.epochs=0", "--config.steps=2")
    assert result.returncode == 0, result.stderr
