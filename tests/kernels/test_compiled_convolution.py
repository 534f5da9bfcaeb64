"""The compiled convolution against float64 and XLA's form, and as a part of programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcnn_jax.kernels import choice, library
from rcnn_jax.kernels.convolution import convolve_3x3
from rcnn_jax.kernels.patches import convolve_patches
from rcnn_jax.layers.convolution import convolve, direct_convolutions
from rcnn_jax.layers.winograd import winograd_convolve

pytestmark = pytest.mark.skipif(bool(library.problem()), reason=library.problem())


def direct(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(shape, outputs):
    """Images after a relu, a kernel that keeps their size, and an output gradient."""
    rng = np.random.default_rng(sum(shape) + outputs)
    x = np.maximum(rng.normal(size=shape), 0)
    kernel = rng.normal(size=(3, 3, shape[-1], outputs)) / np.sqrt(9 * shape[-1])
    gradient = rng.normal(size=(*shape[:-1], outputs))
    return [array.astype(np.float32) for array in (x, kernel, gradient)]


def all_three(form, x, kernel, gradient):
    y, pull = jax.vjp(form, x, kernel)
    return y, *pull(gradient)


def exact(x, kernel, gradient):
    """Output and gradients in float64."""
    with jax.enable_x64(True):
        wide = [jnp.asarray(array, jnp.float64) for array in (x, kernel, gradient)]
        return [np.asarray(array) for array in jax.jit(functools.partial(all_three, direct))(*wide)]


def distance(found, expected):
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


# Sides that end in a whole tile, in three quarters of one, and in an edge of one or two.
@pytest.mark.parametrize("width", [1, 2, 4, 7, 9])
@pytest.mark.parametrize("height", [1, 3, 6])
def test_values_and_gradients_are_those_of_a_direct_convolution(height, width):
    given = arrays((3, height, width, 32), 48)
    found = jax.jit(functools.partial(all_three, convolve_3x3))(*given)
    for ours, theirs in zip(found, exact(*given), strict=True):
        assert distance(ours, theirs) < 3e-6


@pytest.mark.parametrize("channels", [(16, 16), (96, 96), (64, 144), (16, 240)])
@pytest.mark.parametrize("batch", [1, 7, 40])
def test_any_number_of_images_and_channels(batch, channels):
    given = arrays((batch, 6, 6, channels[0]), channels[1])
    found = jax.jit(functools.partial(all_three, convolve_3x3))(*given)
    for ours, theirs in zip(found, exact(*given), strict=True):
        assert distance(ours, theirs) < 3e-6


@pytest.mark.parametrize("side", [6, 8, 12])
def test_no_further_from_float64_than_the_form_of_xla(side):
    given = arrays((32, side, side, 96), 96)
    expected = exact(*given)
    compiled = jax.jit(functools.partial(all_three, convolve_3x3))(*given)
    by_xla = jax.jit(functools.partial(all_three, winograd_convolve))(*given)
    for ours, theirs, right in zip(compiled, by_xla, expected, strict=True):
        # Tenths come from the numbers that were drawn and from the order of XLA's sums.
        assert distance(ours, right) < 1.15 * distance(theirs, right)


@pytest.mark.parametrize("inputs", [1, 3, 8])
@pytest.mark.parametrize("window", [(5, 5), (1, 3), (7, 1)])
def test_images_with_few_channels(inputs, window):
    rng = np.random.default_rng(inputs)
    x = rng.normal(size=(5, 7, 9, inputs)).astype(np.float32)
    kernel = rng.normal(size=(*window, inputs, 48)).astype(np.float32)
    given = x, kernel, rng.normal(size=(5, 7, 9, 48)).astype(np.float32)
    assert not choice.patches(x, kernel)
    found = jax.jit(functools.partial(all_three, convolve_patches))(*given)
    for ours, theirs in zip(found, exact(*given), strict=True):
        assert distance(ours, theirs) < 1e-6
    assert "RcnnConvolvePatches" in jax.jit(convolve).lower(jnp.asarray(x), kernel).as_text()


def test_the_same_bits_whatever_the_batch_is_cut_into():
    x, kernel, gradient = arrays((24, 7, 10, 32), 32)
    whole = jax.jit(convolve_3x3)(x, kernel)
    each = np.concatenate([jax.jit(convolve_3x3)(x[n : n + 1], kernel) for n in range(len(x))])
    np.testing.assert_array_equal(whole, each)
    step = jax.jit(functools.partial(all_three, convolve_3x3))
    first = step(x, kernel, gradient)
    for _ in range(20):
        for again, before in zip(step(x, kernel, gradient), first, strict=True):
            np.testing.assert_array_equal(again, before)


def test_not_a_number_is_not_lost():
    x, kernel, _ = arrays((2, 9, 9, 32), 32)
    x[1, 4, 4, 0] = np.nan
    y = np.asarray(convolve_3x3(x, kernel))
    assert np.isnan(y[1, 3:6, 3:6]).all()
    assert np.isfinite(y[0]).all()


def test_an_empty_batch():
    given = arrays((0, 5, 5, 32), 32)
    y, x_gradient, kernel_gradient = jax.jit(functools.partial(all_three, convolve_3x3))(*given)
    assert y.shape == x_gradient.shape == (0, 5, 5, 32)
    np.testing.assert_array_equal(kernel_gradient, np.zeros((3, 3, 32, 32)))


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:4]).reshape(4, 1), ("data", "fsdp"))


def test_a_mesh_cuts_it_along_the_batch(mesh):
    given = arrays((8, 6, 6, 32), 32)
    kinds = [PartitionSpec("data"), PartitionSpec(), PartitionSpec("data")]
    spread = [jax.device_put(a, NamedSharding(mesh, k)) for a, k in zip(given, kinds, strict=True)]
    program = jax.jit(functools.partial(all_three, convolve_3x3)).lower(*spread).compile()
    assert "all-gather" not in program.as_text()
    assert "all-reduce" in program.as_text()  # of the kernel's gradient
    y, x_gradient, kernel_gradient = program(*spread)
    assert y.sharding.spec[0] == x_gradient.sharding.spec[0] == "data"
    assert kernel_gradient.sharding.is_fully_replicated
    for ours, theirs in zip((y, x_gradient, kernel_gradient), exact(*given), strict=True):
        assert distance(ours, theirs) < 3e-6


def test_replicated_images_stay_replicated(mesh):
    given = arrays((3, 6, 6, 32), 32)
    spread = [jax.device_put(a, NamedSharding(mesh, PartitionSpec())) for a in given]
    found = jax.jit(functools.partial(all_three, convolve_3x3))(*spread)
    for ours, theirs in zip(found, exact(*given), strict=True):
        assert distance(ours, theirs) < 3e-6


@pytest.mark.parametrize("check", [True, False])
def test_shard_map_and_pmap(mesh, check):
    x, kernel, gradient = arrays((8, 6, 6, 32), 32)
    expected = exact(x, kernel, gradient)

    def local(x, kernel, gradient):
        y, x_gradient, kernel_gradient = all_three(convolve_3x3, x, kernel, gradient)
        return y, x_gradient, kernel_gradient if check else lax.psum(kernel_gradient, "data")

    rows, whole = PartitionSpec("data"), PartitionSpec()
    found = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(rows, whole, rows),
        out_specs=(rows, rows, whole),
        check_vma=check,
    )(x, kernel, gradient)
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) < 3e-6
    y = jax.pmap(convolve_3x3, in_axes=(0, None))(x.reshape(4, 2, 6, 6, 32), kernel)
    assert distance(y.reshape(x.shape), expected[0]) < 3e-6


def test_inside_vmap_remat_and_a_loop():
    given = arrays((2, 5, 6, 32), 32)
    step = functools.partial(all_three, convolve_3x3)
    once = jax.jit(step)(*given)
    mapped = jax.vmap(step, in_axes=(0, None, None))(
        jnp.stack([given[0], 2 * given[0]]), *given[1:]
    )
    np.testing.assert_allclose(mapped[0][1], 2 * once[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mapped[2][1], 2 * once[2], rtol=1e-5, atol=1e-4)
    again = jax.jit(functools.partial(all_three, jax.checkpoint(convolve_3x3)))(*given)
    for ours, theirs in zip(again, once, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    def iterated(x, kernel, unroll):
        return lax.scan(lambda x, _: (convolve_3x3(x, kernel), None), x, length=3, unroll=unroll)[0]

    loop, unrolled = (
        jax.jit(functools.partial(all_three, functools.partial(iterated, unroll=unroll)))(*given)
        for unroll in (1, 3)
    )
    for ours, theirs in zip(loop, unrolled, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_forward_mode_says_that_there_is_none():
    x, kernel, _ = arrays((1, 4, 4, 32), 32)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(convolve_3x3, (x, kernel), (x, kernel))


@pytest.mark.parametrize(
    ("x", "kernel", "reason"),
    [
        ((2, 8, 8, 32), (3, 3, 32, 64), ""),
        ((2, 8, 8, 32), (5, 5, 32, 32), "a window of 5 x 5, not 3 x 3"),
        ((2, 8, 32), (3, 32, 32), "a window of 3, not 3 x 3"),
        ((2, 8, 8, 32), (3, 3, 32, 40), "32 and 40 channels, no multiples of 16 from 32 on"),
        ((2, 8, 8, 16), (3, 3, 16, 32), "16 and 32 channels, no multiples of 16 from 32 on"),
        ((2, 2, 2, 32), (3, 3, 32, 32), "8 pixels, fewer than channels"),
    ],
)
def test_the_rule_says_why_not(x, kernel, reason):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel)]
    assert choice.convolution(*shapes) == reason


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_dtypes_take_the_form_of_xla(dtype):
    with jax.enable_x64(True):
        x, kernel = (jnp.zeros(s, dtype) for s in ((2, 8, 8, 32), (3, 3, 32, 32)))
        assert choice.convolution(x, kernel) == f"{dtype}, not float32"
        assert "ffi_call" not in str(jax.make_jaxpr(convolve)(x, kernel))


def test_switches_of_the_form(monkeypatch):
    x, kernel = jnp.zeros((2, 8, 8, 32)), jnp.zeros((3, 3, 32, 32))

    def compiled():
        return "RcnnConvolve" in jax.jit(lambda *a: convolve(*a)).lower(x, kernel).as_text()

    assert compiled()
    with direct_convolutions():
        assert not compiled()
    with library.forms_of_xla():
        assert not compiled()
    assert compiled()
    monkeypatch.setenv("RCNN_JAX_KERNELS", "0")
    assert not compiled()


def test_a_program_of_a_fixed_batch_is_exported():
    x, kernel, _ = arrays((2, 8, 8, 32), 32)
    with library.forms_of_xla():
        exported = export.export(jax.jit(lambda *given: convolve(*given)))(x, kernel)
    program = export.deserialize(bytearray(exported.serialize()))
    assert distance(program.call(x, kernel), exact(x, kernel, x)[0]) < 1e-6
