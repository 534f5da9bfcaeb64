"""Some features of every example without the others: no picture is decoded for its text."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders.base import read_each
from rcnn_jax.data.sources import ArraySource, Concatenation, Example, Source, View
from rcnn_jax.data.spec import Feature


def read_columns(source: Source, names: Sequence[str], what: str) -> Iterator[Example | None]:
    """Reads a few features of every example of a split, in order.

    Args:
        source: the split. Where its examples are records, each is read as a whole.
        names: of the features.
        what: the beginning of the sentence that says that one is missing.

    Yields:
        Name to value; None for an example that could not be read.

    Raises:
        ValueError: a feature is missing.
    """

    def read(example: Example, index: int) -> Example:
        del index
        return {name: np.asarray(example[name]) for name in names}

    only: Any = _Only(source, names)
    return read_each(only, names, what, read)


@dataclasses.dataclass(frozen=True)
class _Only:
    """A source as `read_each` looks at it, whose examples have some of its features."""

    source: Source
    names: Sequence[str]

    @property
    def features(self) -> Mapping[str, Feature]:
        return self.source.features

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        return _example(self.source, index, self.names)


def _example(source: Source, index: int, names: Sequence[str]) -> Example:
    if isinstance(source, View):
        return _example(source.source, int(source.rows[index]), names)
    if isinstance(source, Concatenation):
        for part in source.sources:
            if index < len(part):
                return _example(part, index, names)
            index -= len(part)
    if isinstance(source, ArraySource):
        columns = source.columns
        return {key: columns[key][index] for key in (*names, "mask") if key in columns}
    return source[index]
