"""The k best of many."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_BLOCK = 128


def best_of(
    values: Float[Array, "rows classes"], k: int
) -> tuple[Float[Array, "rows k"], Int[Array, "rows k"]]:
    """The k largest values of each row, the largest first, and where they stand.

    The same as `jax.lax.top_k`, but that of equal values another may be taken. Where there are
    many, only the k blocks with the largest maxima are searched, among which the k best must be: a
    maximum is found much faster than an order.

    Args:
        values: `[rows, classes]`.
        k: how many, at most `classes`.

    Returns:
        Values and places, `[rows, k]` each.
    """
    rows, classes = values.shape
    if classes < 2 * _BLOCK * k:
        best, places = jax.lax.top_k(values, k)
        return best, places
    blocks = -(-classes // _BLOCK)
    filled = jnp.pad(
        values, ((0, 0), (0, blocks * _BLOCK - classes)), constant_values=-jnp.inf
    ).reshape(rows, blocks, _BLOCK)
    _, chosen = jax.lax.top_k(filled.max(axis=-1), k)
    few = jnp.take_along_axis(filled, chosen[..., None], axis=1).reshape(rows, k * _BLOCK)
    best, places = jax.lax.top_k(few, k)
    places = jnp.take_along_axis(chosen, places // _BLOCK, axis=1) * _BLOCK + places % _BLOCK
    # What fills the last block is among the best only where nothing else is left.
    return best, jnp.minimum(places, classes - 1)
