"""Sequences of different lengths as arrays of one shape and their lengths: an encoder.

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
    """Pads features along their first axis: clips, sequences of vectors, recordings.

    Encoded examples hold each padded feature `[most, ...]`, in its own dtype, and `length` int32
    `[]`, how many of its steps are real. All padded features of an example are equally long.
    Features of one shape are kept; what else differs between examples is left out.

    Attributes:
        features: Names of the features that are padded; () for all whose first axis varies.
        length: Name of the feature that holds the length.
        most: Steps of a padded feature; None: those of the longest example of the training split.
        longer: What is done with an example of more steps: `cut` off what is too much, with a
            warning that says how many examples there are; or `error`.
        value: What padding holds; {feature: value} where features differ, 0 for the others.
    """

    # Nothing that a model or a task takes as an argument.
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
        """No argument of the model is known."""
        return {}

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """Measures the longest example of the training split.

        Returns:
            `padded_length` int32 `[]`; empty where `most` is given.

        Raises:
            ValueError: A feature to be padded is missing, has another varying axis or is empty in
                an example, or the features of an example have different lengths.
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
        """See `rcnn_jax.data.encoders.base.Encoder`: `others` may have longer examples."""
        most = self.most or int(asset(assets, "padded_length"))
        return BoundPadded(self, most, tuple(others))

    def padded(self, source: Source) -> tuple[str, ...]:
        """The names of the features of a split that are padded.

        Raises:
            ValueError: There is none, or padding would not make one shape of its examples.
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
        """The length of each example of a split that could be read, in order."""
        read = functools.partial(_length, names)
        found = read_each(source, names, "padded sequences have", read)
        return (length for length in found if length is not None)


@dataclasses.dataclass(frozen=True)
class BoundPadded:
    """`Padded` with the length of the training split.

    Attributes:
        encoder: What it was bound to.
        most: Steps of a padded feature.
        evaluated: Splits that are not trained on.
    """

    encoder: Padded
    most: int
    evaluated: tuple[Source, ...] = dataclasses.field(default=(), repr=False)

    @property
    def for_model(self) -> Mapping[str, Any]:
        """No argument of the model is known."""
        return {}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """No argument of the task is known."""
        return {}

    def wrap(self, source: Source) -> EncodedSource:
        """See `rcnn_jax.data.encoders.base.Encoding`.

        Every example that may be too long is looked at; how many are is said in one line of stderr.

        Raises:
            ValueError: An example is too long, where `longer` is `error`; see also `Padded.fit`.
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
            held = np.asarray(value, np.float64).astype(feature.dtype)
        if np.dtype(feature.dtype).kind in "iub" and held != value:
            raise ValueError(
                f"config.encoder.value={value} cannot be held by {name!r}, {held.dtype}"
            )
        return np.full([size or 0 for size in feature.shape], held)

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
    """Features with dtypes and shapes, `?` for an axis that varies."""
    shapes = {
        name: ", ".join("?" if size is None else str(size) for size in feature.shape)
        for name, feature in features.items()
    }
    return ", ".join(f"{name!r} {features[name].dtype}[{shape}]" for name, shape in shapes.items())
