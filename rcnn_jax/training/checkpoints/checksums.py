"""A checksum for each leaf of a state, because the format on disk does not detect a flipped bit."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.training import parameters
from rcnn_jax.training.interface import PyTree
from rcnn_jax.training.parallel import distributed

# Multipliers of the SplitMix64 generator (Steele, Lea & Flood, 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _odd_multipliers(positions: np.ndarray) -> np.ndarray:
    """Returns a different odd 64-bit number for each position."""
    z = (positions + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def checksum(array: np.ndarray) -> str:
    """Computes a 64-bit checksum of the bits of an array and their positions.

    It is the sum modulo 2^64 of each element's bits times an odd number that belongs to its
    position. Multiplication by an odd number is invertible, so that a change of any one element
    always changes the sum; several changes cancel with probability 2^-64. Because it is a sum, it
    can be assembled from the parts of an array that several processes hold.

    Args:
        array: Array of any numeric or boolean type with elements of up to 8 bytes.

    Returns:
        16 hexadecimal digits.
    """
    return _text(_partial(array, (slice(None),) * array.ndim, array.shape))


def _partial(part: np.ndarray, index: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    """Returns the summand of a part of an array of shape `shape`, which lies at `index`."""
    # Positions are computed only for the part; this loop dominates the cost for a large state.
    positions = np.zeros((), np.uint64)
    for axis, (piece, size) in enumerate(zip(index, shape, strict=True)):
        along = np.arange(*piece.indices(size), dtype=np.uint64)
        stride = np.uint64(math.prod(shape[axis + 1 :]))
        positions = positions[..., None] + along * stride
    flat = np.ascontiguousarray(part).reshape(-1)
    bits = flat.view(f"u{flat.dtype.itemsize}").astype(np.uint64)
    # With + 1, arrays of zeros of different lengths have different sums.
    total = (bits + np.uint64(1)) * _odd_multipliers(positions.reshape(-1))
    return int(total.sum(dtype=np.uint64))


def _text(total: int) -> str:
    return f"{total % 2**64:016x}"


def raw(leaf: Any) -> Any:
    """Returns an array of numbers unchanged, and random keys as their words.

    Args:
        leaf: Array of numbers or of random keys.
    """
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


class Description(NamedTuple):
    """Description of a state in a checkpoint.

    Attributes:
        leaves: Lists [shape, type, checksum] by path, representable as JSON: the manifest.
        nonfinite: Paths of the leaves that hold NaN or infinity.
    """

    leaves: dict[str, list]
    nonfinite: list[str]


def describe(tree: PyTree) -> Description:
    """Describes a state, whose arrays may be distributed over processes; all must call it.

    Args:
        tree: Tree of NumPy or jax arrays.

    Returns:
        The description, which is the same in every process.
    """
    flat = {path: raw(leaf) for path, leaf in parameters.flatten(tree).items()}
    totals: dict[str, tuple[int, bool]] = {}
    shared: dict[str, tuple[int, bool]] = {}  # sums over this process's parts of arrays
    for path, leaf in flat.items():
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            parts = [s for s in leaf.addressable_shards if s.replica_id == 0]
            summands = [(_partial(np.asarray(s.data), s.index, leaf.shape), s.data) for s in parts]
            shared[path] = (
                sum(total for total, _ in summands) % 2**64,
                any(_nonfinite(np.asarray(data)) for _, data in summands),
            )
        else:
            array = np.asarray(leaf)
            totals[path] = (int(checksum(array), 16), _nonfinite(array))
    if shared:
        for path in shared:
            totals[path] = (0, False)
        for process in distributed.gather(shared):
            for path, (total, bad) in process.items():
                totals[path] = (totals[path][0] + total, totals[path][1] or bad)
    return Description(
        {
            path: [list(leaf.shape), str(leaf.dtype), _text(totals[path][0])]
            for path, leaf in flat.items()
        },
        [path for path in flat if totals[path][1]],
    )


def _nonfinite(array: np.ndarray) -> bool:
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return bool(floating and not np.isfinite(array.astype(np.float32, copy=False)).all())
