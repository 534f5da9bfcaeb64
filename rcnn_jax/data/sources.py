"""Sources: examples accessed by index, in memory, as views of each other, or from record files."""

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
        """Mapping from name to `Feature` of all that an example holds, except `mask`."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """Returns one example.

        Args:
            index: Index of the example, in `[0, len(self))`.

        Returns:
            Mapping from name to array of the feature's shape, and `mask` `float32[]` as in
            `gather`.

        Raises:
            IndexError: If `index` lies outside `[0, len(self))`.
        """
        ...

    def gather(self, indices: np.ndarray) -> Example:
        """Returns several examples, stacked.

        Args:
            indices: Indices of the examples, `int64[batch]` in `[0, len(self))`.

        Returns:
            Mapping from name to array `[batch, ...]`. If some of the examples could not be read and
            this is not to stop the run, there is also `mask`, `float32[batch]`: 0 for those
            examples, whose features are zeros, and 1 for the others.

        Raises:
            IndexError: If an index lies outside `[0, len(self))`.
        """
        ...


def split_name(dataset: str, split: str) -> str:
    """Returns the name of a split of a data set as messages use it.

    Args:
        dataset: Name of the data set.
        split: Name of the split.
    """
    return f"{dataset} split {split!r}"


def check_indices(indices: np.ndarray, size: int) -> None:
    """Raises `IndexError` unless all indices are in `[0, size)`.

    Args:
        indices: Integer array of any size, which may be empty.
        size: Number of examples of the source.

    Raises:
        IndexError: If an index is negative or not below `size`; the message names one such index.
    """
    # NumPy would count -1 from the end, which is never intended here.
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        worst = indices.min() if indices.min() < 0 else indices.max()
        raise IndexError(f"example {worst} of a source with {size}")


def stack(
    name: str, values: Sequence[Any], whole: np.ndarray, numbers: Sequence[int], where: str
) -> np.ndarray:
    """Stacks the values of examples, with zeros for the examples that could not be read.

    Args:
        name: Name of the feature, for messages.
        values: One value per example.
        whole: Array `[examples]`, nonzero for the examples that could be read.
        numbers: Indices of the examples, for messages.
        where: Data set and split, for messages; may be empty.

    Returns:
        Array `[examples, ...]`. An example that could not be read takes the shape of the others,
        filled with zeros where its own shape differs.

    Raises:
        ValueError: If two examples that could be read differ in shape.
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
    """Gathers some examples whose shapes may differ, so that failures show before training.

    Nothing is read if all features of the source have a fixed shape.

    Args:
        source: Source as a model is to read it.
        rows: Indices of a batch, `int64[batch]`; negative ones are padding.

    Raises:
        ValueError: If the examples cannot be stacked; the message names two that differ.
    """
    if any(None in feature.shape for feature in source.features.values()):
        source.gather(rows[rows >= 0])


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Examples held as columns in host memory.

    Attributes:
        columns: Mapping from name to an array `[examples, ...]` or to a lazy sequence of as many
            values. A column `mask` states which examples could be read; see `Source.gather`.
        features: Mapping from name to `Feature`. By default it is inferred from the first value of
            each column.
        name: Data set and split, for messages.

    Raises:
        ValueError: If the columns differ in length.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.sources import ArraySource
        >>> source = ArraySource({"x": np.arange(6.0).reshape(3, 2), "y": np.array([7, 8, 9])})
        >>> len(source), source[1]["x"].tolist()
        (3, [2.0, 3.0])
        >>> source.gather(np.array([2, 0]))["y"].tolist()
        [9, 7]
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
            features = {name: Feature(v.shape, v.dtype.name) for name, v in first.items()}
            object.__setattr__(self, "features", features)

    def select(self, names: Sequence[str]) -> "ArraySource":
        """Returns a source of the same examples with only some of their features; see `select`.

        Args:
            names: Names of the features to keep; a column `mask` is kept too.
        """
        kept = [name for name in (*names, "mask") if name in self.columns]
        columns = {name: self.columns[name] for name in kept}
        # Without any feature, the mask alone carries the number of examples.
        columns = columns or {"mask": np.ones(len(self), np.float32)}
        return ArraySource(columns, {name: self.features[name] for name in names}, self.name)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return {name: np.asarray(column[index]) for name, column in self.columns.items()}

    def gather(self, indices: np.ndarray) -> Example:
        """Returns several examples, stacked; see `Source.gather`.

        Args:
            indices: Indices of the examples, `int64[batch]` in `[0, len(self))`.
        """
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
    """A selection of the examples of another source.

    Attributes:
        source: The underlying source.
        rows: Indices of the selected examples, `int64[examples]`; they may repeat and reorder the
            examples of `source`.

    Raises:
        IndexError: If an index lies outside `source`.
    """

    source: Source
    rows: np.ndarray

    def __post_init__(self) -> None:
        check_indices(self.rows, len(self.source))

    @property
    def features(self) -> Mapping[str, Feature]:
        """Features of the underlying source."""
        return self.source.features

    def select(self, names: Sequence[str]) -> "View":
        """Returns a view of the same examples with only some of their features; see `select`.

        Args:
            names: Names of the features to keep.
        """
        return View(select(self.source, names), self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return self.source[int(self.rows[index])]

    def gather(self, indices: np.ndarray) -> Example:
        """Returns several examples, stacked; see `Source.gather`.

        Args:
            indices: Indices into this view, `int64[batch]` in `[0, len(self))`.
        """
        check_indices(indices, len(self))
        return self.source.gather(self.rows[indices])


@dataclasses.dataclass(frozen=True)
class Concatenation:
    """Several sources with the same features, one after the other.

    Attributes:
        sources: The sources in order, at least one.

    Raises:
        ValueError: If the names of the sources' features differ.
    """

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        names = [sorted(source.features) for source in self.sources]
        if any(other != names[0] for other in names):
            raise ValueError(f"sources with different features cannot be joined: {names}")

    @property
    def features(self) -> Mapping[str, Feature]:
        """Features of the first source."""
        return self.sources[0].features

    def select(self, names: Sequence[str]) -> "Concatenation":
        """Returns the concatenated examples with only some of their features; see `select`.

        Args:
            names: Names of the features to keep.
        """
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
        """Returns several examples, stacked; see `Source.gather`.

        Args:
            indices: Indices into the concatenation, `int64[batch]` in `[0, len(self))`.
        """
        check_indices(indices, len(self))
        which = np.searchsorted(self._ends, indices, side="right")
        if not len(indices):
            return self.sources[0].gather(indices)
        batch: Example = {}
        for part in np.unique(which):
            here = which == part
            start = self._ends[part] - len(self.sources[part])
            for name, values in self.sources[part].gather(indices[here] - start).items():
                # All examples of a part without a mask could be read.
                make = np.ones if name == "mask" else np.empty
                rows = batch.setdefault(name, make((len(indices), *values.shape[1:]), values.dtype))
                rows[here] = values
        return batch


@dataclasses.dataclass(frozen=True)
class _Selection:
    """Some features of a source that has no method to select them itself."""

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
    """Returns a source of the same examples with only some of their features.

    Features that are left out are not read if the source can avoid it: selecting the text of
    examples decodes no picture. A custom source may define a method `select(names)` with the same
    meaning.

    Args:
        source: The examples.
        names: Names of the features to keep, all of which the source must have.

    Returns:
        A source of as many examples in the same order. `mask` is kept if there is one.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.sources import ArraySource, select
        >>> source = ArraySource({"image": np.zeros((2, 8, 8, 1)), "label": np.array([3, 5])})
        >>> select(source, ["label"])[1]
        {'label': array(5)}
    """
    method = getattr(source, "select", None)
    return _Selection(source, tuple(names)) if method is None else method(names)
