"""Columns whose values are computed on access."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class LazyColumn(Sequence[Any]):
    """A column of one feature whose values are computed each time they are accessed.

    Attributes:
        size: Number of examples.
        make: Returns the value of an example, given its index in `[0, size)`.

    Raises:
        IndexError: If an index outside `[0, size)` is accessed; negative indices are not supported.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.columns import LazyColumn
        >>> column = LazyColumn(3, lambda index: np.full(index, index))
        >>> len(column), column[2].tolist()
        (3, [2, 2])
    """

    size: int
    make: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> np.ndarray:
        if not 0 <= index < self.size:
            raise IndexError(f"example {index} of {self.size}")
        return self.make(int(index))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(self.size))


def from_files(entries: Sequence[Any], read: Callable[[Path], np.ndarray]) -> LazyColumn:
    """Returns a column with one file per value, which is read anew on every access.

    Args:
        entries: One object per value, with attributes `path`, the file, and `where`, the place that
            lists the file, for messages.
        read: Reads a file and returns its value.

    Returns:
        The column. Accessing a value raises `FileNotFoundError` if its file no longer exists and
        `ValueError` if `read` raises it; both messages name the place.
    """

    def make(index: int) -> np.ndarray:
        entry = entries[index]
        try:
            return read(entry.path)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{entry.where}: {entry.path} is gone") from error
        except ValueError as error:
            raise ValueError(f"{entry.where}: {error}") from error

    return LazyColumn(len(entries), make)
