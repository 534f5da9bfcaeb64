"""Encoders, which turn stored examples into model inputs by values fitted on the training split.

Text has neither a shape nor ids: the training split decides which ids words get and how many there
are. An `Encoder`, named by `config.encoder`, is fitted on it once, and its assets are kept in the
workdir. Bound to these assets, it turns every split into examples of one shape and passes to the
model and the task the sizes that only the data determine.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from rcnn_jax.data import notices
from rcnn_jax.data.sources import ArraySource, Example, Source, check_indices, select
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.errors import UsageError, did_you_mean

T = TypeVar("T")


@runtime_checkable
class Encoding(Protocol):
    """An encoder bound to the assets that it learned from the training split."""

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Arguments of the model that the data determine, such as `vocabulary` and `classes`."""
        ...

    @property
    def for_task(self) -> Mapping[str, Any]:
        """Arguments of the task that the data determine, such as `tags`."""
        ...

    def wrap(self, source: Source) -> Source:
        """Returns a split whose examples are encoded to one shape.

        Args:
            source: The split as the data set stores it.

        Raises:
            ValueError: If an example cannot be encoded; the message names it.
        """
        ...


@runtime_checkable
class SizedEncoding(Encoding, Protocol):
    """An encoding that pads examples to the longest of a split, or to any length from there on.

    Files of different length are then padded in groups of similar length, and not all of them to
    the longest.
    """

    @property
    def multiple(self) -> int:
        """Padded lengths are multiples of this."""
        ...

    def extents(self, source: Source) -> np.ndarray:
        """Returns the lengths of examples without padding, and reports what is strange about them.

        Args:
            source: The examples as the data set stores them, all of which can be read.

        Returns:
            Lengths `int64[examples]`.

        Raises:
            ValueError: If an example cannot be encoded; the message names it.
        """
        ...

    def wrap(self, source: Source, longest: int = 0) -> Source:
        """Returns examples that are padded to one shape.

        Args:
            source: The examples as the data set stores them.
            longest: Length to which they are padded at least. If it is above 0, they are a part of
                examples that `extents` has seen, and nothing is reported again.

        Raises:
            ValueError: If an example cannot be encoded; the message names it.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """The interface of the object that `config.encoder` creates from the section's other keys.

    An encoder of a fork may omit `offers` and `required`. Whether it offers what the model and the
    task need is then known only after `fit`.
    """

    @property
    def offers(self) -> Sequence[str]:
        """Names of all arguments that the bound encoder offers to the model or to the task."""
        ...

    @property
    def required(self) -> Sequence[str]:
        """Names among `offers` that the model or the task must take, such as `classes`.

        Labels would be wrong without them. All other arguments are dropped if neither takes them.
        """
        ...

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Arguments of the model that are known without data, such as `encoding`."""
        ...

    def fit(self, source: Source) -> Mapping[str, np.ndarray]:
        """Learns from the training split.

        Args:
            source: The TRAINING split.

        Returns:
            Mapping from names to plain arrays, which are kept in the workdir.
        """
        ...

    def bind(self, assets: Mapping[str, np.ndarray], others: Sequence[Source]) -> Encoding:
        """Returns the encoder bound to the assets that it learned.

        Args:
            assets: Arrays that `fit` returned, possibly among others.
            others: Further splits to be encoded. They determine no argument of the model; a label
                that occurs only in them may get an id beyond those that the model can predict.

        Raises:
            ValueError: If an asset is missing or holds something else.
        """
        ...


def check_takers(encoder: Encoder, name: str, takers: Mapping[str, Collection[str]]) -> None:
    """Checks that the model or the task takes every argument that an encoder requires to be taken.

    Args:
        encoder: The encoder, which need not be fitted.
        name: Import path of the encoder, for the message.
        takers: Mapping from the import paths of the model and of the task to the names of the
            arguments that each takes.

    Raises:
        UsageError: If neither takes an argument that the encoder requires to be taken.
    """
    arguments = {argument for taken in takers.values() for argument in taken}
    for required in getattr(encoder, "required", ()):
        if required not in arguments:
            raise UsageError(
                f"config.encoder: {name} finds {required!r} in the data, and neither "
                f"{' nor '.join(takers)} takes an argument of that name"
                f"{did_you_mean(required, arguments)}."
            )


@dataclasses.dataclass(frozen=True)
class EncodedSource:
    """A source that encodes the examples of another source each time they are accessed.

    Attributes:
        source: The underlying source.
        encode: Returns the arrays of `features`, given an example of `source` and its index.
        features: Mapping from name to `Feature`, each of a fixed shape.
    """

    source: Source
    encode: Callable[[Example, int], Example]
    features: Mapping[str, Feature]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        if not example.get("mask", 1):
            return padding(self.features)
        encoded = self.encode(example, index)
        for name, feature in self.features.items():
            _check_encoded(name, feature, np.asarray(encoded[name]), index)
        return encoded

    def gather(self, indices: np.ndarray) -> Example:
        """Returns several examples, encoded and stacked; see `Source.gather`.

        Args:
            indices: Indices of the examples, `int64[batch]` in `[0, len(self))`.
        """
        check_indices(indices, len(self))
        batch = {
            name: np.zeros((len(indices), *empty.shape), empty.dtype)
            for name, empty in padding(self.features).items()
            if name != "mask"
        }
        mask = np.ones(len(indices), np.float32)
        for row, index in enumerate(indices.tolist()):
            example = self[index]
            mask[row] = example.get("mask", 1)
            for name, rows in batch.items():
                rows[row] = example[name]
        return batch if mask.all() else {**batch, "mask": mask}

    def in_memory(self) -> ArraySource:
        """Returns a source that holds all examples in memory, encoded once."""
        return ArraySource(self.gather(np.arange(len(self))), self.features)


def _check_encoded(name: str, feature: Feature, value: np.ndarray, index: int) -> None:
    """Raises `ValueError` if an encoder returned something other than its features promise."""
    # The array that an example is written into has the promised type and would accept any shape
    # that broadcasts to its shape.
    same_kind = np.can_cast(value.dtype, feature.dtype, "same_kind")
    if value.shape != feature.shape or not same_kind:
        raise ValueError(
            f"the encoder made {value.dtype}{list(value.shape)} of feature {name!r} of example "
            f"{index}, its features say {feature.dtype}{list(feature.shape)}"
        )
    # In a sequence of labels a negative value marks padding, which has no label.
    stray = feature.stray(value[value >= 0] if value.ndim else value)
    if stray is not None:
        raise ValueError(
            f"the encoder made {stray} of feature {name!r} of example {index}, allowed are 0 to "
            f"{(feature.num_classes or 0) - 1}"
        )


def read_each(
    source: Source, features: Sequence[str], what: str, read: Callable[[Example, int], T]
) -> Iterator[T | None]:
    """Reads every example of a split, in order.

    Args:
        source: The split.
        features: Names of the features that `read` needs.
        what: Beginning of the sentence that reports a missing feature.
        read: Returns the wanted value, given an example and its index.

    Yields:
        The result of `read` for each example; None for an example that could not be read.

    Raises:
        ValueError: If a feature is missing.
    """
    _require(source, features, what)
    for index in range(len(source)):
        example = source[index]
        yield read(example, index) if example.get("mask", 1) else None
    notices.sum_up()


def read_columns(source: Source, names: Sequence[str], what: str) -> Iterator[Example | None]:
    """Reads a few features of every example of a split, in order.

    Args:
        source: The split. If its examples are records, each is read as a whole.
        names: Names of the features.
        what: Beginning of the sentence that reports a missing feature.

    Yields:
        Mapping from name to value for each example; None for an example that could not be read.

    Raises:
        ValueError: If a feature is missing.
    """

    def read(example: Example, index: int) -> Example:
        del index
        return {name: np.asarray(example[name]) for name in names}

    _require(source, names, what)
    yield from read_each(select(source, names), names, what, read)


def _require(source: Source, features: Sequence[str], what: str) -> None:
    for name in features:
        if name not in source.features:
            raise ValueError(
                f"{what} a feature {name!r}, the data set has "
                f"{', '.join(map(repr, source.features))}"
            )


def asset(assets: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Returns one of the arrays that an encoder learned.

    Args:
        assets: Mapping from names to arrays.
        name: Name of the array.

    Raises:
        ValueError: If there is no array of that name.
    """
    if name not in assets:
        raise ValueError(
            f"the encoder needs the asset {name!r}, fitted on the training split; there are "
            f"{', '.join(assets) or 'none'}"
        )
    return assets[name]
