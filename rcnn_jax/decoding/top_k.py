"""The k largest of many values, where NaN is never lost behind numbers.

This is the only module that calls `jax.lax.top_k`, whose order of values is that of their bits: on
x86 a NaN that arises at run time, such as `inf - inf` or `log(-1)`, has its sign bit set and ranks
below every number, so that a search over broken scores would return a plausible answer.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_BLOCK = 128


def top_k(
    values: Float[Array, "*rows classes"], k: int
) -> tuple[Float[Array, "*rows k"], Int[Array, "*rows k"]]:
    """Returns the k largest values along the last axis, in descending order, and their positions.

    NaN counts as larger than every number, whatever its sign bit, as for `jnp.max` and
    `jnp.argmax`: where there is one, it is the first of the result. 0 and -0 are equal. Of equal
    values the first ones are selected.

    Args:
        values: Values to compare, `[*rows, classes]`.
        k: Number of values to return, at most `classes`.

    Returns:
        Values and positions, `[*rows, k]` each.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.decoding.top_k import top_k
        >>> values, positions = top_k(jnp.array([1.0, -jnp.nan, 3.0]), 2)
        >>> values.tolist(), positions.tolist()
        ([nan, 3.0], [1, 2])
    """
    one_zero = jnp.where(values == 0, jnp.zeros((), values.dtype), values)
    best, positions = jax.lax.top_k(jnp.where(jnp.isnan(values), jnp.nan, one_zero), k)
    return best, positions


def best_of(
    values: Float[Array, "rows classes"], k: int
) -> tuple[Float[Array, "rows k"], Int[Array, "rows k"]]:
    """Returns the k largest values of each row, in descending order, and their positions.

    The result is that of `top_k`, except that it may choose another one of equal values. Where
    there are many classes, only the k blocks with the largest maxima are searched, which must
    contain the k largest values: finding a maximum is much faster than sorting.

    Args:
        values: Values to compare, `[rows, classes]`.
        k: Number of values to return, at most `classes`.

    Returns:
        Values and positions, `[rows, k]` each.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.decoding.top_k import best_of
        >>> values, positions = best_of(jnp.array([[1.0, 5.0, 3.0]]), 2)
        >>> values.tolist(), positions.tolist()
        ([[5.0, 3.0]], [[1, 2]])
    """
    rows, classes = values.shape
    if classes < 2 * _BLOCK * k:
        return top_k(values, k)
    blocks = -(-classes // _BLOCK)
    filled = jnp.pad(
        values, ((0, 0), (0, blocks * _BLOCK - classes)), constant_values=-jnp.inf
    ).reshape(rows, blocks, _BLOCK)
    # A maximum is NaN where one of its values is.
    _, chosen = top_k(filled.max(axis=-1), k)
    few = jnp.take_along_axis(filled, chosen[..., None], axis=1).reshape(rows, k * _BLOCK)
    best, positions = top_k(few, k)
    positions = (
        jnp.take_along_axis(chosen, positions // _BLOCK, axis=1) * _BLOCK + positions % _BLOCK
    )
    # The filling of the last block is selected only where no other value is left.
    return best, jnp.minimum(positions, classes - 1)
