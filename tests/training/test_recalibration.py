"""Recalibrated statistics are the mean over batches, in training mode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.transforms import chain
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.training.parallel.mesh import make_devices
from rcnn_jax.training.recalibration import recalibrate


class Centred(nn.Module):
    """Keeps the mean of the last batch, after dropout; logits are pixels."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(x.shape[0], -1))
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1])
        if train:
            mean.value = x.mean(0)
        return x * self.param("scale", nn.initializers.ones, ())


def task_and_batches(count):
    rng = np.random.default_rng(0)
    batches = [
        {
            "image": rng.uniform(1, 2, size=(8, 2, 2, 1)).astype(np.float32),
            "label": rng.integers(0, 4, 8),
            "mask": np.ones(8, np.float32),
        }
        for _ in range(count)
    ]
    identity = chain.build("")
    model = Centred()
    task = Classification(model=model, train_transform=identity, evaluation_transform=identity)
    return task, batches


def test_mean_over_the_batches_with_keys_of_their_own():
    task, batches = task_and_batches(3)
    params = {"scale": jnp.ones(())}
    state = {"batch_stats": {"mean": jnp.zeros(4)}}
    devices = make_devices({"data": -1, "fsdp": 1}, "jit")
    key = jax.random.key(5)
    got = recalibrate(task, (params, state), batches, devices, key)
    each = [
        task.loss(params, state, (), batch, jax.random.fold_in(key, i)).model_state
        for i, batch in enumerate(batches)
    ]
    expected = np.mean([tree["batch_stats"]["mean"] for tree in each], axis=0)
    np.testing.assert_allclose(got["batch_stats"]["mean"], expected, rtol=1e-6)
    # Dropout was on: no batch has the mean of its pixels.
    pixels = np.mean([b["image"].reshape(8, 4).mean(0) for b in batches], axis=0)
    assert np.all(np.abs(expected - pixels) > 1e-3)


def test_no_batch():
    task, _ = task_and_batches(0)
    devices = make_devices({"data": -1, "fsdp": 1}, "jit")
    with pytest.raises(ValueError, match="at least 1 batch"):
        recalibrate(task, ({}, {}), [], devices, jax.random.key(0))
