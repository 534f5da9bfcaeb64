"""Randomness that belongs to an example, independent of the device that processes it.

Every random draw of a layer is keyed by the position of the example in the global batch. One
device, eight devices under `jit` and eight devices under `pmap` therefore see the same masks, and a
run can be resumed on other hardware without a change of its results. The same holds for a batch
that is processed in parts, see `part_of_batch`.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Key, UInt32

DATA_AXIS = "data"
"""Name of the mapped axis over which `pmap` and `shard_map` split a batch."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Part of the batch that a trace sees, compared by identity because it may be traced."""

    number: int | Array
    parts: int
    groups: int


# A user context is part of JAX's cache keys: traces of different parts are kept apart.
_part = jax.make_user_context(None)


@contextlib.contextmanager
def part_of_batch(number: int | Int[Array, ""], parts: int, groups: int = 1) -> Iterator[None]:
    """Makes `example_keys` use positions in the whole batch for a part of it, within this context.

    The rows of the whole batch lie in `groups` blocks of equal length, one for each device, and
    each block is cut into `parts` equal pieces. Part n consists of piece n of every block, in the
    order of the blocks, so that no row leaves its device.

    Args:
        number: Number of the part, from 0 to `parts` - 1; it may be traced.
        parts: Number of parts of the batch.
        groups: Number of blocks in the rows that the caller holds; 1 where the data axis is bound,
            since a device then holds one block.
    """
    with _part(_Part(number, parts, groups)):
        yield


def is_part_of_batch() -> bool:
    """Returns whether the caller runs within `part_of_batch` and sees only some rows of a batch."""
    return _part.value is not None


def data_axis_bound() -> bool:
    """Returns whether the caller runs inside `pmap` or `shard_map` over an axis named `DATA_AXIS`.

    Under plain `jit` the arrays are global and no axis is bound, regardless of the mesh.
    """
    try:
        lax.axis_index(DATA_AXIS)
    except NameError:
        return False
    return True


def example_keys(key: Key[Array, ""] | UInt32[Array, "2"], batch: int) -> Array:
    """Returns one random key per example, `fold_in(key, index of the example in the global batch)`.

    Args:
        key: Random key of this step and this layer, the same on every device.
        batch: Number of examples that the caller holds: the whole batch under `jit`, the shard of
            one device where the data axis is bound; within `part_of_batch` the examples of that
            part.

    Returns:
        Keys `[batch]` of the same kind as `key`; raw keys give `uint32[batch, 2]`.

    Raises:
        ValueError: If the examples of a part are not spread evenly over its blocks.

    Example:
        >>> import jax
        >>> from rcnn_jax.layers.randomness import example_keys
        >>> keys = example_keys(jax.random.key(0), 3)
        >>> keys.shape, bool(keys[1] == jax.random.fold_in(jax.random.key(0), 1))
        ((3,), True)
    """
    index, whole = jnp.arange(batch, dtype=jnp.uint32), batch
    part = _part.value
    if part is not None:
        if batch % part.groups:
            raise ValueError(
                f"a part of a batch holds equally many examples of each of {part.groups} blocks, "
                f"got {batch} examples"
            )
        piece, whole = batch // part.groups, batch * part.parts
        before = jnp.asarray(part.number, jnp.uint32) * jnp.uint32(piece)
        index = before + (index // piece) * jnp.uint32(piece * part.parts) + index % piece
    if data_axis_bound():
        index = index + lax.axis_index(DATA_AXIS).astype(jnp.uint32) * jnp.uint32(whole)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
