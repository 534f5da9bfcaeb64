"""Labels that are no class of the model: they end training, and are never left out."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def nan_where(stray: ArrayLike, total: ArrayLike) -> jax.Array:
    """Makes a loss NaN where an example has a label that no class answers to.

    NaN ends a run. Cross-entropy alone would not: a one-hot target of such a label is zeros, and
    an index of -1 is the last class.

    Args:
        stray: Which labels are no classes, of any shape; False in padding.
        total: `[]`, the summed loss.

    Returns:
        `[]`, the loss or NaN.
    """
    return jnp.where(jnp.any(stray), jnp.nan, total)
