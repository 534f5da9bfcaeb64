"""A NaN is traced back to the example, the layer or the labels that it comes from."""

import pytest

FORK = """
import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data.spec import DatasetSpec, Feature


def read(root, split):
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(64, 4, 4, 1)).astype(np.float32),
        "label": (np.arange(64) % 2).astype(np.int64),
    }


def read_spoiled(root, split):
    columns = read(root, split)
    if split == "train":
        columns["image"][[5, 40]] = np.nan
    return columns


def read_strange(root, split):
    columns = read(root, split)
    if split == "train":
        columns["label"][7] = -1
    return columns


CLEAN = DatasetSpec(
    name="clean",
    version="1.0.0",
    features={"image": Feature((4, 4, 1), "float32"), "label": Feature((), "int64")},
    splits={"train": 64, "validation": 64},
    files=lambda root, split: [],
    read=read,
)
SPOILED = dataclasses.replace(CLEAN, name="spoiled", read=read_spoiled)
STRANGE = dataclasses.replace(CLEAN, name="strange", read=read_strange)


class Net(nn.Module):
    classes: int = 2
    fault: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(4, name="first")(x.reshape(len(x), -1))
        steps = self.variable("counts", "steps", jnp.zeros, (), "float32")
        if train and not self.is_initializing():
            steps.value = steps.value + 1
        x = nn.relu(x) + jnp.where(steps.value > 2, self.fault, 0.0)
        return nn.Dense(self.classes, name="last")(x)


def get_config():
    return {
        "model": {"name": "fork:Net"},
        "data": {"name": "fork:CLEAN", "residency": "memory"},
        "batch_size": 32, "steps": 8, "log_every": 4, "evaluation_batch_size": 64,
        "evaluate_every": 8,
    }
"""

pytestmark = pytest.mark.faults


@pytest.fixture
def train(door, tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    return lambda *flags: door("train", "--config=fork.py", "--workdir=run", *flags)


def test_an_example_is_named_and_no_learning_rate_blamed(train, tmp_path):
    result = train("--config.data.name=fork:SPOILED")
    assert result.returncode == 1
    assert "training has diverged: the loss is nan at step 4; step 1 is the first" in result.stderr
    assert "feature 'image' of example" in result.stderr
    assert "of the training split hold" in result.stderr
    assert "config.schedule.value" not in result.stderr
    assert "Warning" not in result.stderr, "int64 labels are as good as int32 ones"


def test_a_layer_is_named_from_the_newest_checkpoint_on(train):
    result = train("--config.model.fault=1e39", "--config.checkpoint_every=1")
    assert result.returncode == 1
    assert "looking for the first NaN from step 3 on" in result.stdout
    assert "step 3 is the first that is not finite: the output of last (Dense)" in result.stderr
    assert "config.schedule.value" in result.stderr


def test_a_label_that_is_no_class_ends_the_run(train):
    result = train("--config.data.name=fork:STRANGE", "--config.data.residency=device")
    assert result.returncode == 1
    assert "every layer is finite and the loss" in result.stderr
    assert "the last layer gives float32[32, 2]" in result.stderr
    assert "'label' -1 to 1" in result.stderr
