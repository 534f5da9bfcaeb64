"""Convolution by minimal filtering: four outputs of a window of three from six products.

Winograd's F(4, 3) along the last spatial axis turns a convolution with a window of `[h, 3]` into
six with `[h, 1]` on a quarter of the columns: half the multiplications. Input, output and kernel
are taken there and back by a few additions. Along one axis these are cheap enough on a CPU. Tiles
of 4 x 4 need a quarter of the multiplications, but move 2.25 times the image where one axis moves
1.5 times it, and were slower or no faster than one axis as XLA compiles them.

In float32 the result differs from that of a direct convolution by about as much as two orders of
summation do: a relative 1e-6.

Reference:
    Winograd, Arithmetic complexity of computations, 1980; Lavin & Gray, Fast algorithms for
    convolutional neural networks, CVPR 2016, section 4.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

TILE = 4  # outputs of a tile; it reads TILE + 2 inputs

# F(4, 3) at the points 0, 1, -1, 2, -2 and infinity: outputs = A' [(G kernel) * (B' inputs)].
_INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
_KERNEL = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)


def winograd_pays(shape: Sequence[int], window: Sequence[int]) -> bool:
    """Whether `winograd_convolve` is faster than a direct convolution on a CPU.

    Measured in float32: from 48 channels on, unless the last tile of a row is mostly empty, or the
    image has fewer places than the kernel has channels, so that the kernel's own additions count.

    Args:
        shape: of the input, `[batch, height, width, channels]`.
        window: shape of the kernel, `[h, w, channels, features]`.
    """
    if not _fits(window):
        return False
    batch, height, columns, _ = shape
    return (
        min(window[2:]) >= 48
        and 2 * TILE * _tiles(columns) <= 3 * columns
        and batch * height * columns >= max(window[2:])
    )


@jax.custom_vjp
def winograd_convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "h w inputs features"],
) -> Float[Array, "batch height width features"]:
    """Cross-correlation of stride 1 with zero padding that keeps the spatial shape.

    Args:
        x: input `[batch, height, width, channels]`.
        kernel: `[h, 3, channels, features]`, h odd.

    Returns:
        `[batch, height, width, features]`. Only reverse mode is defined.

    Raises:
        ValueError: the window is not `[odd, 3]`, or the channels differ.
    """
    return _forward(x, kernel)[0]


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[list[Array], Array]]:
    if not _fits(kernel.shape):
        raise ValueError(
            f"F(4, 3) takes a kernel [odd, 3, channels, features], got shape {kernel.shape}"
        )
    if x.ndim != 4 or x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"a kernel of shape {kernel.shape} does not fit an input {x.shape}")
    tiles = _input_tiles(x)
    return _assemble(_products(tiles, _kernel_tiles(kernel)), x.shape[2]), (tiles, kernel)


def _backward(residuals: tuple[list[Array], Array], gradient: Array) -> tuple[Array, Array]:
    tiles, kernel = residuals
    columns = gradient.shape[2]
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(-1, -2)
    input_gradient = winograd_convolve(gradient, flipped)
    # The adjoint of `_assemble`: what each of the six products contributed to.
    places = _every_fourth(gradient, (0, TILE * _tiles(columns) - columns), TILE)
    of_products = [_combine(column, places) for column in zip(*_OUTPUT, strict=True)]
    _, pull = jax.vjp(functools.partial(_products, tiles), _kernel_tiles(kernel))
    (of_kernel,) = pull(of_products)
    taps = [_combine(column, of_kernel) for column in zip(*_KERNEL, strict=True)]
    return input_gradient, jnp.stack(taps, 1)


winograd_convolve.defvjp(_forward, _backward)


def _fits(window: Sequence[int]) -> bool:
    return len(window) == 4 and window[1] == 3 and window[0] % 2 == 1


def _tiles(columns: int) -> int:
    return -(-columns // TILE)


def _combine(row: Sequence[float], arrays: Sequence[Array]) -> Array:
    """The sum of the arrays times the numbers of the row."""
    terms = [
        array if factor == 1 else factor * array
        for factor, array in zip(row, arrays, strict=True)
        if factor
    ]
    return functools.reduce(lax.add, terms)


def _every_fourth(x: Array, padding: tuple[int, int], count: int) -> list[Array]:
    """The columns 0, 4, 8, ... of the padded `x`, then 1, 5, 9, ..., `count` times."""
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), (*padding, 0), (0, 0, 0)])
    reach = TILE * (_tiles(x.shape[2]) - 1) + 1
    return [lax.slice_in_dim(padded, first, first + reach, TILE, axis=2) for first in range(count)]


def _input_tiles(x: Array) -> list[Array]:
    columns = x.shape[2]
    inputs = _every_fourth(x, (1, 1 + TILE * _tiles(columns) - columns), TILE + 2)
    return [_combine(row, inputs) for row in _INPUT]


def _kernel_tiles(kernel: Array) -> list[Array]:
    taps = [kernel[:, tap] for tap in range(3)]
    return [_combine(row, taps) for row in _KERNEL]


def _products(tiles: Sequence[Array], kernels: Sequence[Array]) -> list[Array]:
    """Convolutions along the height, `[batch, height, tiles, features]` each."""
    return [
        lax.conv_general_dilated(
            tile, kernel[:, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for tile, kernel in zip(tiles, kernels, strict=True)
    ]


def _assemble(products: Sequence[Array], columns: int) -> Array:
    """Puts the four outputs of every tile beside each other."""
    outputs = jnp.stack([_combine(row, products) for row in _OUTPUT], 3)
    batch, height, tiles, _, features = outputs.shape
    return outputs.reshape(batch, height, TILE * tiles, features)[:, :, :columns]
