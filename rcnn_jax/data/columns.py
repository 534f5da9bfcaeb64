"""Columns whose values are made when they are asked for."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class LazyColumn(Sequence[Any]):
    """One feature of a split, a value for each example.

    Attributes:
        size: Number of examples.
        make: Takes the number of an example, in `[0, size)`, to its value.
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
    """A column with a file for each value, read anew whenever it is asked for.

    Args:
        entries: One a value, with attributes `path`, the file, and `where`, the place that names
            it, for messages.
        read: Takes a file to its value.

    Returns:
        The column. Reading a value raises `FileNotFoundError` where its file is gone and
        `ValueError` where `read` does; both name the place.
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
