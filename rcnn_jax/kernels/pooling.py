"""Max-pooling over two spatial axes, compiled."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rcnn_jax.kernels.library import ROWS, Call, Result

Pads = Sequence[tuple[int, int]]


@functools.cache
def _pool(pooled: tuple[int, int]) -> Call:
    def shape(x: Array) -> tuple[int, ...]:
        return (x.shape[0], *pooled, x.shape[3])

    return Call("RcnnPool", (ROWS,), (Result(shape), Result(shape, dtype=jnp.int8)))


@functools.cache
def _pool_gradient(spatial: tuple[int, int]) -> Call:
    def shape(gradient: Array, places: Array) -> tuple[int, ...]:
        return (gradient.shape[0], *spatial, gradient.shape[3])

    return Call("RcnnPoolGradient", (ROWS, ROWS), (Result(shape),))


def max_pool(
    x: Float[Array, "batch height width channels"],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
) -> tuple[Float[Array, "batch rows columns channels"], Int[Array, "batch rows columns channels"]]:
    """Computes the largest value of each window and its place.

    Args:
        x: Images `float32[batch, height, width, channels]`, the channels a multiple of 16.
        window: Height and width of the window, of at most 127 places.
        strides: Strides along height and width.
        pads: Pairs of padding (before, after) along height and width, less than the window.

    Returns:
        Maxima `[batch, rows, columns, channels]`, and for each the number of its place in the
        window, in row-major order: the first of several that are equal.
    """
    rows, columns = (
        (size + sum(pad) - side) // stride + 1
        for size, pad, side, stride in zip(x.shape[1:3], pads, window, strides, strict=True)
    )
    geometry = (*window, *strides, *(before for before, _ in pads))
    y, places = _pool((rows, columns))(x, geometry=geometry)
    return y, places


def max_pool_gradient(
    gradient: Float[Array, "batch rows columns channels"],
    places: Int[Array, "batch rows columns channels"],
    spatial: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
) -> Float[Array, "batch height width channels"]:
    """Computes the gradient of `max_pool` with respect to the images.

    Args:
        gradient: Gradient of the maxima, `float32[batch, rows, columns, channels]`.
        places: Places that `max_pool` returned.
        spatial: Height and width of the images.
        window: Height and width of the window.
        strides: Strides along height and width.
        pads: Pairs of padding (before, after) along height and width.
    """
    geometry = (*window, *strides, *(before for before, _ in pads))
    return _pool_gradient(tuple(spatial))(gradient, places, geometry=geometry)[0]
