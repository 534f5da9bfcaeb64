"""Local response normalization against loops in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.layers.local_response import local_response_norm, lrn_window, relu_lrn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 2, 24)) * 30  # large enough for alpha = 0.001 to matter


@pytest.mark.parametrize("size", [1, 4, 13, 60])
@pytest.mark.parametrize(
    ("alpha", "beta", "k"), [(1e-3, 0.75, 1.0), (0.2, 0.6, 2.0), (0.1, 1.0, 1.0)]
)
def test_lrn_and_its_gradient(size, alpha, beta, k, x64):
    arguments = {"size": size, "alpha": alpha, "beta": beta, "k": k}
    weights = RNG.normal(size=X.shape)
    direction = RNG.normal(size=X.shape)
    for function, inside in [(local_response_norm, lambda x: x), (relu_lrn, oracles.relu)]:
        apply = functools.partial(function, **arguments)
        y = jax.jit(apply)(X)
        gradient = jax.jit(jax.grad(lambda x, f=apply: jnp.sum(jnp.asarray(weights) * f(x))))(X)
        np.testing.assert_allclose(y, oracles.lrn(inside(X), **arguments), rtol=1e-12)
        slope = oracles.finite_difference(
            lambda x, g=inside: np.sum(weights * oracles.lrn(g(x), **arguments)), X, direction
        )
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6)


def test_lrn_windows_of_the_paper():
    assert [lrn_window(k) for k in (96, 128, 160, 192)] == [13, 17, 21, 25]


@pytest.mark.parametrize("features", [0, 4, 100])
def test_lrn_window_needs_a_multiple_of_8(features):
    with pytest.raises(ValueError, match=f"multiple of 8, got {features}"):
        lrn_window(features)


def test_lrn_impossible_arguments():
    with pytest.raises(ValueError, match="at least 1 channel, got size 0"):
        local_response_norm(jnp.ones((1, 8)), size=0)
    with pytest.raises(ValueError, match="k > 0"):
        relu_lrn(jnp.ones((1, 8)), size=3, k=0.0)


def test_lrn_in_bfloat16_sums_in_float32():
    x = jnp.asarray(X, jnp.bfloat16)
    y = local_response_norm(x, size=13)
    assert y.dtype == jnp.bfloat16
    expected = oracles.lrn(np.asarray(x, np.float64), 13)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8)
