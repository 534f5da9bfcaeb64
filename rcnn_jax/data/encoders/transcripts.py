"""Lines with their text, as arrays: the encoder of transcription."""

import collections
import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders.base import EncodedSource, asset, read_each
from rcnn_jax.data.files.line_images import to_height, width_at
from rcnn_jax.data.sources import Example, Source
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.data.text.alphabet import NORMALIZATIONS, Alphabet, decoded, normalized

# Features of encoded examples beside the lines, as `rcnn_jax.tasks.transcription` reads them.
MADE = ("length", "labels", "label_length")
IN_TRAINING = ("error", "drop")
ELSEWHERE = ("keep", "drop", "error")


@dataclasses.dataclass(frozen=True)
class Transcripts:
    """Encodes pictures of lines, or frames of recordings, and the feature `text`.

    A line has `image` uint8 `[height, width, 1]`, in which 0 is background, or `frames` float32
    `[time, bins]`, and `text`, its UTF-8 bytes; one to be read only may have no text.

    Encoded examples hold `image` uint8 `[height, width, 1]` or `frames` float32 `[time, bins]`,
    padded with zeros at the end; `length` int32 `[]`, the width or time without padding; `labels`
    int32 `[most]`, ids from 1 and zeros behind the last; `label_length` int32 `[]`. Width, time and
    `most` are those of the split's longest line. Features of one shape are kept.

    Attributes:
        height: of all pictures; 0: that of the highest of the training split.
        scale: scale pictures of another height, up or down. Without it lower ones keep their size
            and stand in the middle; higher ones are scaled down all the same.
        multiple: what width or time is a multiple of.
        standardize: subtract from frames the mean of each bin over the training split, and divide
            them by its standard deviation.
        normalization: of text, see `rcnn_jax.data.text.alphabet.normalized`.
        alphabet: the characters; "" for all that the training split has.
        min_count: characters that the training split has less often are left out of the alphabet.
        unknown_in_training: what to do where training text has a character that is not in the
            alphabet: `error`, or `drop` it from the labels.
        unknown: what to do in splits that are evaluated: `keep` gives it an id that no model can
            write, so that it counts as an error; `drop`; `error`.
    """

    offers = ("classes", "alphabet")
    required = ("classes",)

    height: int = 0
    scale: bool = True
    multiple: int = 1
    standardize: bool = True
    normalization: str = "NFC"
    alphabet: str = ""
    min_count: int = 1
    unknown_in_training: str = "error"
    unknown: str = "keep"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("normalization", NORMALIZATIONS),
            ("unknown_in_training", IN_TRAINING),
            ("unknown", ELSEWHERE),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name, least in (("height", 0), ("multiple", 1), ("min_count", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.alphabet and self.min_count > 1:
            raise ValueError(
                f"alphabet={self.alphabet!r} is given, min_count={self.min_count} would choose one"
            )

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Nothing is known without data."""
        return {}

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """The alphabet of the training split, the height of its lines, the statistics of frames.

        Raises:
            ValueError: a line has no text or no extent, or characters outside the alphabet.
        """
        kind, highest, texts = _kind(source), 1, []
        total, squares, count = np.zeros(()), np.zeros(()), 0
        for line in self.lines(source, kind, ("text",)):
            # The values are not held: a training split may be larger than memory.
            texts.append(dataclasses.replace(line, values=np.zeros(0)))
            if kind == "image":
                highest = max(highest, line.values.shape[0])
            elif self.standardize:
                frames = line.values.astype(np.float64)
                total, squares = total + frames.sum(axis=0), squares + (frames**2).sum(axis=0)
                count += len(frames)
        given = tuple(dict.fromkeys(normalized(self.alphabet, self.normalization)))
        alphabet = Alphabet(given or _counted(texts, self.min_count))
        if self.unknown_in_training == "error":
            for line in texts:
                _refuse_unknown(line, alphabet)
        found = {"alphabet": alphabet.to_array()}
        if kind == "image":
            found["line_height"] = np.array(self.height or highest, np.int32)
        elif self.standardize and count:
            mean = total / count
            deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
            found["frame_mean"] = mean.astype(np.float32)
            # A bin that never changes says nothing, whatever it is divided by.
            found["frame_deviation"] = np.where(deviation < 1e-6, 1, deviation).astype(np.float32)
        return found

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundTranscripts":
        """See `rcnn_jax.data.encoders.base.Encoder`: `others` are those that are evaluated."""
        alphabet = Alphabet.from_array(asset(assets, "alphabet"))
        return BoundTranscripts(self, alphabet, dict(assets), tuple(others))

    def lines(self, source: Source, kind: str, further: tuple[str, ...] = ()) -> Iterator["_Line"]:
        """Each line of a split that could be read; `further` are features that it must have."""
        read = functools.partial(_line, kind, self.normalization)
        found = read_each(source, (kind, *further), "transcripts have", read)
        return (line for line in found if line is not None)


@dataclasses.dataclass(frozen=True)
class BoundTranscripts:
    """`Transcripts` with what the training split taught.

    Attributes:
        encoder: what it was bound to.
        alphabet: the characters.
        assets: `line_height`, or `frame_mean` and `frame_deviation`, perhaps among others.
        evaluated: splits that are not trained on.
    """

    encoder: Transcripts
    alphabet: Alphabet
    assets: Mapping[str, np.ndarray]
    evaluated: tuple[Source, ...] = dataclasses.field(default=(), repr=False)

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`classes`: the characters and the blank."""
        return {**self.encoder.for_model, "classes": len(self.alphabet) + 1}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """`alphabet`: the characters, that of id i at place i - 1."""
        return {"alphabet": self.alphabet.characters}

    def wrap(self, source: Source) -> EncodedSource:
        """See `rcnn_jax.data.encoders.base.Encoding`; every line is looked at, for the longest.

        Characters outside the alphabet that are kept or dropped are told of in one line of stderr.
        A split without the feature `text` is encoded without labels.

        Raises:
            ValueError: a line has no text or no extent, frames of another number of bins, or a
                character outside the alphabet where that is an error.
        """
        kind, policy = _kind(source), self._policy(source)
        longest, most, strange, first = 1, 1, 0, ""
        for line in self.encoder.lines(source, kind):
            longest = max(longest, self._extent(line))
            most = max(most, len(self._labels(line, policy)))
            unknown = self.alphabet.unknown(line.text)
            if unknown and not strange:
                first = _name(line, unknown[0])
            strange += len(unknown)
        if strange:
            what = "they count as errors" if policy == "keep" else "they are left out of it"
            print(
                "warning: the text of a split has characters that the alphabet has not, "
                f"{strange:,} in all; {what}; the first is {first}",
                file=sys.stderr,
                flush=True,
            )
        longest = -(-longest // self.encoder.multiple) * self.encoder.multiple
        if kind == "image":
            values = Feature((self._height, longest, 1), "uint8")
        else:
            values = Feature((longest, source.features[kind].shape[-1]), "float32")
        features = {kind: values, "length": Feature((), "int32")}
        if "text" in source.features:
            features |= {"labels": Feature((most,), "int32"), "label_length": Feature((), "int32")}
        for name, feature in source.features.items():
            if name not in (kind, "text") and None not in feature.shape:
                features[name] = feature
        encode = functools.partial(self._encode, features, kind, policy)
        return EncodedSource(source, encode, features)

    @property
    def _height(self) -> int:
        return int(asset(self.assets, "line_height"))

    def _policy(self, source: Source) -> str:
        evaluated = any(source is other for other in self.evaluated)
        return self.encoder.unknown if evaluated else self.encoder.unknown_in_training

    def _extent(self, line: "_Line") -> int:
        if line.values.ndim == 3:
            return width_at(line.values.shape, self._height, scale=self.encoder.scale)
        mean = self._mean
        if mean is not None and line.values.shape[1:] != mean.shape:
            raise ValueError(
                f"{line.where} has frames of {line.values.shape[1]} bins, those of the training "
                f"split have {len(mean)}"
            )
        return len(line.values)

    @property
    def _mean(self) -> np.ndarray | None:
        return asset(self.assets, "frame_mean") if self.encoder.standardize else None

    def _labels(self, line: "_Line", policy: str) -> np.ndarray:
        if policy == "error":
            _refuse_unknown(line, self.alphabet)
        ids = self.alphabet.encode(line.text)
        return ids[ids != self.alphabet.unknown_id] if policy == "drop" else ids

    def _values(self, line: "_Line") -> np.ndarray:
        if line.values.ndim == 3:
            return to_height(line.values, self._height, scale=self.encoder.scale)
        if self._mean is None:
            return line.values
        return (line.values - self._mean) / asset(self.assets, "frame_deviation")

    def _encode(
        self, features: Mapping[str, Feature], kind: str, policy: str, example: Example, index: int
    ) -> Example:
        line = _line(kind, self.encoder.normalization, example, index)
        encoded = padding(features)
        kept = [name for name in features if name in example and name != kind]
        encoded |= {name: np.asarray(example[name]) for name in kept}
        values = self._values(line)
        if kind == "image":
            encoded[kind][:, : values.shape[1]] = values
        else:
            encoded[kind][: len(values)] = values
        encoded["length"] = np.array(self._extent(line), np.int32)
        if "labels" in features:
            labels = self._labels(line, policy)
            encoded["labels"][: len(labels)] = labels
            encoded["label_length"] = np.array(len(labels), np.int32)
        del encoded["mask"]
        return encoded


@dataclasses.dataclass(frozen=True)
class _Line:
    """A picture or frames, with text.

    Attributes:
        values: uint8 `[height, width, 1]` or float32 `[time, bins]`.
        text: normalised; "" in a split without text.
        where: what a message calls the line.
    """

    values: np.ndarray
    text: str
    where: str


def _line(kind: str, normalization: str, example: Example, index: int) -> _Line:
    where = f"line {index} of the split"
    if "file" in example:
        where = f"{decoded(example['file'])} ({where})"
    values = np.asarray(example[kind])
    if kind == "image":
        fits = values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] == 1
    else:
        fits = values.dtype.kind == "f" and values.ndim == 2
    if not fits or not values.size:
        wanted = "uint8[height, width, 1]" if kind == "image" else "float32[time, bins]"
        raise ValueError(
            f"{where} has {kind} {values.dtype}{list(values.shape)}, expected is {wanted}, none of "
            "them 0"
        )
    if "text" not in example:
        return _Line(values, "", where)
    try:
        text = normalized(decoded(example["text"]), normalization)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not text:
        raise ValueError(f"{where} has an empty text")
    return _Line(values, text, where)


def _kind(source: Source) -> str:
    """What is read: pictures or frames."""
    found = [name for name in ("image", "frames") if name in source.features]
    if len(found) != 1:
        raise ValueError(
            "transcripts need one of the features 'image' and 'frames', the data set has "
            f"{', '.join(map(repr, source.features))}"
        )
    return found[0]


def _counted(lines: Sequence[_Line], min_count: int) -> tuple[str, ...]:
    """The characters that lines have so often, in the order of their code points."""
    counts = collections.Counter(character for line in lines for character in line.text)
    found = tuple(sorted(character for character, n in counts.items() if n >= min_count))
    if not found:
        raise ValueError(
            f"min_count={min_count} leaves none of the {len(counts)} characters of the "
            f"{len(lines):,} lines"
        )
    return found


def _refuse_unknown(line: _Line, alphabet: Alphabet) -> None:
    for place in alphabet.unknown(line.text)[:1]:
        raise ValueError(
            f"{_name(line, place)} is not in the alphabet of {len(alphabet)} characters"
        )


def _name(line: _Line, place: int) -> str:
    character = line.text[place]
    return f"{character!r} (U+{ord(character):04X}) at position {place} of {line.where}"
