"""The compiled max-pool against XLA's form, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.kernels import choice, library
from rcnn_jax.layers.pooling import max_pool

pytestmark = pytest.mark.skipif(bool(library.problem()), reason=library.problem())


def both(monkeypatch, x, *geometry):
    """Values and gradients of the compiled form and of XLA's."""
    results, x = [], jnp.asarray(x)
    for switch in "10":
        monkeypatch.setenv("RCNN_JAX_KERNELS", switch)
        y, pull = jax.vjp(lambda x: max_pool(x, *geometry), x)
        weights = np.random.default_rng(1).integers(-9, 9, y.shape)
        results.append((y, *pull(jnp.asarray(weights, jnp.float32))))
    return results


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((3, 3), (2, 2), "CEIL"), ((2, 2), (2, 2), "VALID"), ((3, 3), (2, 2), "SAME"),
        ((1, 1), (3, 2), "CEIL"), ((2, 3), (1, 1), "SAME"), ((3, 2), (2, 3), [(1, 2), (0, 1)]),
        ((5, 4), (1, 1), "SAME"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(3, 12, 12, 16), (2, 7, 5, 48), (1, 11, 13, 32)])
def test_values_and_gradients_are_those_of_xla(monkeypatch, shape, window, strides, padding):
    # Few numbers, so that many windows have several that are largest.
    x = np.random.default_rng(0).integers(-2, 2, shape).astype(np.float32)
    ours, theirs = both(monkeypatch, x, window, strides, padding)
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("strange", [np.nan, -np.inf, np.inf])
def test_numbers_that_are_none(monkeypatch, strange):
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 16)).astype(np.float32)
    x[0, :3] = strange
    x[1, 2, 2] = strange
    ours, theirs = both(monkeypatch, x, (3, 3), (2, 2), "SAME")
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("shape", "window", "dtype", "reason"),
    [
        ((2, 8, 8, 32), (3, 3), jnp.float32, ""),
        ((2, 8, 32), (3,), jnp.float32, "1 spatial axes, not 2"),
        ((2, 8, 8, 32), (3, 3), jnp.bfloat16, "bfloat16, not float32"),
        ((2, 8, 8, 20), (3, 3), jnp.float32, "20 channels, no multiple of 16"),
        ((2, 20, 20, 32), (12, 12), jnp.float32, "a window of 144 places, more than 127"),
    ],
)
def test_the_rule_says_why_not(shape, window, dtype, reason):
    assert choice.pooling(jax.ShapeDtypeStruct(shape, dtype), window) == reason


def test_the_program_has_the_call():
    x = jnp.zeros((2, 8, 8, 32))
    text = jax.jit(jax.grad(lambda x: max_pool(x, (2, 2), (2, 2)).sum())).lower(x).as_text()
    assert "RcnnPoolGradient" in text
