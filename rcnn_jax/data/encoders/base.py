"""From what a data set stores to what a model reads, by numbers fitted on the training split.

Text has no shape and no numbers: which ids words get, and how many there are, the training split
decides. An `Encoder`, named by `config.encoder`, is fitted there once. Its assets lie in the
workdir; bound to them it turns every split into examples of one shape, and tells the model and the
task the sizes that only data know.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from rcnn_jax.data.sources import ArraySource, Example, Source, check_indices, select
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.errors import UsageError, did_you_mean

T = TypeVar("T")


@runtime_checkable
class Encoding(Protocol):
    """An encoder with what it learnt from the training split."""

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Arguments of the model that data decide, such as `vocabulary` and `classes`."""
        ...

    @property
    def for_task(self) -> Mapping[str, Any]:
        """Arguments of the task that data decide, such as `tags`."""
        ...

    def wrap(self, source: Source) -> Source:
        """The split as examples of one shape.

        Raises:
            ValueError: an example cannot be encoded; the sentence names it.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """What `config.encoder` names: called with the section's other keys, it gives one of these.

    One of a fork may leave out `offers` and `required`; then it is known only after `fit` whether
    it offers what model and task need.
    """

    @property
    def offers(self) -> Sequence[str]:
        """The names of all arguments that it offers, bound, to the model or to the task."""
        ...

    @property
    def required(self) -> Sequence[str]:
        """Those of them that the model or the task must take, as `classes`: else labels go wrong.

        All others are left out where nobody takes them.
        """
        ...

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Arguments of the model that it decides without data, such as `encoding`."""
        ...

    def fit(self, source: Source) -> Mapping[str, np.ndarray]:
        """What is learnt from the TRAINING split, as plain arrays for the workdir."""
        ...

    def bind(self, assets: Mapping[str, np.ndarray], others: Sequence[Source]) -> Encoding:
        """The encoder with what it learnt.

        Args:
            assets: what `fit` returned, perhaps among others.
            others: further splits to be encoded. They decide no number of the model; a label that
                only they have may get an id beyond those that it answers with.

        Raises:
            ValueError: an asset is missing or holds something else.
        """
        ...


def check_takers(encoder: Encoder, name: str, takers: Mapping[str, Collection[str]]) -> None:
    """Checks that what an encoder must hand over is taken.

    Args:
        encoder: the encoder, not fitted yet.
        name: its import path, for the message.
        takers: import path of the model and of the task, to the arguments that each takes.

    Raises:
        UsageError: neither takes an argument that the encoder requires to be taken.
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
    """Examples of another source, each encoded when it is asked for.

    Attributes:
        source: the other source.
        encode: takes one of its examples and its index to the arrays of `features`.
        features: name to `Feature`, of one shape each.
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
        """See `Source.gather`."""
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
        """The same examples, all encoded once."""
        return ArraySource(self.gather(np.arange(len(self))), self.features)


def _check_encoded(name: str, feature: Feature, value: np.ndarray, index: int) -> None:
    """Raises a `ValueError` where an encoder made something else than it promised."""
    # The array that an example is written into has the promised type, and would take any shape
    # that can be repeated to its own.
    same_kind = np.can_cast(value.dtype, feature.dtype, "same_kind")
    if value.shape != feature.shape or not same_kind:
        raise ValueError(
            f"the encoder made {value.dtype}{list(value.shape)} of feature {name!r} of example "
            f"{index}, its features say {feature.dtype}{list(feature.shape)}"
        )
    # In a sequence of labels a negative one stands for none: padding asks for nothing.
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
        source: the split.
        features: those that `read` needs.
        what: the beginning of the sentence that says that one is missing.
        read: takes an example and its index to what is wanted of it.

    Yields:
        What `read` gives; None for an example that could not be read.

    Raises:
        ValueError: a feature is missing.
    """
    _require(source, features, what)
    for index in range(len(source)):
        example = source[index]
        yield read(example, index) if example.get("mask", 1) else None


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
    """One of the arrays that an encoder learnt.

    Raises:
        ValueError: it is not there.
    """
    if name not in assets:
        raise ValueError(
            f"the encoder needs the asset {name!r}, fitted on the training split; there are "
            f"{', '.join(assets) or 'none'}"
        )
    return assets[name]
