"""Losses that look at all rows of the global batch, such as a ranking of all pairs.

Under `jit` the arrays are global, and all rows are there. Under `pmap` a device holds its share of
the rows, and without a word a loss over "all" pairs would be one over those of a device.
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
    """The rows of all devices, in the order of the global batch.

    The loss of a device is then that of its own rows against these; summed over devices it is the
    loss of the global batch, and so is its gradient.

    Example:
        ```python
        scores = images @ whole_batch(sentences).T  # [rows here, rows of the batch]
        right = row_numbers(len(images))  # the column of each row's own sentence
        ```

    Args:
        rows: a pytree of arrays `[rows here, ...]`.

    Returns:
        The same pytree with arrays `[rows of the global batch, ...]`.

    Raises:
        UsageError: the batch is taken in parts (`config.accumulate`), of which none sees the
            others.
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
    """The numbers of the caller's rows in the global batch.

    Args:
        rows: how many rows the caller holds.

    Returns:
        int32 `[rows]`: 0 to `rows` - 1 under `jit`, the share of a device under `pmap`.
    """
    first = lax.axis_index(DATA_AXIS) * rows if data_axis_bound() else 0
    return first + jnp.arange(rows, dtype=jnp.int32)
