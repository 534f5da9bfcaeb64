"""Fractional pooling: regions against exact fractions, pooling against loops, draws and devices."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.fractional_pooling import (
    draw_regions,
    fractional_max_pool,
    pool_regions,
    pseudorandom_bounds,
    random_bounds,
)
from rcnn_jax.layers.pooling import max_pool
from rcnn_jax.layers.randomness import DATA_AXIS

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
KEY = jax.random.key(5)
SIZES = [(25, 20), (36, 25), (93, 74), (10, 7), (8, 4), (3, 2), (7, 6)]
KINDS = [(g, o) for g in ("pseudorandom", "random") for o in (True, False)]


def drawn(size, pooled, generator, overlapping, keys=40):
    draw = functools.partial(
        draw_regions, size=size, pooled=pooled, generator=generator, overlapping=overlapping
    )
    return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(KEY, keys)))


@pytest.mark.parametrize(("total", "parts"), [(23, 19), (91, 73), (25, 20), (8, 4), (5, 5), (2, 1)])
def test_pseudorandom_bounds_are_the_formula_for_every_u(total, parts):
    alpha = Fraction(total, parts)
    for phase in range(total):
        bounds = np.asarray(pseudorandom_bounds(total, parts, phase))
        # u from one end of [phase, phase + 1) / total to the other.
        for fraction in (Fraction(0), Fraction(1, 3), Fraction(10**9 - 1, 10**9)):
            u = (phase + fraction) / total
            expected = [
                math.floor((j + u) * alpha) - math.floor(u * alpha) for j in range(parts + 1)
            ]
            np.testing.assert_array_equal(bounds, expected)


@pytest.mark.parametrize(("generator", "overlapping"), KINDS)
@pytest.mark.parametrize(("size", "pooled"), SIZES)
def test_regions_cover_the_axis_with_the_right_increments(size, pooled, generator, overlapping):
    regions = drawn(size, pooled, generator, overlapping)
    assert regions.shape[:2] == (40, pooled)
    total, parts = (size - 2, pooled - 1) if overlapping else (size, pooled)
    small = total // parts
    allowed = {small} if total % parts == 0 else {small, small + 1}
    for each in regions:
        starts = each[:, 0]
        assert starts[0] == 0
        assert set(each.ravel()) == set(range(size))
        assert set(np.diff(starts)) <= allowed
        assert all(set(r) == set(range(r[0], r[-1] + 1)) for r in each)
        if overlapping:
            assert (each[:, -1] - starts == 1).all()
        else:
            assert sum(len(set(r)) for r in each) == size
            assert {len(set(r)) for r in each} <= allowed


def test_pseudorandom_draws_every_phase_alike():
    regions = drawn(9, 6, "pseudorandom", True, keys=4000)  # phases 0..6 of alpha = 7/5
    possible = [np.asarray(pseudorandom_bounds(7, 5, phase)).tolist() for phase in range(7)]
    seen = [tuple(each[:, 0]) for each in regions]
    for bounds in {tuple(b) for b in possible}:
        p = possible.count(list(bounds)) / 7
        assert abs(seen.count(bounds) / 4000 - p) < 4 * np.sqrt(p * (1 - p) / 4000)


def test_random_draws_every_order_alike():
    bounds = np.asarray(
        jax.jit(jax.vmap(lambda key: random_bounds(key, 6, 4)))(jax.random.split(KEY, 3000))
    )
    orders, counts = np.unique(np.diff(bounds), axis=0, return_counts=True)
    assert len(orders) == math.comb(4, 2)
    assert (np.abs(counts / 3000 - 1 / 6) < 4 * np.sqrt(5 / 36 / 3000)).all()


def slow_pool(x, regions):
    y = np.empty((x.shape[0], *(len(r) for r in regions), x.shape[-1]))
    gradient_of = np.zeros_like(x)
    for n, i, j, c in np.ndindex(*y.shape):
        places = [(n, a, b, c) for a in set(regions[0][i]) for b in set(regions[1][j])]
        best = max(places, key=lambda place: x[place])
        y[n, i, j, c] = x[best]
        gradient_of[best] += 1 + n + i * j
    return y, gradient_of


@pytest.mark.parametrize(("generator", "overlapping"), KINDS)
def test_pooling_and_its_gradient(generator, overlapping, x64):
    x = RNG.normal(size=(2, 11, 8, 3))
    regions = [
        draw_regions(jax.random.fold_in(KEY, axis), size, pooled,
                     generator=generator, overlapping=overlapping)
        for axis, (size, pooled) in enumerate([(11, 7), (8, 6)])
    ]  # fmt: skip
    expected, scattered = slow_pool(x, [np.asarray(r) for r in regions])
    y, pull_back = jax.vjp(lambda x: pool_regions(x, regions), jnp.asarray(x))
    np.testing.assert_array_equal(y, expected)
    n, i, j = np.ogrid[:2, :7, :6]
    weights = np.broadcast_to((1.0 + n + i * j)[..., None], y.shape)
    np.testing.assert_allclose(pull_back(jnp.asarray(weights))[0], scattered)
    # The whole layer draws the same regions.
    whole = fractional_max_pool(
        jnp.asarray(x), (7, 6), KEY, generator=generator, overlapping=overlapping
    )
    np.testing.assert_array_equal(whole, expected)


def test_whole_factors_are_ordinary_pools():
    x = jnp.asarray(RNG.normal(size=(2, 8, 9, 3)), jnp.float32)
    disjoint = fractional_max_pool(x, (4, 3), KEY, overlapping=False)
    np.testing.assert_array_equal(disjoint, max_pool(x, (2, 3), (2, 3)))
    for generator in ("pseudorandom", "random"):
        # 3 pixels each, one and two apart.
        y = fractional_max_pool(x, (6, 4), KEY, window=3, generator=generator)
        np.testing.assert_array_equal(y, max_pool(x, (3, 3), (1, 2)))


def test_one_axis_one_region_and_nan():
    x = jnp.asarray(RNG.normal(size=(2, 5, 3)), jnp.float32)
    whole = fractional_max_pool(x, (1,), KEY, window=5)
    np.testing.assert_array_equal(whole, jnp.max(x, 1, keepdims=True))
    np.testing.assert_array_equal(fractional_max_pool(x, (1,), KEY, overlapping=False), whole)
    assert jnp.isnan(fractional_max_pool(x.at[0, 2, 0].set(jnp.nan), (4,), KEY)).any()
    assert fractional_max_pool(x.astype(jnp.bfloat16), (4,), KEY).dtype == jnp.bfloat16


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("generator", ["pseudorandom", "random"])
def test_regions_do_not_depend_on_the_spread_over_devices(generator, per_example):
    image = RNG.permutation(13 * 13).reshape(13, 13, 1).astype(np.float32)
    x = jnp.broadcast_to(image, (8, 13, 13, 1))
    pool = functools.partial(
        fractional_max_pool, pooled=(9, 9), generator=generator, per_example=per_example
    )
    whole = jax.jit(lambda x, key: pool(x, key=key))(x, KEY)
    spread = jax.pmap(lambda x, key: pool(x, key=key), axis_name=DATA_AXIS, in_axes=(0, None))(
        x.reshape(4, 2, 13, 13, 1), KEY
    )
    np.testing.assert_array_equal(spread.reshape(whole.shape), whole)
    different = len({np.asarray(whole[i]).tobytes() for i in range(8)})
    assert different > 4 if per_example else different == 1
    other = pool(x, key=jax.random.fold_in(KEY, 1))
    assert not np.array_equal(other, whole)


@pytest.mark.parametrize(
    ("size", "pooled", "arguments", "message"),
    [
        (8, 5, {"generator": "uniform"}, 'pseudorandom, random, got "uniform"'),
        (8, 0, {}, "1 to 8 regions"),
        (8, 9, {"overlapping": False}, "1 to 8 regions on an axis of 8 pixels, got 9"),
        (8, 8, {}, "8 windows of 2 pixels"),
        (12, 5, {}, "cannot cover 12 pixels"),
        (8, 1, {}, "1 windows of 2 pixels"),
        (1, 1, {}, "cannot cover 1 pixels"),
        (70_000, 60_000, {}, "too long"),
    ],
)
def test_impossible_regions(size, pooled, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_regions(KEY, size, pooled, **arguments)


def test_one_output_size_for_each_axis():
    with pytest.raises(ValueError, match=r"spatial shape \(8, 8\), got \(5,\)"):
        fractional_max_pool(jnp.zeros((1, 8, 8, 1)), (5,), KEY)
    with pytest.raises(ValueError, match="each of 2 spatial axes, got 1"):
        pool_regions(jnp.zeros((1, 8, 8, 1)), [draw_regions(KEY, 8, 6)])
