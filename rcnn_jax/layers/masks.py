"""Padded examples: which positions are real, and arrays that are zero at the others.

Images of different widths share a batch by padding on the right. A convolution reads what lies
beyond the end of an image, so it must find there what it finds beyond the edge of an unpadded one:
zeros, at every layer and at every iteration of a layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int


def live_columns(lengths: Int[Array, "batch"], width: int) -> Bool[Array, "batch 1 width"]:
    """True at the columns of images before their width ends; the same for each row."""
    return live_steps(lengths, width)[:, None]


def only_live(
    x: Float[Array, "batch *spatial channels"], live: Bool[Array, "..."] | None
) -> Float[Array, "batch *spatial channels"]:
    """The activations where they are live, 0 elsewhere, whatever stands there.

    Args:
        x: activations `[batch, *spatial, channels]`.
        live: `[batch, *spatial]`, or 1 in place of a size. None: everything is live.

    Raises:
        ValueError: `live` does not fit.
    """
    if live is None:
        return x
    return jnp.where(_fitting(live, x), x, jnp.zeros((), x.dtype))


def weights(
    live: Bool[Array, "..."], x: Float[Array, "batch *spatial channels"]
) -> Float[Array, "..."]:
    """1 where live and 0 elsewhere, `[batch, *spatial, 1]` in the dtype of `x`.

    Raises:
        ValueError: `live` does not fit, see `only_live`.
    """
    return _fitting(live, x).astype(x.dtype)


def _fitting(live: Array, x: Array) -> Array:
    sizes = x.shape[:-1]
    fits = live.ndim == len(sizes) and all(
        own in (1, size) for own, size in zip(live.shape, sizes, strict=True)
    )
    if not fits or live.shape[:1] != sizes[:1]:
        raise ValueError(
            f"live marks positions [batch, *spatial] of activations of shape {x.shape}, with 1 in "
            f"place of a spatial size, got shape {live.shape}"
        )
    return live[..., None]


def is_known(values: Any) -> bool:
    """Whether the values of an array can be looked at: not inside `jit`, not spread over hosts."""
    return not isinstance(values, Tracer) and getattr(values, "is_fully_addressable", True)


def checked_lengths(
    lengths: Any,
    batch: int,
    most: int,
    *,
    name: str = "lengths",
    counted: str = "number of time steps",
) -> Int[Array, "batch"]:
    """The lengths as an array.

    Args:
        lengths: `[batch]` integers, each in 0..most.
        batch: number of sequences.
        most: places of a padded sequence.
        name: what the argument is called, for messages.
        counted: what `most` is, for messages.

    Returns:
        `int32[batch]`. Inside `jit` the values of an argument are unknown and stay unchecked: a
        negative length counts as 0, one beyond `most` as `most`.

    Raises:
        ValueError: the shape or the dtype is another, or a known length lies outside 0..most.
    """
    if not isinstance(lengths, jax.Array):
        lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be {batch} integers, one for each sequence of the batch, got "
            f"{lengths.dtype} of shape {lengths.shape}"
        )
    if is_known(lengths):
        values = np.asarray(lengths)
        wrong = values[(values < 0) | (values > most)]
        if wrong.size:
            raise ValueError(f"{name} must lie in 0..{most}, the {counted}, got {wrong[0]}")
    return jnp.clip(jnp.asarray(lengths), 0, most).astype(jnp.int32)


def live_steps(lengths: Int[Array, "batch"], time: int) -> Bool[Array, "batch time"]:
    """True at the steps before the end of each sequence."""
    return jnp.arange(time, dtype=lengths.dtype)[None] < lengths[:, None]


def reverse_within(
    x: Float[Array, "batch time features"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch time features"]:
    """Each sequence backwards within its length; what lies beyond stays where it is."""
    step = jnp.arange(x.shape[1], dtype=lengths.dtype)[None]
    index = jnp.where(step < lengths[:, None], lengths[:, None] - 1 - step, step)
    return jnp.take_along_axis(x, index[..., None], axis=1)
