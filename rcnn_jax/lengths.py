"""Lengths of padded sequences, checked as far as their values are known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int


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
