"""Convolution as the tutorials teach it: what sizes come out, and of what it is a special case."""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.convolution import convolve
from rcnn_jax.layers.pooling import avg_pool, max_pool
from rcnn_jax.summary.convolutions import EXAMPLES, MEGAPIXEL, convolution_table, tied_matrix

RNG = np.random.default_rng(0)


def slow_conv(x, kernel, strides=(1, 1), pads=(0, 0), dilation=(1, 1), groups=1, mode="constant"):
    """Every output pixel as a sum over window, channels of its group, and nothing else."""
    x = np.pad(x, ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)), mode=mode)
    reach = [d * (w - 1) + 1 for d, w in zip(dilation, kernel.shape[:2], strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:3], reach, strides, strict=True)]
    features, inside = kernel.shape[-1], kernel.shape[2]
    y = np.zeros((x.shape[0], *out, features))
    for i, j, f in itertools.product(*map(range, y.shape[1:])):
        first = inside * (f // (features // groups))
        rows = slice(i * strides[0], i * strides[0] + reach[0], dilation[0])
        columns = slice(j * strides[1], j * strides[1] + reach[1], dilation[1])
        patch = x[:, rows, columns, first : first + inside]
        y[:, i, j, f] = (patch * kernel[..., f]).sum((1, 2, 3))
    return y


CASES = [
    # size, channels, features, window, stride, padding, dilation, groups
    ((7, 7), 1, 1, (3, 3), (1, 1), (0, 0), (1, 1), 1),
    ((5, 5), 3, 2, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((6, 6), 1, 2, (3, 3), (1, 1), (0, 0), (1, 1), 1),
    ((10, 6), 2, 4, (3, 5), (2, 1), (4, 2), (1, 1), 1),
    ((10, 6), 2, 4, (3, 5), (2, 1), (4, 2), (3, 1), 1),
    ((6, 5), 4, 6, (2, 3), (1, 2), (0, 1), (1, 2), 2),
    ((6, 5), 4, 4, (3, 3), (1, 1), (1, 1), (1, 1), 4),
    ((4, 9), 3, 5, (1, 1), (1, 1), (0, 0), (1, 1), 1),
]


@pytest.mark.parametrize(
    ("size", "channels", "features", "window", "stride", "pads", "dilation", "groups"), CASES
)
def test_every_pixel(size, channels, features, window, stride, pads, dilation, groups):
    x = RNG.normal(size=(2, *size, channels)).astype(np.float32)
    kernel = RNG.normal(size=(*window, channels // groups, features)).astype(np.float32)
    layer = nn.Conv(
        features,
        window,
        strides=stride,
        padding=[(p, p) for p in pads],
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
    )
    y = layer.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(
        y, slow_conv(x, kernel, stride, pads, dilation, groups), rtol=1e-4, atol=1e-4
    )
    # The textbook's formula, with a window that dilation has spread.
    formula = [
        (n + 2 * p - d * (w - 1) - 1) // s + 1
        for n, p, d, w, s in zip(size, pads, dilation, window, stride, strict=True)
    ]
    assert y.shape == (2, *formula, features)


@pytest.mark.parametrize(("padding", "mode"), [("REFLECT", "reflect"), ("CIRCULAR", "wrap")])
def test_other_paddings(padding, mode):
    x = RNG.normal(size=(2, 5, 6, 2)).astype(np.float32)
    kernel = RNG.normal(size=(3, 3, 2, 3)).astype(np.float32)
    y = nn.Conv(3, (3, 3), padding=padding, use_bias=False).apply({"params": {"kernel": kernel}}, x)
    expected = slow_conv(x, kernel, pads=(1, 1), mode=mode)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    zeros = slow_conv(x, kernel, pads=(1, 1))
    np.testing.assert_allclose(y[:, 1:-1, 1:-1], zeros[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)
    assert not np.allclose(y[:, 0], zeros[:, 0], atol=0.1)


# What the tutorials say comes out, and how many weights it takes.
WORKED = {
    "two filters": ((3, 3, 2), 54),
    "conv and pool": ((2, 2, 2), 18),
    "square window": ((24, 49, 33), 9 * 16 * 33),
    "oblong window": ((28, 100, 33), 15 * 16 * 33),
    "same, dilated": ((26, 100, 33), 15 * 16 * 33),
    "no padding": ((6, 6, 8), 9 * 4 * 8),
    "zeros around": ((8, 8, 8), 9 * 4 * 8),
    "reflection": ((8, 8, 8), 9 * 4 * 8),
    "circular": ((8, 8, 8), 9 * 4 * 8),
    "two groups": ((8, 8, 8), 9 * 4 * 8 // 2),
    "depthwise": ((8, 8, 8), 9 * 4 * 8 // 4),
    "1x1 window": ((8, 8, 8), 4 * 8),
    "RCL x4": ((8, 8, 8), 9 * 4 * 8 + 9 * 8 * 8),
    "max-pool": ((15, 15, 8), 0),
    "max-pool CEIL": ((16, 16, 8), 0),
    "average pool": ((16, 16, 8), 0),
}
# K = 1000: a million pixels; local windows are 10x10, one for each of a million units.
SAVED = {
    "fully connected, 10^6 units": 10**12,
    "locally connected, 10^6 units of 10x10": 10**8,
    "convolution, 100 filters of 100x100": 10**6,
    "convolution, one filter of 10x10": 100,
}


def test_worked_examples():
    found = {example.name: (example.shapes[0], example.weights) for example in EXAMPLES}
    assert found == WORKED


def test_what_locality_and_tying_save_on_a_megapixel():
    assert {example.name: example.weights for example in MEGAPIXEL} == SAVED
    assert [math.prod(example.input) for example in MEGAPIXEL] == [10**6] * 4


def test_the_table_shows_every_example_with_its_options():
    lines = {" ".join(line.split()) for line in convolution_table().splitlines()}
    assert "same, dilated 50x100x16 3x5x16x33 s=2x1 p=4x2 d=3x1 26x100x33 7,920" in lines
    assert "two groups 8x8x4 3x3x2x8 p=1 g=2 8x8x8 144" in lines
    assert "RCL x4 8x8x4 3x3x4x8+3x3x8x8 p=1 8x8x8 864" in lines
    assert "fully connected, 10^6 units 1,000,000,000,000" in lines
    assert "entries 780 are not zero, and only 54 numbers fill them." in lines
    assert all(any(line.startswith(name) for line in lines) for name in WORKED)


def test_max_and_average_pooling_by_hand():
    x = jnp.asarray([[1, 2, 3, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], jnp.float32)
    x = x[None, :, :, None]
    np.testing.assert_array_equal(max_pool(x, (2, 2), (2, 2))[0, ..., 0], [[6, 8], [3, 4]])
    np.testing.assert_array_equal(avg_pool(x, (2, 2), (2, 2))[0, ..., 0], [[3.5, 5.5], [2, 2]])
    np.testing.assert_array_equal(max_pool(x, (3, 3), (1, 1))[0, ..., 0], [[7, 8], [7, 8]])
    # An average is a convolution with equal weights; a maximum is none.
    kernel = np.full((2, 2, 1, 1), 0.25)
    expected = slow_conv(np.asarray(x), kernel, strides=(2, 2))
    np.testing.assert_allclose(avg_pool(x, (2, 2), (2, 2)), expected)


def test_a_convolution_is_a_sparse_dense_layer_with_tied_weights(x64):
    size, window, channels, features = (5, 4), (3, 3), 2, 3
    x = jnp.asarray(RNG.normal(size=(4, *size, channels)))
    kernel = jnp.asarray(RNG.normal(size=(*window, channels, features)))
    weights = RNG.normal(size=(4, *size, features))
    index = tied_matrix(size, window, channels, features)

    def dense(x, matrix):
        return (x.reshape(4, -1) @ matrix).reshape(4, *size, features)

    matrix = jnp.where(index >= 0, kernel.ravel()[index], 0.0)
    np.testing.assert_allclose(convolve(x, kernel), dense(x, matrix), atol=1e-12)

    def scored(function):
        return jax.grad(lambda x, w: jnp.sum(function(x, w) * weights), argnums=(0, 1))

    by_x, by_kernel = scored(convolve)(x, kernel)
    dense_by_x, by_matrix = scored(dense)(x, matrix)
    np.testing.assert_allclose(by_x, dense_by_x, atol=1e-12)
    # Tying adds up the gradients of all places where a weight stands.
    summed = np.bincount(index[index >= 0], np.asarray(by_matrix)[index >= 0])
    np.testing.assert_allclose(by_kernel.ravel(), summed, atol=1e-11)
    # Sparse: of 40 x 60 entries those within a window; 54 numbers fill them.
    assert index.shape == (40, 60)
    assert (index >= 0).sum() == 13 * 10 * 6  # sum over rows (3·5-2), columns (3·4-2), maps
    assert len(np.unique(index)) - 1 == kernel.size == 54


def test_shifting_the_image_shifts_the_maps():
    x = np.zeros((1, 9, 9, 2), np.float32)
    x[:, 3:6, 3:6] = RNG.normal(size=(1, 3, 3, 2))
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32)
    moved = convolve(jnp.asarray(np.roll(x, (1, -2), (1, 2))), kernel)
    np.testing.assert_allclose(
        moved, np.roll(convolve(jnp.asarray(x), kernel), (1, -2), (1, 2)), atol=1e-5
    )
