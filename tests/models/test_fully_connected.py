"""Fully connected nets: totals, values against NumPy, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.fully_connected import ACTIVATIONS, FullyConnected, maxout_mnist

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 3, 4, 2)), jnp.float32)
KEY = jax.random.key(0)
TINY = {"classes": 3, "hidden": (8, 6), "pieces": 3}


def made(model, x=X):
    return jax.jit(functools.partial(model.init, train=False))(KEY, x)


@pytest.mark.parametrize(
    ("model", "shape", "total"),
    [
        (FullyConnected(10), (1, 32, 32, 3), 3073 * 1024 + 1025 * 1024 + 1025 * 10),
        (FullyConnected(10, (7,), "maxout", 4), (1, 5, 5, 1), 26 * 28 + 8 * 10),
        (FullyConnected(10, ()), (1, 784), 7850),
        (maxout_mnist(10), (1, 28, 28, 1), 1_233_610),
    ],
)
def test_totals(model, shape, total):
    call = functools.partial(model.init_with_output, train=False)
    logits, variables = jax.eval_shape(call, KEY, jnp.zeros(shape))
    assert logits.shape == (1, 10)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == total


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_net_is_its_definition(activation, x64):
    model = FullyConnected(**TINY, activation=activation, param_dtype="float64")
    x = np.asarray(X, np.float64)
    params = made(model, jnp.asarray(x))["params"]
    params = jax.tree.map(lambda p: np.asarray(p) + 0.1 * RNG.normal(size=p.shape), params)
    y = x.reshape(8, -1)
    for name in ("dense1", "dense2"):
        y = y @ params[name]["kernel"] + params[name]["bias"]
        if activation == "maxout":
            y = np.maximum.reduce([y[:, piece::3] for piece in range(3)])
        else:
            y = np.maximum(y, 0) if activation == "relu" else 1 / (1 + np.exp(-y))
    expected = y @ params["head"]["kernel"] + params["head"]["bias"]
    logits = model.apply({"params": params}, jnp.asarray(x), train=False)
    np.testing.assert_allclose(logits, expected, rtol=1e-10)
    vectors = model.apply({"params": params}, jnp.asarray(x.reshape(8, -1)), train=False)
    np.testing.assert_array_equal(vectors, logits)


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({"classes": 0}, (1, 8), "classes=0"),
        ({"hidden": (4, 0)}, (1, 8), r"hidden=\(4, 0\)"),
        ({"activation": "tanh"}, (1, 8), 'relu, sigmoid, maxout, got "tanh"'),
        ({"activation": "maxout", "pieces": 0}, (1, 8), "pieces=0"),
        ({"dropout": 1.5}, (1, 8), r"\[0, 1\], got 1.5"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = FullyConnected(**(TINY | attributes))
    keys = {"params": KEY, "dropout": KEY}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=True), keys, jnp.zeros(shape))
