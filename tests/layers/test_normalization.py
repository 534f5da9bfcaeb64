"""Normalization against loops in float64, and batch norm against itself on four devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.layers.normalization import (
    BatchNorm,
    batch_moments,
    batch_normalize,
    group_norm,
    real_rows,
    standardize,
)
from rcnn_jax.layers.randomness import DATA_AXIS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 2, 24)) * 30


@pytest.mark.parametrize("groups", [1, 3, 24])
def test_group_norm(groups, x64):
    scale, bias = RNG.normal(size=(2, 24))
    y = group_norm(jnp.asarray(X), jnp.asarray(scale), jnp.asarray(bias), groups=groups)
    np.testing.assert_allclose(y, oracles.group_norm(X, scale, bias, groups), atol=1e-12)


def test_group_norm_needs_a_divisor():
    one = jnp.ones(24)
    with pytest.raises(ValueError, match="divides the 24 channels, got 5"):
        group_norm(jnp.asarray(X, jnp.float32), one, one, groups=5)


def test_moments_survive_a_large_mean():
    x = (1000 + 1e-2 * RNG.normal(size=(64, 5))).astype(np.float32)
    _, variance = batch_moments(jnp.asarray(x))
    np.testing.assert_allclose(variance, x.astype(np.float64).var(0), rtol=1e-2)


def test_two_values_far_from_zero_are_normalized_exactly():
    """A variance as mean square less squared mean, as in Flax by default, gives -500 and 500."""
    pair = np.array([9999.5, 10000.5], np.float32)
    one, none = jnp.ones(1), jnp.zeros(1)
    rows = jnp.asarray(pair[:, None])
    for mask in (None, jnp.ones(2, bool)):
        y, mean, variance = batch_normalize(rows, one, none, epsilon=1e-5, mask=mask)
        np.testing.assert_allclose(y[:, 0], [-1, 1], rtol=1e-4)
        assert (mean.tolist(), variance.tolist()) == ([10000], [0.25])
    for groups in (1, 2):
        x = jnp.asarray(np.tile(pair, groups)[None])
        y = group_norm(x, jnp.ones(2 * groups), jnp.zeros(2 * groups), groups=groups)
        np.testing.assert_allclose(y[0], np.tile([-1, 1], groups), rtol=1e-4)
    module = BatchNorm(momentum=0.0)
    variables = module.init(jax.random.key(0), rows, train=True)
    y, updated = module.apply(variables, rows, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y[:, 0], [-1, 1], rtol=1e-4)
    y = module.apply(variables | updated, rows, train=False)
    np.testing.assert_allclose(y[:, 0], [-1, 1], rtol=1e-4)


def test_moments_of_bfloat16_are_float32():
    mean, variance = batch_moments(jnp.ones((4, 3), jnp.bfloat16))
    assert mean.dtype == variance.dtype == jnp.float32


def test_batch_norm_records_and_uses_statistics(x64):
    module = BatchNorm(momentum=0.75, epsilon=1e-3, param_dtype="float64")
    x = jnp.asarray(X)
    variables = module.init(jax.random.key(0), x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(24))
    y, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, oracles.batch_norm(X, 1, 0, epsilon=1e-3), atol=1e-12)
    mean, var = 0.25 * X.mean((0, 1, 2)), 0.75 + 0.25 * X.var((0, 1, 2))
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var)
    y = module.apply(variables | updated, x, train=False)
    np.testing.assert_allclose(y, oracles.batch_norm(X, 1, 0, mean, var, 1e-3), atol=1e-12)


def test_the_gradient_of_batch_normalization_is_that_of_its_operations(x64):
    """Of the values and, where a loss asks for them, of the moments too."""
    x, target = jnp.asarray(RNG.normal(size=(2, 8, 3, 4)))
    scale, bias = jnp.asarray(RNG.normal(size=(2, 4)))

    def plainly(x, scale, bias, *, epsilon):
        moments = batch_moments(x)
        return standardize(x, *moments, scale, bias, epsilon=epsilon), *moments

    def loss(normalize, x, scale, bias):
        y, mean, variance = normalize(x, scale, bias, epsilon=1e-3)
        return jnp.sum((y - target) ** 2 * y) + jnp.sum(mean**3) + jnp.sum(variance**2)

    got, wanted = (
        jax.grad(functools.partial(loss, normalize), (0, 1, 2))(x, scale, bias)
        for normalize in (batch_normalize, plainly)
    )
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_batch_norm_on_four_devices_is_that_of_the_whole_batch(x64):
    module = BatchNorm(param_dtype="float64")
    x = jnp.asarray(RNG.normal(size=(8, 3, 4)))
    target = jnp.asarray(RNG.normal(size=x.shape))
    variables = module.init(jax.random.key(0), x, train=False)

    def loss(params, x, target):
        variables_ = variables | {"params": params}
        y, updated = module.apply(variables_, x, train=True, mutable=["batch_stats"])
        return jnp.mean((y - target) ** 2 * y), updated

    grad = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)

    def on_device(params, x, target):
        (value, updated), (by_params, by_x) = grad(params, x, target)
        # The loss of a device is a mean over a quarter of the batch.
        return jax.lax.pmean((value, updated, by_params), DATA_AXIS), by_x / 4

    def split(a):
        return a.reshape(4, 2, *a.shape[1:])

    (value, updated), (by_params, by_x) = jax.jit(grad)(variables["params"], x, target)
    spread, spread_by_x = jax.pmap(on_device, axis_name=DATA_AXIS, in_axes=(None, 0, 0))(
        variables["params"], split(x), split(target)
    )
    for one, many in zip(
        jax.tree.leaves((value, updated, by_params)), jax.tree.leaves(spread), strict=True
    ):
        np.testing.assert_allclose(many[0], one, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(spread_by_x.reshape(x.shape), by_x, rtol=1e-10, atol=1e-14)


def test_padding_does_not_count_in_batch_statistics(x64):
    """Moments and their gradient are those of the real rows alone, on one device and on four."""
    x = np.random.default_rng(1).normal(size=(8, 3, 2, 5)) + 4
    mask = np.array([1.0, 1, 0, 1, 1, 0, 0, 1])

    def total(x, mask):
        with real_rows(mask):
            mean, variance = batch_moments(x)
        return jnp.sum(jnp.arange(5) * mean + variance), (mean, variance)

    def plain(x):
        mean, variance = batch_moments(x)
        return jnp.sum(jnp.arange(5) * mean + variance), (mean, variance)

    got, found = jax.jit(jax.grad(total, has_aux=True))(x, mask)
    wanted, expected = jax.grad(plain, has_aux=True)(x[mask > 0])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(got[mask > 0], wanted, rtol=1e-10)
    np.testing.assert_array_equal(got[mask == 0], 0)
    split = jax.pmap(lambda x, mask: total(x, mask)[1], axis_name=DATA_AXIS)
    moments = split(x.reshape(4, 2, *x.shape[1:]), mask.reshape(4, 2))
    for ours, theirs in zip(moments, expected, strict=True):
        np.testing.assert_allclose(ours, np.broadcast_to(theirs, (4, 5)), rtol=1e-12)


def test_of_nothing_but_padding_the_moments_are_zero():
    with real_rows(jnp.zeros(4)):
        mean, variance = batch_moments(jnp.ones((4, 2)))
    np.testing.assert_array_equal([mean, variance], np.zeros((2, 2)))


def test_nothing_but_padding_leaves_the_running_statistics_alone():
    layer, x = BatchNorm(), jnp.ones((4, 2)) * 5
    variables = layer.init(jax.random.key(0), x, train=True)
    for mask, moved in ((jnp.zeros(4), False), (jnp.array([1.0, 0, 0, 0]), True)):
        with real_rows(mask):
            _, after = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        assert bool((after["batch_stats"]["mean"] != 0).all()) == moved
        assert bool((after["batch_stats"]["var"] != 1).all()) == moved


def test_a_mask_of_another_batch_is_refused():
    with real_rows(jnp.ones(3)), pytest.raises(ValueError, match="of 4 rows, of which real_rows"):
        batch_moments(jnp.ones((4, 2)))


def test_what_is_traced_without_a_mask_is_not_taken_for_what_is_traced_with_one():
    x = jnp.asarray([[0.0], [4.0]])
    mean = jax.jit(lambda x: batch_moments(x)[0])
    assert mean(x) == 2
    with real_rows(jnp.asarray([0.0, 1.0])):
        assert mean(x) == 4
    assert mean(x) == 2
