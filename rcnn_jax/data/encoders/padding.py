"""An encoder that pads sequences of different lengths to one shape and adds their lengths.

A config uses it as follows::

    "encoder": {"name": "rcnn_jax.data.encoders.padding:Padded"},
    "task": {"name": "rcnn_jax.tasks.classification:Classification", "inputs": "clip",
             "lengths": "length"},
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders.base import EncodedSource, asset, read_each
from rcnn_jax.data.sources import Example, Source
from rcnn_jax.data.spec import Feature

LONGER = ("cut", "error")


@dataclasses.dataclass(frozen=True)
class Padded:
    """Pads features along their first axis, such as clips, sequences of vectors or recordings.

    Encoded examples hold each padded feature `[most, ...]` in the dtype of the data set, and
    `length` `int32[]`, the number of its real steps. All padded features of an example have the
    same length. Other features are kept if they have a fixed shape and dropped if their shape
    varies.

    Attributes:
        features: Names of the features that are padded; `()` for all whose first axis varies.
        length: Name of the feature that holds the length.
        most: Number of steps of a padded feature, at least 1; None for the length of the longest
            example of the training split.
        longer: Treatment of examples with more than `most` steps: `cut` drops the steps beyond
            `most`, with a warning that states the number of such examples; `error` raises.
        value: Value of padded steps, for all padded features or as a mapping from feature to value
            with default 0.

    Raises:
        ValueError: If an argument lies outside its range.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.encoders.padding import Padded
        >>> from rcnn_jax.data.sources import ArraySource
        >>> from rcnn_jax.data.spec import Feature
        >>> clips = [np.ones(2, np.float32), np.ones(3, np.float32)]
        >>> source = ArraySource({"clip": clips}, {"clip": Feature((None,), "float32")})
        >>> encoder = Padded()
        >>> encoded = encoder.bind(encoder.fit(source)).wrap(source)[0]
        >>> encoded["clip"].tolist(), int(encoded["length"])
        ([1.0, 1.0, 0.0], 2)
    """

    # Neither the model nor the task takes an argument from this encoder.
    offers = ()
    required = ()

    features: tuple[str, ...] = ()
    length: str = "length"
    most: int | None = None
    longer: str = "cut"
    value: float | Mapping[str, float] = 0.0

    def __post_init__(self) -> None:
        if self.longer not in LONGER:
            raise ValueError(f"longer is one of {', '.join(LONGER)}, got {self.longer!r}")
        if self.most is not None and self.most < 1:
            raise ValueError(f"most must be at least 1, or None, got {self.most}")
        if not self.length:
            raise ValueError("length names a feature, got an empty name")

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Empty: no argument of the model is determined."""
        return {}

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """Measures the longest example of the training split.

        Args:
            source: The training split.

        Returns:
            `padded_length` `int32[]`; an empty dict if `most` is given.

        Raises:
            ValueError: If a feature to be padded is missing, has another varying axis or is empty
                in an example, or if the features of an example have different lengths.
        """
        for name in self.features:
            if name not in source.features:
                raise ValueError(
                    f"config.encoder.features names {name!r}, the data set has "
                    f"{', '.join(map(repr, source.features))}"
                )
        names = self.padded(source)
        if self.most is not None:
            return {}
        return {"padded_length": np.array(max(self.lengths(source, names), default=1), np.int32)}

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundPadded":
        """Returns the encoder bound to the length of the training split.

        Args:
            assets: Arrays that `fit` returned, possibly among others.
            others: Further splits to be encoded, whose examples may be longer.

        Raises:
            ValueError: If `most` is None and the asset `padded_length` is missing.
        """
        most = self.most or int(asset(assets, "padded_length"))
        return BoundPadded(self, most, tuple(others))

    def padded(self, source: Source) -> tuple[str, ...]:
        """Returns the names of the features of a split that are padded.

        Args:
            source: The split.

        Raises:
            ValueError: If there is no such feature, or padding would not give examples of one
                shape.
        """
        features = source.features
        varying = [name for name, feature in features.items() if feature.shape[:1] == (None,)]
        names = tuple(name for name in self.features or varying if name in features)
        if not names:
            raise ValueError(
                f"padding needs {' or '.join(map(repr, self.features)) or 'a varying first axis'}, "
                f"the data set has {_described(features)}; see config.encoder.features"
            )
        for name in names:
            shape = features[name].shape
            if not shape or None in shape[1:]:
                raise ValueError(
                    f"padding makes one shape along the first axis, but {name!r} is "
                    f"{_described({name: features[name]})}: name others with "
                    "config.encoder.features, or bring it to one size first"
                )
        if self.length in features:
            raise ValueError(
                f"the data set has a feature {self.length!r} already: give the length that padding "
                "adds another name, with config.encoder.length"
            )
        return names

    def lengths(self, source: Source, names: Sequence[str]) -> Iterator[int]:
        """Returns an iterator over the lengths of the readable examples of a split, in order.

        Args:
            source: The split.
            names: Names of the features that are padded.
        """
        read = functools.partial(_length, names)
        lengths = read_each(source, names, "padded sequences have", read)
        return (length for length in lengths if length is not None)


@dataclasses.dataclass(frozen=True)
class BoundPadded:
    """`Padded` bound to the length of the training split.

    Attributes:
        encoder: The encoder before binding.
        most: Number of steps of a padded feature.
        evaluated: Splits that are not trained on.
    """

    encoder: Padded
    most: int
    evaluated: tuple[Source, ...] = dataclasses.field(default=(), repr=False)

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Empty: no argument of the model is determined."""
        return {}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """Empty: no argument of the task is determined."""
        return {}

    def wrap(self, source: Source) -> EncodedSource:
        """Returns a split whose examples are padded to `most` steps.

        Every example of a split that may be too long is read; one line on stderr states how many
        are.

        Args:
            source: The split as the data set stores it.

        Raises:
            ValueError: If an example is longer than `most` and `longer` is `error`, or a split
                cannot be padded; see `Padded.fit`.
        """
        names = self.encoder.padded(source)
        # The training split was measured when the encoder was fitted.
        fitted = self.encoder.most is None and not any(source is o for o in self.evaluated)
        if not fitted:
            self._look_at(source, names)
        features = {
            name: dataclasses.replace(feature, shape=(self.most, *feature.shape[1:]))
            if name in names
            else feature
            for name, feature in source.features.items()
            if name in names or None not in feature.shape
        }
        features[self.encoder.length] = Feature((), "int32")
        empty = {name: self._empty(name, features[name]) for name in names}
        encode = functools.partial(self._encode, features, empty, fitted)
        return EncodedSource(source, encode, features)

    def _look_at(self, source: Source, names: Sequence[str]) -> None:
        count, longest = 0, 0
        for length in self.encoder.lengths(source, names):
            count, longest = count + (length > self.most), max(length, longest)
        if not count:
            return
        what = f"{count:,} of {len(source):,} examples of a split are longer than {self.most} steps"
        if self.encoder.longer == "error":
            raise ValueError(
                f"{what}, the longest has {longest}: set config.encoder.most={longest}, or "
                "config.encoder.longer='cut'"
            )
        print(
            f"warning: {what}, the longest has {longest}; what is too much is cut off",
            file=sys.stderr,
            flush=True,
        )

    def _empty(self, name: str, feature: Feature) -> np.ndarray:
        value = self.encoder.value
        if isinstance(value, Mapping):
            value = value.get(name, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            padding = np.asarray(value, np.float64).astype(feature.dtype)
        if np.dtype(feature.dtype).kind in "iub" and padding != value:
            raise ValueError(
                f"config.encoder.value={value} cannot be held by {name!r}, {padding.dtype}"
            )
        return np.full([size or 0 for size in feature.shape], padding)

    def _encode(
        self,
        features: Mapping[str, Feature],
        empty: Mapping[str, np.ndarray],
        fitted: bool,
        example: Example,
        index: int,
    ) -> Example:
        length = _length(tuple(empty), example, index)
        if fitted and length > self.most:
            raise ValueError(
                f"example {index} of the training split has {length} steps, its longest had "
                f"{self.most} when it was fitted: the data have changed since"
            )
        encoded = {name: np.asarray(example[name]) for name in features if name in example}
        for name, rows in empty.items():
            values = encoded[name][: self.most]
            encoded[name] = rows.copy()
            encoded[name][: len(values)] = values
        encoded[self.encoder.length] = np.array(min(length, self.most), np.int32)
        return encoded


def _length(names: Sequence[str], example: Example, index: int) -> int:
    lengths = {name: len(example[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"example {index} of the split has features of different lengths, {lengths}: name "
            "those that belong together with config.encoder.features"
        )
    length = next(iter(lengths.values()))
    if not length:
        raise ValueError(f"example {index} of the split has an empty {names[0]!r}")
    return length


def _described(features: Mapping[str, Feature]) -> str:
    """Returns features with dtypes and shapes for messages, `?` for an axis that varies."""
    shapes = {
        name: ", ".join("?" if size is None else str(size) for size in feature.shape)
        for name, feature in features.items()
    }
    return ", ".join(f"{name!r} {features[name].dtype}[{shape}]" for name, shape in shapes.items())
