"""Randomness that belongs to an example, not to the device that happens to hold it.

Every random draw of a layer is keyed by the position of the example in the global batch. One
device, eight devices under `jit` and eight devices under `pmap` then see the same masks, and a
run can be resumed on other hardware without changing what it computes. The same holds for a batch
that is taken in parts: see `part_of_batch`.
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
    """Which part of the batch a trace sees; equal only to itself, as its number may be traced."""

    number: int | Array
    parts: int
    groups: int


# Known to jax, so that what it has traced for one part is never taken for another's.
_part = jax.make_user_context(None)


@contextlib.contextmanager
def part_of_batch(number: int | Int[Array, ""], parts: int, groups: int = 1) -> Iterator[None]:
    """Within it, `example_keys` counts examples as in the batch that they are a part of.

    The rows of the whole batch lie in `groups` blocks of equal length, one a device, and each
    block is cut into `parts` equal pieces. Part `number` is the piece of this number of every
    block, in the order of the blocks: no row leaves its device.

    Args:
        number: which part, from 0; it may be traced.
        parts: how many there are.
        groups: blocks in what the caller holds; 1 where the data axis is bound, since a device
            then holds one.
    """
    with _part(_Part(number, parts, groups)):
        yield


def is_part_of_batch() -> bool:
    """True within `part_of_batch`, where the caller sees some rows of a batch alone."""
    return _part.value is not None


def data_axis_bound() -> bool:
    """True where the caller runs inside a `pmap` or `shard_map` over an axis named `DATA_AXIS`.

    Under plain `jit` the arrays are global and no axis is bound, whatever the mesh is.
    """
    try:
        lax.axis_index(DATA_AXIS)
    except NameError:
        return False
    return True


def example_keys(key: Key[Array, ""] | UInt32[Array, "2"], batch: int) -> Array:
    """One random key per example: `fold_in(key, index of the example in the global batch)`.

    Args:
        key: the key of this step and this layer, the same on every device.
        batch: the number of examples the caller holds. That is the whole batch under `jit`, the
            shard of one device where the data axis is bound, and of either the part that
            `part_of_batch` names, if it names one.

    Returns:
        Keys `[batch]` of the same kind as `key` (raw keys give `uint32[batch, 2]`).

    Raises:
        ValueError: the examples of a part are not spread evenly over its blocks.
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
