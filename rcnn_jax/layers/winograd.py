"""Convolution by minimal filtering: m outputs of a window of three from m + 2 products.

Winograd's F(m, 3) along the last spatial axis turns a convolution with a window of `[h, 3]` into m
+ 2 convolutions with `[h, 1]` on an m-th of the columns: half the multiplications for m = 4, four
ninths of them for m = 6. Input, output and kernel are transformed by a few additions. Along one
axis these are cheap enough on a CPU. Tiles of 4 x 4 need a quarter of the multiplications, but move
2.25 times the image where one axis moves 1.5 times it, and were slower or no faster than one axis
as XLA compiles them.

In float32 rounding errors are at most three times those of a direct convolution: a relative 2.5e-6
or less at 96 channels, regardless of the order in which the CPU's instructions sum, and growing
with the square root of the number of channels. The tests derive this from the coefficients.

References:
    Winograd, Arithmetic complexity of computations, 1980; Lavin & Gray, Fast algorithms for
    convolutional neural networks, CVPR 2016, section 4.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class _Filter(NamedTuple):
    """Matrices of F(tile, 3): outputs = A' [(G kernel) * (B' inputs)] from `tile` + 2 inputs.

    Attributes:
        tile: Number of outputs of a tile.
        inputs: Matrix B' of the input transform, one row for each product.
        kernel: Matrix G of the kernel transform, one row for each product.
        outputs: Matrix A' of the output transform, one row for each output.
    """

    tile: int
    inputs: tuple[tuple[float, ...], ...]
    kernel: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]

    def tiles(self, columns: int) -> int:
        """Returns the number of tiles that cover a row; the last may extend beyond it."""
        return -(-columns // self.tile)

    def products(self, columns: int) -> int:
        """Returns the number of products of a row, for each tap along the height."""
        return self.tiles(columns) * (self.tile + 2)


FILTERS = (
    _Filter(  # at the points 0, 1, -1, 2, -2 and infinity
        4,
        inputs=(
            (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
            (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
            (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
            (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
            (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
            (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
        ),
        kernel=(
            (1 / 4, 0.0, 0.0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0.0, 0.0, 1.0),
        ),
        outputs=(
            (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
            (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
            (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
            (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
        ),
    ),
    _Filter(  # at the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity
        6,
        inputs=(
            (1.0, 0.0, -21 / 4, 0.0, 21 / 4, 0.0, -1.0, 0.0),
            (0.0, 1.0, 1.0, -17 / 4, -17 / 4, 1.0, 1.0, 0.0),
            (0.0, -1.0, 1.0, 17 / 4, -17 / 4, -1.0, 1.0, 0.0),
            (0.0, 1 / 2, 1 / 4, -5 / 2, -5 / 4, 2.0, 1.0, 0.0),
            (0.0, -1 / 2, 1 / 4, 5 / 2, -5 / 4, -2.0, 1.0, 0.0),
            (0.0, 2.0, 4.0, -5 / 2, -5.0, 1 / 2, 1.0, 0.0),
            (0.0, -2.0, 4.0, 5 / 2, -5.0, -1 / 2, 1.0, 0.0),
            (0.0, -1.0, 0.0, 21 / 4, 0.0, -21 / 4, 0.0, 1.0),
        ),
        kernel=(
            (1.0, 0.0, 0.0),
            (-2 / 9, -2 / 9, -2 / 9),
            (-2 / 9, 2 / 9, -2 / 9),
            (1 / 90, 1 / 45, 2 / 45),
            (1 / 90, -1 / 45, 2 / 45),
            (32 / 45, 16 / 45, 8 / 45),
            (32 / 45, -16 / 45, 8 / 45),
            (0.0, 0.0, 1.0),
        ),
        outputs=(
            (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
            (0.0, 1.0, -1.0, 2.0, -2.0, 1 / 2, -1 / 2, 0.0),
            (0.0, 1.0, 1.0, 4.0, 4.0, 1 / 4, 1 / 4, 0.0),
            (0.0, 1.0, -1.0, 8.0, -8.0, 1 / 8, -1 / 8, 0.0),
            (0.0, 1.0, 1.0, 16.0, 16.0, 1 / 16, 1 / 16, 0.0),
            (0.0, 1.0, -1.0, 32.0, -32.0, 1 / 32, -1 / 32, 1.0),
        ),
    ),
)


def _best_filter(columns: int) -> _Filter:
    """Returns F(6, 3) if it saves a fifth of the products of F(4, 3), as in rows of 5 and 6.

    If it saves less, as in rows of 12, its additions cost as much (measured).
    """
    small, large = FILTERS
    return large if 5 * large.products(columns) <= 4 * small.products(columns) else small


def winograd_pays(shape: Sequence[int], window: Sequence[int]) -> bool:
    """Returns whether `winograd_convolve` is faster than a direct convolution on a CPU.

    Measured in float32, it is faster from 48 channels on, with two exceptions: if so much of the
    last tile of a row is empty that more than three quarters of the products remain, or if the
    image has fewer positions than the kernel has channels, so that the additions of the kernel
    transform dominate.

    Args:
        shape: Shape of the input, `(batch, height, width, channels)`.
        window: Shape of the kernel, `(h, w, channels, features)`.

    Example:
        >>> from rcnn_jax.layers.winograd import winograd_pays
        >>> winograd_pays((16, 32, 32, 96), (3, 3, 96, 96))
        True
        >>> winograd_pays((16, 32, 32, 3), (3, 3, 3, 96))
        False
    """
    if not _fits(window):
        return False
    batch, height, columns, _ = shape
    return (
        min(window[2:]) >= 48
        and _best_filter(columns).products(columns) <= 3 / 4 * 3 * columns
        and batch * height * columns >= max(window[2:])
    )


@jax.custom_vjp
def winograd_convolve(
    x: Float[Array, "batch height width channels"],
    kernel: Float[Array, "h w inputs features"],
) -> Float[Array, "batch height width features"]:
    """Computes a cross-correlation of stride 1 with zero padding that keeps the spatial shape.

    Args:
        x: Input `[batch, height, width, channels]`.
        kernel: Kernel `[h, 3, channels, features]` with odd h.

    Returns:
        Output `[batch, height, width, features]`. Only reverse-mode differentiation is defined.

    Raises:
        ValueError: If the window is not `[odd, 3]`, or the numbers of channels differ.
    """
    return _forward(x, kernel)[0]


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[list[Array], Array]]:
    if not _fits(kernel.shape):
        raise ValueError(
            f"F(m, 3) takes a kernel [odd, 3, channels, features], got shape {kernel.shape}"
        )
    if x.ndim != 4 or x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"a kernel of shape {kernel.shape} does not fit an input {x.shape}")
    minimal = _best_filter(x.shape[2])
    tiles = _input_tiles(x, minimal)
    products = _products(tiles, _kernel_tiles(kernel, minimal))
    return _assemble(products, x.shape[2], minimal), (tiles, kernel)


def _backward(residuals: tuple[list[Array], Array], gradient: Array) -> tuple[Array, Array]:
    tiles, kernel = residuals
    columns = gradient.shape[2]
    minimal = _best_filter(columns)
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(-1, -2)
    input_gradient = winograd_convolve(gradient, flipped)
    # The adjoint of `_assemble`: the gradient with respect to each of the products.
    places = _columns_of_tiles(gradient, minimal, before=0, count=minimal.tile)
    product_gradients = [_combine(column, places) for column in zip(*minimal.outputs, strict=True)]
    _, pull = jax.vjp(functools.partial(_products, tiles), _kernel_tiles(kernel, minimal))
    (kernel_gradients,) = pull(product_gradients)
    taps = [_combine(column, kernel_gradients) for column in zip(*minimal.kernel, strict=True)]
    return input_gradient, jnp.stack(taps, 1)


winograd_convolve.defvjp(_forward, _backward)


def _fits(window: Sequence[int]) -> bool:
    """Returns whether a kernel of this shape has a window `[odd, 3]` over two spatial axes."""
    return len(window) == 4 and window[1] == 3 and window[0] % 2 == 1


def _combine(row: Sequence[float], arrays: Sequence[Array]) -> Array:
    """Computes the sum of the arrays weighted by the numbers of the row."""
    terms = [
        array if factor == 1 else factor * array
        for factor, array in zip(row, arrays, strict=True)
        if factor
    ]
    return functools.reduce(lax.add, terms)


def _columns_of_tiles(x: Array, minimal: _Filter, before: int, count: int) -> list[Array]:
    """Returns the first column of every tile, then the second, and so on, `count` arrays in all.

    The image is padded with zeros, `before` columns of them on the left.
    """
    columns, tile = x.shape[2], minimal.tile
    last = tile * (minimal.tiles(columns) - 1)  # where the last tile begins
    around = (before, last + count - before - columns, 0)
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), around, (0, 0, 0)])
    return [
        lax.slice_in_dim(padded, first, first + last + 1, tile, axis=2) for first in range(count)
    ]


def _input_tiles(x: Array, minimal: _Filter) -> list[Array]:
    """Computes the input transform B' of all tiles, one array for each product."""
    inputs = _columns_of_tiles(x, minimal, before=1, count=minimal.tile + 2)
    return [_combine(row, inputs) for row in minimal.inputs]


def _kernel_tiles(kernel: Array, minimal: _Filter) -> list[Array]:
    """Computes the kernel transform G, one array for each product."""
    taps = [kernel[:, tap] for tap in range(3)]
    return [_combine(row, taps) for row in minimal.kernel]


def _products(tiles: Sequence[Array], kernels: Sequence[Array]) -> list[Array]:
    """Computes convolutions along the height, `[batch, height, tiles, features]` each."""
    return [
        lax.conv_general_dilated(
            tile, kernel[:, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for tile, kernel in zip(tiles, kernels, strict=True)
    ]


def _assemble(products: Sequence[Array], columns: int, minimal: _Filter) -> Array:
    """Computes the output transform A' and joins the outputs of all tiles to rows."""
    outputs = jnp.stack([_combine(row, products) for row in minimal.outputs], 3)
    batch, height, tiles, tile, features = outputs.shape
    return outputs.reshape(batch, height, tile * tiles, features)[:, :, :columns]
