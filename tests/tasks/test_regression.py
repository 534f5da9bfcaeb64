"""Regression: sums over real rows, and what does not fit."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain
from rcnn_jax.tasks.regression import Regression

RNG = np.random.default_rng(0)
KEY = np.array([0, 1], np.uint32)
PARAMS = {"kernel": RNG.normal(size=(3, 2)).astype(np.float32)}
FEATURES = {"seen": Feature((3,), "float32"), "wanted": Feature((2,), "float32")}


class Linear(nn.Module):
    classes: int = 2

    @nn.compact
    def __call__(self, x, *, train: bool, sign: float = 1.0):
        del train
        return sign * x @ self.param("kernel", nn.initializers.ones, (3, self.classes))


def make(**arguments) -> Regression:
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    named = {"inputs": "seen", "target": "wanted"}
    return Regression(**({"model": Linear()} | named | chains | arguments))


def batch_of(*shape):
    batch = {"seen": RNG.normal(size=(5, 3)), "wanted": RNG.normal(size=(5, *shape))}
    return {k: v.astype(np.float32) for k, v in batch.items()} | {
        "mask": np.array([1, 1, 0, 1, 0], np.float32)
    }


def test_errors_are_means_over_the_numbers_of_real_rows():
    task, batch = make(call={"sign": -1.0}), batch_of(2)
    sums = jax.jit(functools.partial(task.metrics, PARAMS, {}))(batch)
    out = jax.jit(lambda batch: task.loss(PARAMS, {}, (), batch, KEY))(batch)
    predicted = jax.jit(functools.partial(task.predict, PARAMS, {}))(batch)["numbers"]
    answers = batch["seen"] @ PARAMS["kernel"]
    np.testing.assert_allclose(predicted, -answers, rtol=1e-5)
    real = [0, 1, 3]
    away, towards = (sign * answers[real] - batch["wanted"][real] for sign in (-1, 1))
    np.testing.assert_allclose(sums["mse"], ((away**2).mean(1).sum(), 3), rtol=1e-5)
    np.testing.assert_allclose(sums["mae"], (np.abs(away).mean(1).sum(), 3), rtol=1e-5)
    np.testing.assert_allclose((out.total, out.count), ((towards**2).mean(1).sum(), 3), rtol=1e-5)


def test_a_single_number_needs_no_axis():
    """It would be compared with the answers of all rows, were the shapes left to broadcasting."""
    task, batch = make(model=Linear(1)), batch_of()
    params = {"kernel": PARAMS["kernel"][:, :1]}
    task.check({**FEATURES, "wanted": Feature((), "float32")})
    sums = jax.jit(functools.partial(task.metrics, params, {}))(batch)
    away = (batch["seen"] @ params["kernel"])[:, 0] - batch["wanted"]
    np.testing.assert_allclose(sums["mse"], ((away**2)[[0, 1, 3]].sum(), 3), rtol=1e-5)


def test_what_does_not_fit():
    make().check(FEATURES)
    with pytest.raises(ValueError, match=r"a feature 'inputs', the data.*config\.task\.inputs"):
        make(inputs="inputs").check(FEATURES)
    with pytest.raises(ValueError, match=r"a feature 'sum', the data.*config\.task\.target"):
        make(target="sum").check(FEATURES)
    with pytest.raises(ValueError, match=r"classes=2, but an example of 'wanted' has.*\(3,\)"):
        make().check({**FEATURES, "wanted": Feature((3,), "float32")})
    with pytest.raises(ValueError, match=r"classes=2, but .*\(2, 2\)"):
        make().check({**FEATURES, "wanted": Feature((2, 2), "float32")})
