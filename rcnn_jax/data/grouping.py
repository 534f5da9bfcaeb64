"""Groups of examples of similar length, so that many files are processed in few shapes.

Every shape of a batch costs a compilation, and every step of padding costs as much as a real one.
Training buckets (`rcnn_jax.data.buckets`) have edges that a config states; here the lengths are
those of files that a user happens to have, and all of them are known.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

MOST_PADDED = 1.1
"""Largest ratio of the steps that are computed to those of the examples."""
PROGRAM = 1 << 15
"""Steps that cost less than a compilation; it decides where several devices must pad more.

On two cores of a CPU, a Transcriber with 0.2 million parameters takes 4 s to compile and 6 to 12
microseconds a column; the largest that is shipped takes ten times as long for a column."""
VALUES = 1 << 22
"""Largest number of values of a batch on a device, such as pixels; one example may have more."""

# Lengths per octave, and how much of a batch may be empty rows: None makes the number of rows a
# power of two. Few lengths and powers of two are shapes that other calls are likely to have, whose
# programs are kept on disk.
_FORMS = ((2, None), (16, 1.0), (16, 0.04))


@dataclasses.dataclass(frozen=True)
class Group:
    """Examples that are padded to one length, in batches of one size.

    Attributes:
        examples: Indices of the examples, rising, `int64[examples]`.
        length: Length to which the examples are padded.
        rows: Number of rows of a batch; the last batch may have empty ones.
    """

    examples: np.ndarray
    length: int
    rows: int

    @property
    def steps(self) -> int:
        """Number of steps that are computed: of examples, of their padding and of empty rows."""
        return -(-len(self.examples) // self.rows) * self.rows * self.length


def groups(
    lengths: np.ndarray,
    *,
    most_rows: int,
    values_per_step: int = 1,
    multiple: int = 1,
    devices: int = 1,
) -> list[Group]:
    """Divides examples into as few groups as little padding allows.

    The steps that are computed, with padding and empty rows, are at most `MOST_PADDED` times those
    of the examples. Where several devices cannot reach that, because they must have equally many
    rows, every group saves at least `PROGRAM` steps.

    The groups of one call have different lengths. Between the shortest and the longest example
    there are at most 16 in an octave; a thousand lines of usual widths need about ten.

    Args:
        lengths: Length of each example, at least 1, `int[examples]`; padding up to `multiple`
            counts as part of them.
        most_rows: Largest number of rows of a batch, at least 1.
        values_per_step: Number of values of an example at each step, such as the height of a
            picture. With more than one row, a device has at most `VALUES` values of a batch.
        multiple: All lengths are padded to a multiple of this.
        devices: Number of devices, by which the number of rows is divisible.

    Returns:
        The groups from short to long; each example is in one of them.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.grouping import groups
        >>> found = groups(np.array([90, 15_000, 100, 80]), most_rows=64)
        >>> [(group.examples.tolist(), group.length, group.rows) for group in found]
        [([0, 2, 3], 103, 3), ([1], 15024, 1)]
    """
    units = -(-np.asarray(lengths, np.int64) // multiple)
    real = int(units.sum()) * multiple
    plans = []
    for per_octave, empty in _FORMS:
        padded = _up(units, per_octave) * multiple
        rows = functools.partial(_rows, most_rows, values_per_step, devices, empty)
        plans.append((padded, rows, _best(*np.unique(padded, return_counts=True), rows)))
    least, best = math.inf, []
    # One group each, two each, and so on; None where a plan has no more lengths to divide.
    for divisions in itertools.zip_longest(*(plan[2] for plan in plans)):
        for (padded, rows, _), division in zip(plans, divisions, strict=True):
            if division is None:
                continue
            cost, edges = division
            if cost + PROGRAM * len(edges) < least:
                least, best = cost + PROGRAM * len(edges), _made(padded, edges, rows)
            if cost <= MOST_PADDED * real:
                return _made(padded, edges, rows)
    return best


def _made(padded: np.ndarray, edges: Sequence[int], rows: Callable[[int, int], int]) -> list[Group]:
    """Returns the groups between edges."""
    group_of = np.searchsorted(edges, padded)
    members = [np.flatnonzero(group_of == number) for number in range(len(edges))]
    return [
        Group(each, edge, rows(edge, len(each))) for each, edge in zip(members, edges, strict=True)
    ]


def _up(lengths: np.ndarray, per_octave: int) -> np.ndarray:
    """Rounds lengths up to few ones: so many between a number and its double."""
    steps = np.ceil(np.log2(lengths) * per_octave - 1e-9)
    return np.maximum((2 ** (steps / per_octave) + 1e-9).astype(np.int64), lengths)


def _rows(
    most: int, values_per_step: int, devices: int, empty: float | None, length: int, count: int
) -> int:
    """Returns the number of rows of batches that hold `count` examples of a length."""
    most = max(1, min(most, devices * (VALUES // (length * values_per_step))))
    if empty is None:
        most = 1 << (most.bit_length() - 1)
        rows = min(most, 1 << (count - 1).bit_length())
    else:
        batches = -(-count // most)
        while batches * -(-count // batches) > (1 + empty) * count:
            batches += 1
        rows = -(-count // batches)
    return -(-rows // devices) * devices


def _best(
    cells: np.ndarray, counts: np.ndarray, rows: Callable[[int, int], int]
) -> Iterator[tuple[float, list[int]]]:
    """Yields the cheapest division of neighbouring lengths into 1, 2, 3, ... groups.

    Args:
        cells: Different lengths, rising.
        counts: Number of examples of each.
        rows: Returns the number of rows, given a length and a number of examples.

    Yields:
        The steps that are computed, and the last length of each group.
    """
    total = len(cells)
    before = np.concatenate([[0], np.cumsum(counts)])
    costs = np.full((total, total), math.inf)  # of the lengths from the first index to the second
    for last in range(total):
        for first in range(last + 1):
            count, length = int(before[last + 1] - before[first]), int(cells[last])
            size = rows(length, count)
            costs[first, last] = -(-count // size) * size * length
    best, starts = costs[:1].sum(axis=0), []  # nothing of no lengths
    for _ in range(total):
        ends = [total - 1]
        for start in reversed(starts):
            ends.append(int(start[ends[-1]]) - 1)
        yield float(best[-1]), cells[ends[::-1]].tolist()
        # One group more: the last one begins at `first`, the others end before it.
        longer = costs + np.concatenate([[math.inf], best[:-1]])[:, None]
        starts.append(longer.argmin(axis=0))
        best = longer.min(axis=0)


def in_order(parts: Sequence[np.ndarray], streams: Sequence[Iterator[Sequence[T]]]) -> Iterator[T]:
    """Yields what is computed for examples of several groups in the order of the examples.

    A batch is computed only when the next example is in it.

    Args:
        parts: For each group, the indices of its examples, rising; together 0 to their number - 1.
        streams: For each group, batches of what is computed for its examples, in their order.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.grouping import in_order
        >>> parts = [np.array([1, 2]), np.array([0, 3])]
        >>> list(in_order(parts, [iter([["b", "c"]]), iter([["a"], ["d"]])]))
        ['a', 'b', 'c', 'd']
    """
    order = np.argsort(np.concatenate(parts), kind="stable")
    group_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]
    known: list[Iterator[T]] = [iter(()) for _ in parts]
    for group in group_of.tolist():
        for item in known[group]:
            yield item
            break
        else:
            known[group] = iter(next(streams[group]))
            yield next(known[group])
