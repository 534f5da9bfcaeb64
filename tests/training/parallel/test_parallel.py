"""One trajectory however a batch is spread: 1 device, 4 by jit, 4 by pmap.

Dropout, augmentation, batch normalisation, averages, momentum and clipping are on. In double
precision the trajectories agree to rounding; in single precision they drift through arg-max
flips of the pools, and stay within the tolerance stated here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.data import sources
from rcnn_jax.data.spec import Feature
from rcnn_jax.experiment import task as experiment
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training import schedules, state, step
from rcnn_jax.training.parallel.mesh import make_devices

LAYOUTS = {
    "1 by jit": (1, "jit", {"data": -1, "fsdp": 1}),
    "4 by jit": (4, "jit", {"data": -1, "fsdp": 1}),
    "2x2 by jit": (4, "jit", {"data": 2, "fsdp": 2}),
    "4 by pmap": (4, "pmap", {"data": -1, "fsdp": 1}),
}


def digits(count: int = 32) -> sources.ArraySource:
    rng = np.random.default_rng(0)
    features = {"image": Feature((8, 8, 1), "uint8"), "label": Feature((), "int32", 10)}
    arrays = {
        "image": rng.integers(0, 17, (count, 8, 8, 1)).astype(np.uint8),
        "label": rng.integers(0, 10, count).astype(np.int32),
    }
    return sources.ArraySource(arrays, features)


def config(precision: str):
    return complete(
        {
            "model": {
                "name": "rcnn_jax.models.rcnn:RCNN", "classes": 10, "features": 8, "steps": 1,
                "norm": "batch", "dropout": 0.3,
            },
            "data": {"preprocess": "to_float(16)", "augment": "random_affine(10, 0.1, 1)|flip"},
            "batch_size": 16,
            "steps": 5,
            "optimizer": {"nesterov": True, "weight_decay": 1e-3, "clip_norm": 1.0},
            "ema_decay": 0.9,
            "precision": precision,
        },
        "test",
    )  # fmt: skip


@functools.cache
def reference(precision: str):
    return trajectory(precision, "1 by jit")


def trajectory(precision: str, layout: str, steps: int = 4):
    given = config(precision)
    count, parallelism, axes = LAYOUTS[layout]
    devices = make_devices(axes, parallelism, jax.devices()[:count])
    source = digits()
    recipe = experiment.make_recipe(given, experiment.build_task(given, {}), source, steps)
    train_step = step.compile_train_step(
        functools.partial(
            step.make_train_step,
            recipe.task, recipe.optimizer, recipe.schedule, recipe.plateau, ema_decay=0.9,
        ),
        devices,
    )  # fmt: skip
    current = recipe.create_state(devices)
    losses = []
    for number in range(steps):
        rows = (np.arange(16) + 7 * number) % len(source)
        batch = source.gather(rows) | {"mask": np.ones(16, np.float32)}
        current, sums = train_step(current, devices.place(batch))
        losses.append(float(sums["loss"][0] / sums["loss"][1]))
    leaves = {
        "params": current.params,
        "model_state": current.model_state,
        "ema": current.ema,
        "opt_state": current.opt_state,
    }
    return np.array(losses), jax.device_get(leaves)


@pytest.mark.parametrize("layout", ["4 by jit", "2x2 by jit", "4 by pmap"])
def test_one_trajectory_in_double_precision(x64, layout):
    losses, leaves = trajectory("float64", layout)
    expected = reference("float64")
    np.testing.assert_allclose(losses, expected[0], rtol=1e-11)
    for left, right in zip(jax.tree.leaves(leaves), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("layout", ["4 by jit", "4 by pmap"])
def test_single_precision_stays_within_a_relative_distance_of_1e_3(layout):
    losses, leaves = trajectory("float32", layout)
    expected = reference("float32")
    np.testing.assert_allclose(losses, expected[0], rtol=1e-4)
    difference = jax.tree.map(np.subtract, leaves["params"], expected[1]["params"])
    assert optax.tree.norm(difference) < 1e-3 * optax.tree.norm(expected[1]["params"])


def test_the_check_would_see_one_dropout_key_for_all_devices(x64, monkeypatch):
    """If every device drew the same masks, the trajectories would part."""
    from rcnn_jax.layers import randomness

    expected = reference("float64")[0]
    monkeypatch.setattr(randomness, "data_axis_bound", lambda: False)
    losses = trajectory("float64", "4 by pmap")[0]
    assert np.abs(losses / expected - 1).max() > 1e-6


def test_bfloat16_computes_in_bf16_and_keeps_f32_parameters():
    rounded, leaves = trajectory("bfloat16", "1 by jit")
    assert {x.dtype for x in jax.tree.leaves(leaves["params"])} == {np.dtype(np.float32)}
    exact, _ = reference("float32")
    assert np.abs(rounded / exact - 1).max() > 1e-6, "nothing was computed in bfloat16"
    np.testing.assert_allclose(rounded, exact, rtol=0.05)


class Accumulator(BaseTask):
    """Its carry is a running sum of each row's input; its loss pulls a weight towards it."""

    def init(self, key, batch):
        del key, batch
        return {"kernel": jnp.zeros((), jnp.float32)}, {}

    def initial_carry(self, batch_size):
        return jnp.zeros((batch_size, 1))

    def loss(self, params, model_state, carry, batch, key):
        del key
        carry = carry + batch["x"]
        total = jnp.sum((params["kernel"] - carry) ** 2)
        return LossOutput(
            total=total, count=jnp.float32(carry.shape[0]), model_state=model_state, carry=carry
        )


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_carry_is_handed_from_batch_to_batch_on_any_layout(layout):
    count, parallelism, axes = LAYOUTS[layout]
    devices = make_devices(axes, parallelism, jax.devices()[:count])
    task = Accumulator(model=None, train_transform=None, evaluation_transform=None)
    plateau = schedules.Plateau(complete({}, "test").schedule, "min")
    batch = {"x": np.arange(8.0, dtype=np.float32)[:, None]}
    current = state.create(task, optax.identity(), plateau, batch, seed=0, ema=False)
    current = jax.device_put(current, devices.state_shardings(current))
    train_step = step.compile_train_step(
        functools.partial(
            step.make_train_step, task, optax.identity(), lambda t: 0.1, plateau, ema_decay=0.0
        ),
        devices,
    )
    for _ in range(3):
        current, _ = train_step(current, devices.place(batch))
    np.testing.assert_allclose(current.carry, 3 * batch["x"])
    mean, weight = 3.5, 0.0
    for number in (1, 2, 3):
        weight -= 0.1 * 2 * (weight - number * mean)
    np.testing.assert_allclose(current.params["kernel"], weight, rtol=1e-6)
