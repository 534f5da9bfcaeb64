"""Sequences of different lengths in one batch: which steps count, and reversal within a length."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int


def checked_lengths(lengths: Any, batch: int, time: int) -> Int[Array, "batch"]:
    """The lengths as an array, checked as far as their values are known.

    Args:
        lengths: `[batch]` integers, each in 0..time.
        batch: number of sequences.
        time: number of time steps of the padded sequences.

    Returns:
        `int32[batch]`. Inside `jit` the values of an argument are unknown and stay unchecked: a
        negative length counts as 0, one beyond `time` as `time`.

    Raises:
        ValueError: the shape or the dtype is another, or a known length lies outside 0..time.
    """
    if not isinstance(lengths, jax.Array):
        lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"lengths must be {batch} integers, one for each sequence of the batch, got "
            f"{lengths.dtype} of shape {lengths.shape}"
        )
    known = not isinstance(lengths, Tracer)
    if known and getattr(lengths, "is_fully_addressable", True):
        values = np.asarray(lengths)
        wrong = values[(values < 0) | (values > time)]
        if wrong.size:
            raise ValueError(
                f"lengths must lie in 0..{time}, the number of time steps, got {wrong[0]}"
            )
    return jnp.clip(jnp.asarray(lengths), 0, time).astype(jnp.int32)


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
