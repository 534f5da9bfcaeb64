"""Maxout nets: published totals, sizes, draws and passes, errors."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.configuration.loading import load
from rcnn_jax.layers.maxout import expected_maxout, sampled_maxout
from rcnn_jax.models.maxout import (
    MAX_NORMS,
    MaxoutNet,
    maxout,
    maxout_released_code,
    probabilistic_maxout,
)

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 6, 6, 2)), jnp.float32)
KEY = jax.random.key(0)
TINY = {
    "classes": 3,
    "features": (4, 5),
    "kernel_sizes": (3, 2),
    "paddings": (1, 1),
    "pool_windows": (3, 2),
    "pool_strides": (2, 2),
    "hidden": 8,
    "hidden_pieces": 3,
    "inverse_temperatures": (1.0, 2.0, 1.0),
}


def made(model, x=X):
    return jax.jit(functools.partial(model.init, train=False))(KEY, x)


@pytest.mark.parametrize("preset", [maxout, maxout_released_code, probabilistic_maxout])
def test_published_total_and_sizes(preset):
    model = preset(classes=10)
    call = functools.partial(model.init_with_output, train=False, capture_intermediates=True)
    logits, variables = jax.eval_shape(call, KEY, jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 10)
    params = variables["params"]
    weights = {name: layer["kernel"].size for name, layer in params.items()}
    assert weights == {
        "conv1": 8 * 8 * 3 * 192,
        "conv2": 8 * 8 * 96 * 384,
        "conv3": 5 * 5 * 192 * 384,
        "dense": 5 * 5 * 192 * 2500,
        "head": 5000,
    }
    assert sum(weights.values()) == 16_244_360
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 16_247_830
    seen = variables["intermediates"]
    before = [seen[f"conv{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)]
    behind = [seen[f"dropout{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)]
    assert before == [33, 15, 9]
    assert behind == [16, 7, 5]
    assert set(MAX_NORMS) == set(params)


def test_the_config_bounds_every_layer_as_the_released_code_does():
    bounds = load("maxout_cifar10").optimizer.max_norm
    for layer, bound in MAX_NORMS.items():
        own = [value for pattern, value in bounds if re.fullmatch(pattern, f"{layer}/kernel")]
        assert own == [bound], layer
        assert not any(re.fullmatch(pattern, f"{layer}/bias") for pattern, _ in bounds)


def test_presets():
    assert maxout(classes=10) == MaxoutNet(classes=10)
    released = maxout_released_code(classes=10, hidden=7)
    assert released == MaxoutNet(classes=10, init_range=0.005, rescale_input=False, hidden=7)
    assert probabilistic_maxout(classes=10) == MaxoutNet(classes=10, probabilistic=True)


def test_released_input_dropout_does_not_rescale():
    seen = {}
    for rescale in (True, False):
        model = MaxoutNet(**TINY, dropout=0.0, rescale_input=rescale)
        variables = made(model)
        # All is linear up to maxima, without biases: the logits scale as the image does.
        call = functools.partial(model.apply, train=True, rngs={"dropout": KEY})
        seen[rescale] = jax.jit(call)(variables, X)
    np.testing.assert_allclose(seen[False], 0.8 * seen[True], rtol=1e-4, atol=1e-6)


def by_hand(params, unit):
    """Logits from the layers' definitions; `unit(z, number)` picks or mixes the pieces."""
    y = np.asarray(X)
    for number, (name, pool) in enumerate((("conv1", 3), ("conv2", 2))):
        kernel, bias = (np.asarray(params[name][n]) for n in ("kernel", "bias"))
        y = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
        side = kernel.shape[0]
        rows, columns = y.shape[1] - side + 1, y.shape[2] - side + 1
        z = bias + sum(
            y[:, a : a + rows, b : b + columns] @ kernel[a, b]
            for a in range(side)
            for b in range(side)
        )
        y = np.asarray(unit(jnp.asarray(z.reshape(*z.shape[:-1], -1, 2)), number))
        pads = [(0, (pool - n) % 2) for n in y.shape[1:3]]
        y = oracles.max_pool(y, (pool, pool), (2, 2), pads)[0].astype(np.float32)
    z = y.reshape(8, -1) @ np.asarray(params["dense"]["kernel"])
    y = np.asarray(unit(jnp.asarray(z.reshape(8, -1, 3)), 2))
    return y @ np.asarray(params["head"]["kernel"])


def test_the_nets_are_their_definitions():
    scales = TINY["inverse_temperatures"]
    params = made(MaxoutNet(**TINY))["params"]

    def apply(tests=0, **attributes):
        model = MaxoutNet(**TINY, **attributes)
        call = jax.jit(functools.partial(model.apply, train=False, tests=tests))
        return call({"params": params}, X)

    def mean(z, number):
        return expected_maxout(z, inverse_temperature=scales[number])

    def drawn(draw, z, number):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), draw), number)
        return sampled_maxout(z, key, inverse_temperature=scales[number])

    plain = by_hand(params, lambda z, number: z.max(-1))
    np.testing.assert_allclose(apply(), plain, rtol=1e-4, atol=1e-5)
    expected = by_hand(params, mean)
    np.testing.assert_allclose(apply(probabilistic=True), expected, rtol=1e-4, atol=1e-5)
    passes = [by_hand(params, functools.partial(drawn, draw)) for draw in range(3)]
    probabilities = np.mean(jax.nn.softmax(np.stack(passes)), 0)
    averaged = jnp.exp(apply(tests=3, probabilistic=True, evaluation_seed=7))
    np.testing.assert_allclose(averaged, probabilities, rtol=1e-4, atol=1e-6)
    different = np.stack([plain, expected, *passes])
    assert len(np.unique(different.round(3), axis=0)) == 5


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (32, 32, 3), r"got shape \(32, 32, 3\)"),
        ({"classes": 0}, (1, 32, 32, 3), "classes=0"),
        ({"pool_windows": (2,)}, (1, 32, 32, 3), r"pool_windows=\(2,\)"),
        ({"paddings": ()}, (1, 32, 32, 3), r"paddings=\(\)"),
        ({"inverse_temperatures": (1.0,)}, (1, 32, 32, 3), r"inverse_temperatures=\(1.0,\)"),
        ({"dropout": 2.0}, (1, 32, 32, 3), r"\[0, 1\], got 2.0"),
        ({"paddings": (0, 0)}, (1, 2, 8, 3), "does not fit"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = MaxoutNet(**(TINY | attributes))
    keys = {"params": KEY, "dropout": KEY}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=True), keys, jnp.zeros(shape))


@pytest.mark.parametrize(
    ("probabilistic", "train", "tests"), [(False, False, 3), (True, True, 3), (True, False, -1)]
)
def test_impossible_passes(probabilistic, train, tests):
    model = MaxoutNet(**TINY, probabilistic=probabilistic)
    variables = jax.eval_shape(functools.partial(model.init, train=False), KEY, X)
    with pytest.raises(ValueError, match=f"tests={tests}"):
        jax.eval_shape(functools.partial(model.apply, train=train, tests=tests), variables, X)
