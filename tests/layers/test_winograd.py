"""Minimal filtering against a direct convolution, and where `convolve` takes which."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.configuration import environment
from rcnn_jax.errors import UsageError
from rcnn_jax.layers import winograd
from rcnn_jax.layers.convolution import conv_general_dilated, convolve
from rcnn_jax.layers.winograd import FILTERS, winograd_convolve, winograd_pays

pytestmark = pytest.mark.one_row


@pytest.fixture(autouse=True)
def _forms_of_xla(monkeypatch):
    """Leaves convolutions to the forms that XLA compiles, of which this module is about."""
    monkeypatch.setenv(environment.KERNELS, "0")


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


# Rounding in float32, for inputs and kernels of independent entries of mean 0 and mean square 1. An
# operation rounds to nearest: its error is uniform within half a unit in the last place, so that
# the relative error has a mean square of at most UNIT**2 / 3. Errors of different operations count
# as uncorrelated (Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM J.
# Sci. Comput. 2019), so that their squares add. In units of UNIT**2 / 3:
#   - a sum of n independent terms of mean square s: an addition that completes k of them errs by
#     k s. Over the additions, k sums to at most n (n + 1) / 2 - 1, where one term follows the
#     other; lanes and blocks of any instruction set only make it less. Rounded products add n s
#     (fused multiply-adds have none). Together less than n s (n + 3) / 2;
#   - a combination of t independent terms, as in B' and G: one multiplication a term, and t - 1
#     additions of partial sums no larger than the whole: t times the mean square of the whole;
#   - a combination of t products, as in A'. They are not independent, but no partial sum has a
#     larger root mean square than the sum of theirs: t times the square of that sum.
UNIT = 2.0**-24


def rounding_of_a_sum(terms):
    """Root mean square of the rounding error of a sum of so many products, in any order."""
    return UNIT * np.sqrt(terms * (terms + 3) / 2 / 3)


def rounding_of_a_filter(minimal, terms):
    """The same, for the outputs of F(m, 3) whose products are sums of so many terms."""
    inputs, kernel, outputs = map(np.asarray, (minimal.inputs, minimal.kernel, minimal.outputs))
    products = terms * np.sum(inputs**2, 1) * np.sum(kernel**2, 1)
    before = (terms + 3) / 2 + np.count_nonzero(inputs, 1) + np.count_nonzero(kernel, 1)
    after = np.count_nonzero(outputs, 1) * (np.abs(outputs) @ np.sqrt(products)) ** 2
    return UNIT * np.sqrt(np.mean(outputs**2 @ (products * before) + after) / 3)


CHANNELS = 96


def float32_case(columns):
    """Input, kernel, and what float64 makes of them."""
    x, kernel = arrays((4, 16, columns, CHANNELS), (3, 3), np.float32)
    exact = np.zeros((4, 16, columns, 5))
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            exact += padded[:, i : i + 16, j : j + columns] @ np.asarray(kernel[i, j], np.float64)
    return x, kernel, exact


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@pytest.mark.parametrize(("columns", "tile"), [(16, 4), (6, 6), (18, 6)])
def test_in_float32_it_rounds_no_more_than_its_arithmetic_allows(columns, tile):
    x, kernel, exact = float32_case(columns)
    (minimal,) = [each for each in FILTERS if each.tile == tile]
    allowed = rounding_of_a_filter(minimal, 3 * CHANNELS)
    allowed_directly = rounding_of_a_sum(9 * CHANNELS)
    assert rms(winograd_convolve(x, kernel) - exact) < allowed
    assert rms(direct(x, kernel) - exact) < allowed_directly
    # What the module and the README say of it.
    assert allowed < 3 * allowed_directly
    assert allowed < 2.5e-6 * rms(exact)


@pytest.mark.parametrize(("columns", "position"), [(16, 0), (18, 1)])
@pytest.mark.parametrize("part", ["inputs", "kernel", "outputs"])
def test_a_coefficient_that_is_wrong_by_a_thousandth_exceeds_that(
    part, columns, position, monkeypatch
):
    """Any of them. The result is linear in each, so a larger mistake shows all the more."""
    x, kernel, exact = float32_case(columns)
    minimal = FILTERS[position]
    allowed = rounding_of_a_filter(minimal, 3 * CHANNELS)
    rows = np.asarray(getattr(minimal, part))
    for index in np.argwhere(rows):
        wrong = rows.copy()
        wrong[tuple(index)] *= 1.001
        filters = list(FILTERS)
        filters[position] = minimal._replace(**{part: wrong.tolist()})
        monkeypatch.setattr(winograd, "FILTERS", filters)
        error = rms(winograd_convolve(x, kernel) - exact)
        assert error > 10 * allowed, index


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
    monkeypatch.setenv(environment.WINOGRAD, switch)
    taken = functools.partial(convolve, in_loop=in_loop)
    assert convolutions_of(taken, *image_and_kernel(dtype)) == convolutions


def test_a_switch_that_is_neither_on_nor_off_is_named(monkeypatch):
    monkeypatch.setenv(environment.WINOGRAD, "off")
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
    difference = np.float64(ours.apply(variables, x)) - np.float64(theirs.apply(variables, x))
    # Weights have the mean square 1 / 1152; a layer that takes none of it has no difference at all.
    allowed = rounding_of_a_filter(FILTERS[0], 3 * 128) + rounding_of_a_sum(9 * 128)
    assert rms(difference) < allowed / np.sqrt(9 * 128)


def test_a_program_for_any_number_of_rows_convolves_directly():
    """`winograd_pays` cannot know, and such a program may be meant for a GPU."""
    kernel = jnp.ones((3, 3, 64, 64))
    shape = (*jax.export.symbolic_shape("rows"), 8, 8, 64)
    program = jax.export.export(jax.jit(lambda x: convolve(x, kernel)))(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 64))
    assert program.mlir_module().count("stablehlo.convolution") == 1
    np.testing.assert_array_equal(program.call(x), direct(x, kernel))
