"""NIN: its total, its structure against loops, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.models.nin import NIN, nin, nin_released_code

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 6, 5, 2)), jnp.float32)
KEY = jax.random.key(0)
TINY = {"classes": 3, "features": ((6, 5), (4, 6), (6,)), "kernel_sizes": (5, 3, 3)}


def made(model, x=X):
    return jax.jit(functools.partial(model.init, train=False))(KEY, x)


@pytest.mark.parametrize("preset", [nin, nin_released_code])
def test_published_total_and_sizes(preset):
    model = preset(classes=10)
    call = functools.partial(model.init_with_output, train=False, capture_intermediates=True)
    logits, variables = jax.eval_shape(call, KEY, jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 10)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 966_986
    seen = variables["intermediates"]
    shapes = [seen[f"conv{i}_3"]["__call__"][0].shape for i in (1, 2, 3)]
    assert shapes == [(2, 32, 32, 96), (2, 16, 16, 192), (2, 8, 8, 10)]


def slow_average_pool(x):
    out = [-(-(n - 3) // 2) + 1 for n in x.shape[1:3]]
    y = np.empty((x.shape[0], *out, x.shape[-1]))
    for i, j in np.ndindex(*out):
        y[:, i, j] = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].mean((1, 2))
    return y


@pytest.mark.parametrize("preset", [nin, nin_released_code])
def test_the_net_is_its_definition(preset, x64):
    model = preset(**TINY, param_dtype="float64")
    x = np.asarray(X, np.float64)
    params = made(model, jnp.asarray(x))["params"]
    params = jax.tree.map(lambda p: p + 0.1 * RNG.normal(size=p.shape), params)
    y = x
    for name in sorted(params):
        y = oracles.conv(y, np.asarray(params[name]["kernel"])) + np.asarray(params[name]["bias"])
        if name != "conv3_2" or preset is nin_released_code:
            y = oracles.relu(y)
        if name == "conv1_2" or (name == "conv2_2" and preset is nin):
            pads = [(0, (n - 1) % 2) for n in y.shape[1:3]]
            y = oracles.max_pool(y, (3, 3), (2, 2), pads)[0]
        elif name == "conv2_2":
            y = slow_average_pool(y)
    apply = jax.jit(functools.partial(model.apply, train=False))
    logits = apply({"params": params}, jnp.asarray(x))
    np.testing.assert_allclose(logits, y.mean((1, 2)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({"classes": 0}, (1, 8, 8, 3), "classes=0"),
        ({"kernel_sizes": (5, 3)}, (1, 8, 8, 3), r"kernel_sizes=\(5, 3\)"),
        ({"pools": ("max",)}, (1, 8, 8, 3), r"pools=\('max',\)"),
        ({"pools": ("max", "mean")}, (1, 8, 8, 3), 'max, average, got "mean"'),
        ({"dropout": -1.0}, (1, 8, 8, 3), r"\[0, 1\], got -1.0"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = NIN(**(TINY | attributes))
    keys = {"params": KEY, "dropout": KEY}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=True), keys, jnp.zeros(shape))
