"""Minimal filtering against a direct convolution, and where `convolve` takes which."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax import switches
from rcnn_jax.errors import UsageError
from rcnn_jax.layers.convolution import conv_general_dilated, convolve
from rcnn_jax.layers.winograd import winograd_convolve, winograd_pays


def direct(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(shape, window, dtype=np.float64):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=shape), rng.normal(size=(*window, shape[-1], 5))
    return jnp.asarray(x.astype(dtype)), jnp.asarray(kernel.astype(dtype))


@pytest.mark.parametrize("height", [1, 3, 5])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 17])
def test_values_and_gradients_are_those_of_a_direct_convolution(columns, height, x64):
    x, kernel = arrays((2, 6, columns, 3), (height, 3))
    y, pull = jax.vjp(winograd_convolve, x, kernel)
    expected, pull_expected = jax.vjp(direct, x, kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    g = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
    for ours, theirs in zip(pull(g), pull_expected(g), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("columns", [16, 6])
def test_in_float32_it_rounds_as_much_as_a_direct_convolution(columns):
    """Against float64: at most four times as much, and below 1e-6."""
    x, kernel = arrays((4, 16, columns, 96), (3, 3), np.float32)
    exact = np.zeros((4, 16, columns, 5))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            exact += padded[:, i : i + 16, j : j + columns] @ np.asarray(kernel[i, j], np.float64)

    def error(y):
        return np.linalg.norm(y - exact) / np.linalg.norm(exact)

    ours, theirs = error(winograd_convolve(x, kernel)), error(direct(x, kernel))
    assert ours < 1e-6
    assert ours < 4 * theirs


def test_it_is_batched_and_checkpointed(x64):
    x, kernel = arrays((3, 2, 4, 8, 3), (3, 3))
    ours = jax.vmap(winograd_convolve, (0, None))(x, kernel)
    np.testing.assert_allclose(ours, jax.vmap(direct, (0, None))(x, kernel), atol=1e-11)
    loss = lambda convolution: lambda k: jnp.sum(convolution(x[0], k) ** 2)  # noqa: E731
    ours = jax.grad(jax.checkpoint(loss(winograd_convolve)))(kernel)
    np.testing.assert_allclose(ours, jax.grad(loss(direct))(kernel), rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "window", "pays"),
    [
        ((128, 16, 16, 96), (3, 3, 96, 96), True),
        ((128, 12, 6, 48), (3, 3, 48, 96), True),
        ((128, 32, 32, 3), (5, 5, 3, 96), False),
        ((128, 32, 32, 3), (3, 3, 3, 96), False),
        ((128, 16, 16, 32), (3, 3, 32, 32), False),
        ((128, 16, 5, 96), (3, 3, 96, 96), True),
        ((128, 16, 2, 96), (3, 3, 96, 96), False),  # six products where a direct one takes six
        ((1, 14, 14, 512), (3, 3, 512, 512), False),  # 196 places, a kernel of 2,359,296
        ((4, 14, 14, 512), (3, 3, 512, 512), True),
        ((128, 16, 16, 96), (2, 3, 96, 96), False),
        ((128, 16, 96), (3, 96, 96), False),
    ],
)
def test_where_it_pays(shape, window, pays):
    assert winograd_pays(shape, window) is pays


def convolutions_of(function, *arguments):
    """How many convolutions the traced program states."""
    return str(jax.make_jaxpr(function)(*arguments)).count("conv_general_dilated[")


def image_and_kernel(dtype, columns=8):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in ((2, 8, columns, 64), (3, 3, 64, 64))]


@pytest.mark.parametrize(
    ("columns", "tile"), [(4, 4), (5, 6), (6, 6), (7, 4), (8, 4), (12, 4), (16, 4), (17, 6)]
)
def test_tiles_of_6_are_taken_where_they_save_a_fifth_of_the_products(columns, tile):
    assert convolutions_of(winograd_convolve, *image_and_kernel("float32", columns)) == tile + 2


@pytest.mark.parametrize(
    ("dtype", "switch", "in_loop", "convolutions"),
    [
        ("float32", "1", False, 6),
        ("float32", "0", False, 1),
        ("float32", "1", True, 1),
        ("bfloat16", "1", False, 1),
    ],
)
def test_convolve_takes_it_on_a_cpu_in_float32(dtype, switch, in_loop, convolutions, monkeypatch):
    monkeypatch.setenv(switches.WINOGRAD, switch)
    taken = functools.partial(convolve, in_loop=in_loop)
    assert convolutions_of(taken, *image_and_kernel(dtype)) == convolutions


def test_a_switch_that_is_neither_on_nor_off_is_named(monkeypatch):
    monkeypatch.setenv(switches.WINOGRAD, "off")
    with pytest.raises(UsageError, match=re.escape("RCNN_JAX_WINOGRAD='off' must be 0 (direct")):
        convolutions_of(functools.partial(convolve), *image_and_kernel("float32"))


def test_other_devices_have_algorithms_of_their_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert convolutions_of(functools.partial(convolve), *image_and_kernel("float32")) == 1


@pytest.mark.parametrize(
    ("shape", "window", "named"),
    [
        ((1, 4, 4, 2), (3, 5, 2, 2), "(3, 5, 2, 2)"),
        ((1, 4, 4, 2), (2, 3, 2, 2), "(2, 3, 2, 2)"),
        ((1, 4, 4, 3), (3, 3, 2, 2), "(1, 4, 4, 3)"),
    ],
)
def test_what_it_cannot_take_is_named(shape, window, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        winograd_convolve(jnp.zeros(shape), jnp.zeros(window))


@pytest.mark.parametrize(
    ("options", "convolutions"),
    [
        ({}, 6),
        ({"padding": 1}, 6),
        ({"padding": "VALID"}, 1),
        ({"padding": 2, "kernel_dilation": 2}, 1),
        ({"padding": ((1, 2), (1, 1))}, 1),
        ({"strides": 2}, 1),
        ({"feature_group_count": 2, "features": 128}, 1),
        ({"padding": 1, "input_dilation": 2}, 1),
        ({"precision": "highest"}, 1),
        ({"dtype": jnp.bfloat16}, 1),
    ],
)
def test_a_linen_convolution_takes_it_where_it_is_one_of_stride_1(options, convolutions):
    options = {"features": 64} | options
    ours = nn.Conv(kernel_size=(3, 3), conv_general_dilated=conv_general_dilated, **options)
    theirs = nn.Conv(kernel_size=(3, 3), **options)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 128))
    variables = theirs.init(jax.random.key(0), x)
    assert convolutions_of(ours.apply, variables, x) == convolutions
    wanted = theirs.apply(variables, x)
    np.testing.assert_allclose(ours.apply(variables, x), wanted, rtol=1e-4, atol=1e-5)
