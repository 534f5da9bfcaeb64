"""Pooling over windows of any number of spatial axes, channels last.

Max-pooling defines its own backward pass: reverse mode through `lax.reduce_window` becomes a
select-and-scatter, which is the slowest operation of a small network on a CPU.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from rcnn_jax.kernels import choice, forms
from rcnn_jax.kernels import pooling as compiled

Pads = tuple[tuple[int, int], ...]
Padding = str | Sequence[tuple[int, int]]


def pool_padding(
    sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> Pads:
    """Resolves a padding rule to (before, after) pairs, one for each spatial axis.

    Args:
        sizes: Spatial sizes of the input.
        window: Window size along each spatial axis.
        strides: Stride along each spatial axis.
        padding: Padding rule, or explicit (before, after) pairs. `"VALID"` uses only windows inside
            the input. `"SAME"` gives `ceil(size / stride)` outputs and splits the padding over both
            ends, as TensorFlow does. `"CEIL"` starts the first window at the first pixel and lets
            the last one extend beyond the end, as cuda-convnet, Caffe and the ceil mode of PyTorch
            do; a window that would begin beyond the last pixel is left out, which occurs only if
            strides are larger than windows. On sizes divisible by the stride, `"CEIL"` and `"SAME"`
            give the same windows of size `stride + 1`: 32 -> 16 -> 8 and 24 -> 12 -> 6 for 3/2.

    Returns:
        One (before, after) pair for each spatial axis. Every window contains a pixel.

    Raises:
        ValueError: If ranks differ, a size is not positive, a rule is unknown, no window fits, or a
            window would contain only padding.

    Example:
        >>> from rcnn_jax.layers.pooling import pool_padding
        >>> pool_padding((32, 24), (3, 3), (2, 2), "CEIL")
        ((0, 1), (0, 1))
    """
    if not len(sizes) == len(window) == len(strides):
        raise ValueError(
            f"pooling needs one window and one stride per spatial axis, got window {tuple(window)} "
            f"and strides {tuple(strides)} for spatial shape {tuple(sizes)}"
        )
    if min(*window, *strides, 1) < 1:
        raise ValueError(
            f"pooling windows and strides must be at least 1, got window {tuple(window)} and "
            f"strides {tuple(strides)}"
        )
    if not isinstance(padding, str):
        pads = tuple((before, after) for before, after in padding)
        if len(pads) != len(sizes) or any(min(pad) < 0 for pad in pads):
            raise ValueError(
                f"pooling padding must be one (before, after) pair of numbers >= 0 per spatial "
                f"axis, got {pads} for spatial shape {tuple(sizes)}"
            )
    elif padding == "VALID":
        pads = ((0, 0),) * len(sizes)
    elif padding == "SAME":
        pads = tuple(lax.padtype_to_pads(sizes, window, strides, "SAME"))
    elif padding == "CEIL":
        # Counts windows until one reaches the end, of which the last must begin inside.
        outputs = [
            min(max(-(-(n - w) // s), 0) + 1, -(-n // s))
            for n, w, s in zip(sizes, window, strides, strict=True)
        ]
        pads = tuple(
            (0, max((o - 1) * s + w - n, 0))
            for o, n, w, s in zip(outputs, sizes, window, strides, strict=True)
        )
    else:
        raise ValueError(f'pooling padding must be "SAME", "CEIL" or "VALID", got "{padding}"')
    for n, w, (before, after) in zip(sizes, window, pads, strict=True):
        if n < 1 or before + n + after < w:
            raise ValueError(
                f"no pooling window {tuple(window)} fits into spatial shape {tuple(sizes)} with "
                f"padding {padding}"
            )
    for n, w, s, (before, after) in zip(sizes, window, strides, pads, strict=True):
        last = (before + n + after - w) // s * s
        if before >= w or last >= before + n:
            raise ValueError(
                f"pooling padding {pads} leaves a window {tuple(window)} without a pixel of "
                f"spatial shape {tuple(sizes)}, whose largest value and mean do not exist: pad by "
                "less than the window"
            )
    return tuple((int(before), int(after)) for before, after in pads)


def max_pool(
    x: Float[Array, "batch *spatial channels"],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding = "VALID",
) -> Float[Array, "batch *pooled channels"]:
    """Computes the largest value of each window; padding is never selected.

    The gradient goes to one element of each window: the first of the largest in row-major order.
    Only reverse-mode differentiation is defined.

    Args:
        x: Input `[batch, *spatial, channels]`.
        window: Window size along each spatial axis.
        strides: Stride along each spatial axis.
        padding: `"VALID"`, `"SAME"`, `"CEIL"` or explicit (before, after) pairs; see
            `pool_padding`.

    Returns:
        Maxima `[batch, *pooled, channels]` in the dtype of `x`.

    Raises:
        ValueError: If ranks differ, a size is not positive, the padding is unknown, no window fits,
            or one would contain only padding.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.pooling import max_pool
        >>> x = jnp.array([1, 5, 2, 4, 3.0]).reshape(1, 5, 1)
        >>> max_pool(x, (2,), (2,), "CEIL").ravel().tolist()
        [5.0, 4.0, 3.0]
    """
    pads = pool_padding(x.shape[1:-1], window, strides, padding)
    return _max_pool(tuple(window), tuple(strides), pads, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _max_pool(window: tuple[int, ...], strides: tuple[int, ...], pads: Pads, x: Array) -> Array:
    if forms.compiled("max-pooling", choice.pooling(x, window)):
        return compiled.max_pool(x, window, strides, pads)[0]
    # Twice as fast as `lax.reduce_window` on a CPU, and as fast elsewhere.
    return functools.reduce(lax.max, _window_elements(window, strides, pads, x))


def _max_pool_forward(
    window: tuple[int, ...], strides: tuple[int, ...], pads: Pads, x: Array
) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    if forms.compiled("max-pooling", choice.pooling(x, window)):
        best, places = compiled.max_pool(x, window, strides, pads)
        return best, (places, x.shape[1:-1])
    best, *others = _window_elements(window, strides, pads, x)
    index_dtype = jnp.int8 if len(others) <= jnp.iinfo(jnp.int8).max else jnp.int32
    winner = jnp.zeros(best.shape, index_dtype)
    for number, candidate in enumerate(others, start=1):
        winner = jnp.where(candidate > best, jnp.asarray(number, index_dtype), winner)
        best = lax.max(best, candidate)
    return best, (winner, x.shape[1:-1])


def _window_elements(
    window: tuple[int, ...], strides: tuple[int, ...], pads: Pads, x: Array
) -> list[Array]:
    """Returns, for each place in a window in row-major order, that element of all windows."""
    edges = [(0, 0, 0), *((before, after, 0) for before, after in pads), (0, 0, 0)]
    padded = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), edges)
    sizes = zip(padded.shape[1:-1], window, strides, strict=True)
    reach = [(n - w) // s * s + 1 for n, w, s in sizes]
    return [
        lax.slice(
            padded,
            (0, *offset, 0),
            (x.shape[0], *(o + r for o, r in zip(offset, reach, strict=True)), x.shape[-1]),
            (1, *strides, 1),
        )
        for offset in itertools.product(*map(range, window))
    ]


def _max_pool_backward(
    window: tuple[int, ...],
    strides: tuple[int, ...],
    pads: Pads,
    residuals: tuple[Array, tuple[int, ...]],
    gradient: Array,
) -> tuple[Array]:
    # An input pixel at stride * j + r is offset r + stride * m of window j - m. For one remainder
    # r the sum over m is a sum of shifted arrays: nothing is scattered. The remainders are then
    # interleaved.
    winner, spatial = residuals
    if not choice.pooling(gradient, window):
        return (compiled.max_pool_gradient(gradient, winner, spatial, window, strides, pads),)
    # An exported program may have a symbolic number of rows, which is no number among residuals.
    batch, *pooled, channels = winner.shape
    zero = jnp.zeros((), gradient.dtype)
    reach = [-(-w // s) for w, s in zip(window, strides, strict=True)]
    lengths = [p + m - 1 for p, m in zip(pooled, reach, strict=True)]
    classes = []
    for remainder in itertools.product(*map(range, strides)):
        total = jnp.zeros((batch, *lengths, channels), gradient.dtype)
        for shift in itertools.product(*map(range, reach)):
            offset = [r + s * m for r, s, m in zip(remainder, strides, shift, strict=True)]
            if any(o >= w for o, w in zip(offset, window, strict=True)):
                continue
            number = 0
            for o, w in zip(offset, window, strict=True):
                number = number * w + o
            part = jnp.where(winner == number, gradient, zero)
            edges = [
                (m, length - p - m, 0) for m, length, p in zip(shift, lengths, pooled, strict=True)
            ]
            total = total + lax.pad(part, zero, [(0, 0, 0), *edges, (0, 0, 0)])
        classes.append(total)
    rank = len(strides)
    grid = jnp.stack(classes).reshape(*strides, *classes[0].shape)
    order = [rank]
    for axis in range(rank):
        order += [rank + 1 + axis, axis]
    order.append(2 * rank + 1)
    full = grid.transpose(order).reshape(
        batch, *(n * s for n, s in zip(lengths, strides, strict=True)), channels
    )
    # A negative edge crops positions in the padding, or beyond the last window.
    crop = [
        (-before, n + before - f, 0)
        for (before, _), n, f in zip(pads, spatial, full.shape[1:-1], strict=True)
    ]
    return (lax.pad(full, zero, [(0, 0, 0), *crop, (0, 0, 0)]),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def avg_pool(
    x: Float[Array, "batch *spatial channels"],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding = "VALID",
    *,
    count_padding: bool = False,
) -> Float[Array, "batch *pooled channels"]:
    """Computes the mean of each window.

    Args:
        x: Input `[batch, *spatial, channels]`.
        window: Window size along each spatial axis.
        strides: Stride along each spatial axis.
        padding: `"VALID"`, `"SAME"`, `"CEIL"` or explicit (before, after) pairs; see
            `pool_padding`.
        count_padding: Whether places in the padding count as pixels of value 0, so that every sum
            is divided by the window size. Otherwise it is divided by the number of pixels inside
            the input. Beyond the end of the input `"CEIL"` has no padding but nothing at all, which
            never counts, as in PyTorch and ONNX.

    Returns:
        Means `[batch, *pooled, channels]` in the dtype of `x`.

    Raises:
        ValueError: If ranks differ, a size is not positive, the padding is unknown, no window fits,
            or one would contain only padding.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.pooling import avg_pool
        >>> x = jnp.array([1.0, 5.0, 2.0]).reshape(1, 3, 1)
        >>> avg_pool(x, (2,), (2,), "CEIL").ravel().tolist()
        [3.0, 2.0]
    """
    pads = pool_padding(x.shape[1:-1], window, strides, padding)

    def window_sum(values: Array) -> Array:
        return lax.reduce_window(
            values,
            # A number that is known inside jit: only then is the window a sum with a gradient.
            np.zeros((), values.dtype),
            lax.add,
            (1, *window, 1),
            (1, *strides, 1),
            ((0, 0), *pads, (0, 0)),
        )

    if (count_padding and padding != "CEIL") or not any(itertools.chain(*pads)):
        return window_sum(x) / jnp.asarray(math.prod(window), x.dtype)
    counts = window_sum(jnp.ones((1, *x.shape[1:-1], 1), x.dtype))
    return window_sum(x) / counts


def global_max_pool(
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch channels"]:
    """Computes the largest value of each channel over all positions.

    Args:
        x: Input `[batch, *spatial, channels]`.

    Returns:
        Maxima `[batch, channels]` in the dtype of `x`. The gradient goes to the first of the
        largest values; only reverse-mode differentiation is defined.
    """
    return max_along(x.reshape(x.shape[0], -1, x.shape[-1]), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_along(x: Float[Array, "*shape"], axis: int) -> Float[Array, "..."]:
    """Computes the largest value along an axis; the gradient goes to the first of the largest.

    The position is stored as an index. The gradient of `jnp.max` compares the input with the
    maximum instead, and if the compiler computes the input twice with different rounding, no
    position is equal and the gradient is silently lost: observed with optimisations disabled on a
    CPU.

    Args:
        x: Array of any shape.
        axis: Axis to reduce, not negative.

    Returns:
        Maxima without that axis, in the dtype of `x`. Only reverse-mode differentiation is defined.
    """
    return jnp.max(x, axis=axis)


def _max_along_forward(x: Array, axis: int) -> tuple[Array, tuple[Array, int]]:
    return jnp.max(x, axis=axis), (jnp.argmax(x, axis=axis), x.shape[axis])


def _max_along_backward(axis: int, residuals: tuple[Array, int], gradient: Array) -> tuple[Array]:
    winner, length = residuals
    shape = [1] * (gradient.ndim + 1)
    shape[axis] = length
    place = jnp.arange(length, dtype=winner.dtype).reshape(shape)
    chosen = place == jnp.expand_dims(winner, axis)
    zero = jnp.zeros((), gradient.dtype)
    return (jnp.where(chosen, jnp.expand_dims(gradient, axis), zero),)


max_along.defvjp(_max_along_forward, _max_along_backward)
