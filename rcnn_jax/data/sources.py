"""Examples by index: in memory, as views of each other, or from record files."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rcnn_jax.data.spec import Columns, Feature

Example = dict[str, np.ndarray]

RESIDENCIES = ("stream", "memory", "device")


@runtime_checkable
class Source(Protocol):
    """A fixed sequence of examples with random access."""

    @property
    def features(self) -> Mapping[str, Feature]:
        """Name to `Feature` of what an example holds."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """Example 0 <= `index` < len, or `IndexError`."""
        ...

    def gather(self, indices: np.ndarray) -> Example:
        """Several examples, stacked: name to array [len(indices), *shape].

        Where some could not be read and that was not to stop the run, there is also `mask`,
        float32 [len(indices)]: 0 for those, whose features are zeros, and 1 for the others.
        `__getitem__` says the same of one example, [].
        """
        ...


def split_name(dataset: str, split: str) -> str:
    """What a split of a data set is called in messages."""
    return f"{dataset} split {split!r}"


def check_indices(indices: np.ndarray, size: int) -> None:
    """Refuses indices that are none of a source's 0 to `size` - 1."""
    # NumPy would count -1 from the end, which is never meant here.
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        worst = indices.min() if indices.min() < 0 else indices.max()
        raise IndexError(f"example {worst} of a source with {size}")


def stack(
    name: str, values: Sequence[Any], whole: np.ndarray, numbers: Sequence[int], where: str
) -> np.ndarray:
    """Stacks the values of examples; those that are not whole take the shape of the others.

    Args:
        name: of the feature.
        values: one an example.
        whole: which examples could be read.
        numbers: what the examples are called in messages.
        where: the data set and split, for messages; may be empty.
    """
    arrays = [np.asarray(value) for value in values]
    read = [(a.shape, n) for a, n, true in zip(arrays, numbers, whole, strict=True) if true]
    for shape, number in read:
        if shape != read[0][0]:
            of = f" of {where}" if where else ""
            raise ValueError(
                f"feature {name!r} differs in shape between examples and cannot be stacked into a "
                f"batch: example {read[0][1]}{of} has {list(read[0][0])}, example {number} has "
                f"{list(shape)}; an encoder makes one shape of them, such as config.encoder.name="
                "rcnn_jax.data.encoders.padding:Padded, and what nothing reads is left out by "
                "config.data.features"
            )
    if read:
        shape = read[0][0]
        arrays = [a if a.shape == shape else np.zeros(shape, a.dtype) for a in arrays]
    return np.stack(arrays)


def check_stacking(source: Source, rows: np.ndarray) -> None:
    """Gathers some examples where their shapes may differ, so that this is said before a start.

    Args:
        source: as a model is to read it.
        rows: of a batch, int64; negative ones are padding.

    Raises:
        ValueError: they cannot be stacked; the sentence names two of them.
    """
    if any(None in feature.shape for feature in source.features.values()):
        source.gather(rows[rows >= 0])


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Examples held as columns in host memory.

    Attributes:
        columns: name to array [examples, *shape], or to a lazy sequence of as many values. A
            column `mask` says which examples could be read, see `Source.gather`.
        features: name to `Feature`; without it, taken from the columns.
        name: the data set and split, for messages.
    """

    columns: Columns
    features: Mapping[str, Feature] = dataclasses.field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"all columns must be equally long, got {lengths}")
        if not self.features:
            first = {name: np.asarray(column[0]) for name, column in self.columns.items()}
            found = {name: Feature(v.shape, v.dtype.name) for name, v in first.items()}
            object.__setattr__(self, "features", found)

    def select(self, names: Sequence[str]) -> "ArraySource":
        """The same examples with some of their features, see `select`."""
        kept = [name for name in (*names, "mask") if name in self.columns]
        columns = {name: self.columns[name] for name in kept}
        # Of no feature the number of examples is left.
        columns = columns or {"mask": np.ones(len(self), np.float32)}
        return ArraySource(columns, {name: self.features[name] for name in names}, self.name)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return {name: np.asarray(column[index]) for name, column in self.columns.items()}

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`."""
        check_indices(indices, len(self))
        mask = self.columns.get("mask")
        whole = np.ones(len(indices)) if mask is None else np.asarray(mask)[indices]
        numbers = indices.tolist()
        return {
            name: column[indices]
            if isinstance(column, np.ndarray)
            else stack(name, [column[i] for i in numbers], whole, numbers, self.name)
            for name, column in self.columns.items()
        }


@dataclasses.dataclass(frozen=True)
class View:
    """Some examples of another source.

    Attributes:
        source: the other source.
        rows: which of its examples, int64 [examples]; may repeat and reorder them.
    """

    source: Source
    rows: np.ndarray

    def __post_init__(self) -> None:
        check_indices(self.rows, len(self.source))

    @property
    def features(self) -> Mapping[str, Feature]:
        """Those of the other source."""
        return self.source.features

    def select(self, names: Sequence[str]) -> "View":
        """The same examples with some of their features, see `select`."""
        return View(select(self.source, names), self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return self.source[int(self.rows[index])]

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`."""
        check_indices(indices, len(self))
        return self.source.gather(self.rows[indices])


@dataclasses.dataclass(frozen=True)
class Concatenation:
    """Several sources with the same features, one after the other."""

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        names = [sorted(source.features) for source in self.sources]
        if any(other != names[0] for other in names):
            raise ValueError(f"sources with different features cannot be joined: {names}")

    @property
    def features(self) -> Mapping[str, Feature]:
        """Those of the first source."""
        return self.sources[0].features

    def select(self, names: Sequence[str]) -> "Concatenation":
        """The same examples with some of their features, see `select`."""
        return Concatenation(tuple(select(source, names) for source in self.sources))

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[which][index - int(self._ends[which]) + len(self.sources[which])]

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`."""
        check_indices(indices, len(self))
        which = np.searchsorted(self._ends, indices, side="right")
        if not len(indices):
            return self.sources[0].gather(indices)
        batch: Example = {}
        for part in np.unique(which):
            here = which == part
            start = self._ends[part] - len(self.sources[part])
            for name, values in self.sources[part].gather(indices[here] - start).items():
                # A part without a mask is whole.
                make = np.ones if name == "mask" else np.empty
                rows = batch.setdefault(name, make((len(indices), *values.shape[1:]), values.dtype))
                rows[here] = values
        return batch


@dataclasses.dataclass(frozen=True)
class _Selection:
    """Some features of a source that does not say how to leave the others out."""

    source: Source
    names: tuple[str, ...]

    @property
    def features(self) -> Mapping[str, Feature]:
        return {name: self.source.features[name] for name in self.names}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        return self._of(self.source[index])

    def gather(self, indices: np.ndarray) -> Example:
        return self._of(self.source.gather(indices))

    def _of(self, example: Example) -> Example:
        return {name: example[name] for name in (*self.names, "mask") if name in example}


def select(source: Source, names: Sequence[str]) -> Source:
    """The examples of a source with some of their features alone.

    What is left out is not read where the source can do without it: no picture is decoded for its
    text. A source of one's own may have a method `select(names)` of the same meaning.

    Args:
        source: The examples.
        names: Of the features, all of which the source has.

    Returns:
        A source of as many examples in the same order.
    """
    own = getattr(source, "select", None)
    return _Selection(source, tuple(names)) if own is None else own(names)
