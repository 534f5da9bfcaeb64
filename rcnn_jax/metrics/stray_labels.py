"""Labels that are not classes of the model end training instead of being left out."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def nan_where(stray: ArrayLike, total: ArrayLike) -> jax.Array:
    """Replaces a loss by NaN where an example has a label that is not a class.

    NaN ends a run. Cross-entropy alone would not: the one-hot target of such a label is all zeros,
    and the index -1 is the last class.

    Args:
        stray: Which labels are not classes, of any shape; false for padding.
        total: Summed loss, `[]`.

    Returns:
        The loss, or NaN, `[]`.
    """
    return jnp.where(jnp.any(stray), jnp.nan, total)
