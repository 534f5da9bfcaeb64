"""Padding of images: no layer sees it, in values, gradients or statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.layers.masks import apply_mask, column_mask
from rcnn_jax.layers.normalization import BatchNorm, batch_moments, group_norm, real_rows
from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.layers.rcl import RCL

RNG = np.random.default_rng(0)
LENGTHS = np.array([5, 2, 0, 4])
LIVE = (np.arange(5)[None] < LENGTHS[:, None])[:, None]  # [4, 1, 5]
X = RNG.normal(size=(4, 3, 5, 6)) + 4


def test_statistics_are_those_of_live_positions(x64):
    """Moments and their gradient; with rows that are padding too; on one device and on four."""
    rows = np.array([1.0, 1, 1, 0])

    def total(x, mask, rows=None):
        if rows is None:
            mean, variance = batch_moments(x, mask)
        else:
            with real_rows(rows):
                mean, variance = batch_moments(x, mask)
        return jnp.sum(jnp.arange(6) * mean + variance), (mean, variance)

    for given, counted in (((), LIVE), ((rows,), LIVE & (rows > 0)[:, None, None])):
        counted = np.broadcast_to(counted, X.shape[:-1])
        pixels = X[counted]
        gradient, found = jax.jit(jax.grad(total, has_aux=True))(X, LIVE, *given)
        np.testing.assert_allclose(found, (pixels.mean(0), pixels.var(0)), rtol=1e-12)
        # d mean = 1 / n, d variance = 2 (x - mean) / n
        expected = (np.arange(6) + 2 * (pixels - pixels.mean(0))) / len(pixels)
        np.testing.assert_allclose(gradient[counted], expected, rtol=1e-10)
        np.testing.assert_array_equal(gradient[~counted], 0)

    spread = jax.pmap(lambda x, mask: total(x, mask)[1], axis_name=DATA_AXIS)
    pixels = X[np.broadcast_to(LIVE, X.shape[:-1])]
    for device in zip(*spread(X[:, None], LIVE[:, None]), strict=True):
        np.testing.assert_allclose(device, (pixels.mean(0), pixels.var(0)), rtol=1e-12)


def test_group_statistics_of_an_image_are_those_of_its_own_width(x64):
    scale, bias = RNG.normal(size=(2, 6))
    found = jax.jit(functools.partial(group_norm, groups=2))(X, scale, bias, mask=LIVE)
    for row, length in enumerate(LENGTHS):
        alone = X[row : row + 1, :, :length]
        if length:
            expected = oracles.group_norm(alone, scale, bias, 2)
            np.testing.assert_allclose(found[row : row + 1, :, :length], expected, rtol=1e-10)
    assert np.isfinite(found).all()


def test_running_statistics_stay_where_nothing_is_live():
    layer, x = BatchNorm(), jnp.asarray(X)
    variables = layer.init(jax.random.key(0), x, train=True)
    step = jax.jit(
        lambda mask: layer.apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])[1]
    )
    for mask, moved in ((np.zeros_like(LIVE), False), (LIVE, True)):
        after = step(mask)["batch_stats"]
        assert bool((after["mean"] != 0).all()) == moved
        assert bool((after["var"] != 1).all()) == moved


LAYERS = {
    "lrn": {"norm": "lrn"},
    "batch_shared, untied": {"norm": "batch_shared", "tie_weights": False},
    "gated, batch": {"norm": "batch", "gated": True},
    "group, in a loop": {"norm": "group", "groups": 2, "unroll": False},
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_a_layer_gives_what_it_gives_without_padding(name, x64):
    """Images of one width, alone and as a part of wider ones beside a row of nothing but junk."""
    layer = RCL(8, steps=2, momentum=0.5, param_dtype="float64", **LAYERS[name])
    u, weight = RNG.normal(size=(2, 3, 4, 2)), RNG.normal(size=(3, 2, 3, 4, 8))
    shapes = jax.eval_shape(functools.partial(layer.init, train=False), jax.random.key(0), u)
    variables = jax.tree.map(lambda s: RNG.normal(size=s.shape) ** 2, shapes)
    wide = np.full((3, 3, 7, 2), 1e3)
    wide[:2, :, :4] = u
    mask = column_mask(jnp.array([4, 4, 0]), 7)

    def run(variables, u, mask=None):
        states, updated = layer.apply(
            variables, u, train=True, all_states=True, mask=mask, mutable=["batch_stats"]
        )
        return jnp.vdot(states[:, :2, :, :4], weight), (states, updated)

    graded = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)
    (_, (states, updated)), (by_params, by_u), (_, (padded, moved)), (by_same, by_wide) = jax.jit(
        lambda variables: (*graded(variables, u), *graded(variables, wide, mask))
    )(variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
    close(padded[:, :2, :, :4], states)
    jax.tree.map(close, (by_same, moved), (by_params, updated))
    close(by_wide[:2, :, :4], by_u)
    assert np.abs(by_u).max() > 1e-3
    for beyond in (padded[:, 2], padded[:, :, :, 4:], by_wide[2], by_wide[:, :, 4:]):
        np.testing.assert_array_equal(beyond, 0)


def test_a_mask_that_does_not_fit_is_refused():
    x = jnp.zeros((2, 3, 4, 5))
    for shape in ((2, 4), (3, 1, 4), (1, 1, 4), (2, 3, 3)):
        with pytest.raises(ValueError, match=r"mask marks positions .* got shape \("):
            apply_mask(x, jnp.ones(shape, bool))
