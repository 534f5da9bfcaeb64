"""Lookup of vectors in a table by id, and windows of neighbouring time steps."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int


def rows(
    table: Float[ArrayLike, "entries features"], ids: Int[ArrayLike, "*places"]
) -> Float[Array, "*places features"]:
    """Looks up the row of each id in a table, the product of 1-of-N vectors with it.

    Args:
        table: Vectors `[entries, features]`.
        ids: Integers of any shape `[*places]`. A negative id is read as the vector of zeros.

    Returns:
        Vectors `[*places, features]` in the dtype of `table`. An id beyond the end of the table has
        no row and gives NaN, since another row would be a wrong word that goes unnoticed.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.embedding import rows
        >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> rows(table, jnp.array([1, -1, 2])).tolist()
        [[3.0, 4.0], [0.0, 0.0], [nan, nan]]
    """
    table, ids = jnp.asarray(table), jnp.asarray(ids)
    vectors = table.at[jnp.maximum(ids, 0)].get(mode="fill", fill_value=jnp.nan)
    return jnp.where((ids >= 0)[..., None], vectors, jnp.zeros((), table.dtype))


def neighbours(x: Array, window: int, outside: Array | int | float) -> list[Array]:
    """Returns the values at each place of a window around each time step.

    Args:
        x: Sequences `[batch, time, ...]`.
        window: Number of places of the window, odd; the middle one is the time step itself.
        outside: Value before the first and after the last step, a scalar or an array `[...]`.

    Returns:
        A list of `window` arrays of the shape of `x`, from the leftmost place to the rightmost.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.embedding import neighbours
        >>> [place.tolist() for place in neighbours(jnp.array([[1, 2, 3]]), 3, 0)]
        [[[0, 1, 2]], [[1, 2, 3]], [[2, 3, 0]]]
    """
    reach = window // 2
    edge = jnp.broadcast_to(jnp.asarray(outside, x.dtype), (x.shape[0], reach, *x.shape[2:]))
    padded = jnp.concatenate([edge, x, edge], axis=1)
    return [padded[:, place : place + x.shape[1]] for place in range(window)]
