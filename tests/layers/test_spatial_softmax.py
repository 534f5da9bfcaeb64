"""Where on its map a feature is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.spatial_softmax import soft_argmax


def test_it_is_the_mean_place_under_a_softmax() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    expected = np.zeros((2, 2, 4))
    for example in range(2):
        for channel in range(4):
            weights = np.exp(x[example, :, :, channel].astype(np.float64))
            weights /= weights.sum()
            for row in range(3):
                for column in range(5):
                    place = np.array([row - 1, column / 2 - 1])
                    expected[example, :, channel] += weights[row, column] * place
    found = jax.jit(soft_argmax)(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_peak_is_where_it_is_and_nothing_is_in_the_middle() -> None:
    x = np.zeros((1, 4, 7, 3), np.float32)
    x[0, 0, 6, 0] = 50.0  # top right
    x[0, 3, 3, 1] = 50.0  # in the middle of the bottom
    found = np.asarray(jax.jit(soft_argmax)(jnp.asarray(x)))
    np.testing.assert_allclose(found[0].T, [[-1, 1], [1, 0], [0, 0]], atol=1e-6)


def test_one_axis_or_one_place() -> None:
    line = jnp.array([[[0.0], [60.0], [0.0], [0.0]]])
    np.testing.assert_allclose(soft_argmax(line), [[[-1 / 3]]], atol=1e-6)
    np.testing.assert_array_equal(soft_argmax(jnp.ones((2, 1, 1, 3))), np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"\[batch, \*spatial, channels\], got shape \(2, 3\)"):
        soft_argmax(jnp.ones((2, 3)))
