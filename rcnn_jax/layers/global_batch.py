"""Access to all rows of the global batch, for losses such as a ranking of all pairs.

Under `jit` arrays are global and contain all rows. Under `pmap` a device holds its share of the
rows, and a loss over all pairs would silently become one over the pairs of a single device.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from rcnn_jax.errors import UsageError
from rcnn_jax.layers.randomness import DATA_AXIS, data_axis_bound, is_part_of_batch

T = TypeVar("T")


def whole_batch(rows: T) -> T:
    """Gathers the rows of all devices, in the order of the global batch.

    The loss of a device then compares the local rows with all rows. Summed over devices it is the
    loss of the global batch, and so is its gradient.

    Args:
        rows: Pytree of arrays `[local rows, ...]`.

    Returns:
        The same pytree with arrays `[rows of the global batch, ...]`.

    Raises:
        UsageError: If the batch is processed in parts (`config.accumulate`), none of which contains
            the rows of the others.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.global_batch import row_numbers, whole_batch
        >>> images, sentences = jnp.ones((2, 3)), jnp.ones((2, 3))
        >>> scores = images @ whole_batch(sentences).T  # [local rows, rows of the batch]
        >>> scores.shape
        (2, 2)
        >>> row_numbers(len(images)).tolist()  # The column of the matching sentence of each row.
        [0, 1]
    """
    if is_part_of_batch():
        raise UsageError(
            "this loss looks at all rows of a batch, which config.accumulate takes in parts: set "
            "config.accumulate=1."
        )
    if not data_axis_bound():
        return rows
    return jax.tree.map(lambda x: lax.all_gather(x, DATA_AXIS, tiled=True), rows)


def row_numbers(rows: int) -> Int[Array, "rows"]:
    """Returns the indices of the local rows in the global batch.

    Args:
        rows: Number of rows that the caller holds.

    Returns:
        `int32[rows]`: 0 to `rows` - 1 under `jit`, the share of a device under `pmap`.
    """
    first = lax.axis_index(DATA_AXIS) * rows if data_axis_bound() else 0
    return first + jnp.arange(rows, dtype=jnp.int32)
