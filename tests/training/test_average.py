"""The average of the weights: its recursion, and that evaluation uses it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training import schedules, state, step
from rcnn_jax.training.parallel.mesh import make_devices


class Line(BaseTask):
    """A weight that falls by the learning rate at every step; its statistics count the steps."""

    def init(self, key, batch):
        del key, batch
        return {"kernel": jnp.zeros(())}, {"batch_stats": {"count": jnp.zeros(())}}

    def loss(self, params, model_state, carry, batch, key):
        del key
        count = jnp.float32(batch["x"].shape[0])
        moved = jax.tree.map(lambda x: x + 1, model_state)
        return LossOutput(
            total=params["kernel"] * count, count=count, model_state=moved, carry=carry
        )


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_average_against_its_recursion(decay):
    task = Line(model=None, train_transform=None, evaluation_transform=None)
    plateau = schedules.Plateau(complete({}, "test").schedule, "min")
    batch = {"x": np.zeros((2, 1), np.float32)}
    devices = make_devices({"data": 1, "fsdp": 1}, "jit", jax.devices()[:1])
    current = state.create(task, optax.identity(), plateau, batch, seed=0, ema=True)
    train_step = step.compile_train_step(
        functools.partial(
            step.make_train_step, task, optax.identity(), lambda t: 1.0, plateau, ema_decay=decay
        ),
        devices,
    )
    average = 0.0
    for t in range(12):
        current, _ = train_step(current, devices.place(batch))
        kept = min(decay, (1 + t) / (10 + t))
        average = kept * average + (1 - kept) * (t + 1)
    params, statistics = current.evaluated()
    np.testing.assert_allclose(current.params["kernel"], -12)
    np.testing.assert_allclose(params["kernel"], -average, rtol=1e-5)
    np.testing.assert_allclose(statistics["batch_stats"]["count"], average, rtol=1e-5)


def test_without_an_average_the_weights_themselves_are_evaluated():
    task = Line(model=None, train_transform=None, evaluation_transform=None)
    plateau = schedules.Plateau(complete({}, "test").schedule, "min")
    current = state.create(task, optax.identity(), plateau, {"x": np.zeros(1)}, seed=0, ema=False)
    assert current.evaluated() == (current.params, current.model_state)
