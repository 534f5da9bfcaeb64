"""Sequences of different lengths in one batch: which steps count, and reversal within a length."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
