"""The encoder of transcription: pictures or recordings of lines, with their texts."""

import collections
import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders import polarity as polarity_lib
from rcnn_jax.data.encoders import text_order
from rcnn_jax.data.encoders.base import EncodedSource, asset, read_each
from rcnn_jax.data.encoders.polarity import FLAG, Polarity
from rcnn_jax.data.files.line_images import to_height, width_at
from rcnn_jax.data.sources import Example, Source
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.data.text.alphabet import NORMALIZATIONS, Alphabet, decoded, normalized
from rcnn_jax.data.text.bidirectional import has_right_to_left
from rcnn_jax.data.text.visual_order import BASE_DIRECTIONS, VisualOrder

# Features of encoded examples beside the lines, as `rcnn_jax.tasks.transcription` reads them.
MADE = ("length", "labels", "label_length")
IN_TRAINING = ("error", "drop")
ELSEWHERE = ("keep", "drop", "error")


@dataclasses.dataclass(frozen=True)
class Transcripts:
    """Encodes pictures of lines, or frames of recordings, and the feature `text`.

    An example has `image` `uint8[height, width, 1]`, in which 0 is background, or `frames`
    `float32[time, bins]`, and `text`, its UTF-8 bytes. A split that is only to be read need not
    have `text`. An `image` may come with `inverted` `uint8[]`, which says whether the grey values
    of its file were inverted.

    Encoded examples hold `image` `uint8[height, width, 1]` or `frames` `float32[time, bins]`,
    padded with zeros at the end; `length` `int32[]`, the width or time without padding; `labels`
    `int32[most]`, ids from 1 and zeros after the last; and `label_length` `int32[]`. Width, time
    and `most` fit the longest line of the split. Other features are kept if they have a fixed
    shape.

    Attributes:
        height: Height of all pictures in pixels; 0 for that of the highest in the training split.
        scale: Whether pictures of another height are scaled up or down. If false, lower pictures
            keep their size and are centred vertically; higher ones are scaled down nevertheless.
        multiple: The padded width or time is rounded up to a multiple of this, at least 1.
        standardize: Whether frames are standardized: the mean of each bin over the training split
            is subtracted and the result divided by its standard deviation.
        normalization: Unicode normalization of texts; see `rcnn_jax.data.text.alphabet.normalized`.
        alphabet: The characters of the alphabet; `""` for all that occur in the training split.
        min_count: Characters that occur less often in the training split are left out of the
            alphabet.
        polarity: How pictures become bright ink on dark if the data set says which of them it has
            inverted, as `lines:PATH` does. `fitted` decides by the majority of the training split,
            once for all pictures that the run will read. `dark_ink` and `bright_ink` state what all
            files show, `each` decides for each picture by itself, which a data set that mixes both
            needs. Paper of grey value g becomes 255 - g under `dark_ink`, also if it is dim.
        unknown_in_training: Treatment of characters of training texts outside the alphabet: `error`
            raises, `drop` removes them from the labels.
        unknown: Treatment of such characters in splits that are evaluated: `keep` gives them an id
            that no model can predict, so that they count as errors; `drop` removes them; `error`
            raises.
        order: Order of the labels of texts with characters from right to left, such as Hebrew and
            Arabic. `logical` is that of the text itself; recordings have it. `visual` is what a
            picture shows from left to right, see `rcnn_jax.data.text.visual_order`: CTC reads along
            the width of a picture and can learn no other. `auto` is `visual` for pictures and
            `logical` for recordings. Pictures whose texts are in visual order already need
            `logical`. What the task tells is turned back to logical order.
        base_direction: Direction that the lines of pictures with characters from right to left are
            set in, which determines where their punctuation, numbers and Latin words stand. `auto`:
            a line whose letters have one direction has that one, and a line with letters of both
            that of most such lines in the training split, by their first letters. `R` or `L`: all
            have that one, as in a page or paragraph from right to left. `line`: each has that of
            its first letter; which one it was is then not seen in a line with letters of both.

    Raises:
        ValueError: If an argument lies outside its range, or both `alphabet` and `min_count` are
            given.
    """

    offers = ("classes", "alphabet", "visual_order")
    required = ("classes",)

    height: int = 0
    scale: bool = True
    multiple: int = 1
    standardize: bool = True
    normalization: str = "NFC"
    alphabet: str = ""
    min_count: int = 1
    polarity: str = "fitted"
    unknown_in_training: str = "error"
    unknown: str = "keep"
    order: str = "auto"
    base_direction: str = "auto"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("normalization", NORMALIZATIONS),
            ("unknown_in_training", IN_TRAINING),
            ("unknown", ELSEWHERE),
            ("polarity", polarity_lib.CHOICES),
            ("order", text_order.ORDERS),
            ("base_direction", BASE_DIRECTIONS),
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
        """Empty: no argument of the model is known without data."""
        return {}

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """Fits the alphabet, the order of texts, the height of lines and the statistics of frames.

        One line on stderr reports how many texts are turned to visual order, and how many of them
        do not come back from it as they were.

        Args:
            source: The training split.

        Returns:
            `alphabet` `uint32[characters]`, and `line_height` `int32[]` for pictures, with
            `dark_ink` `bool[]` where the data set says which of them it has inverted, and
            `text_order` `uint8[bytes]` where texts have characters from right to left, empty for
            logical order. For frames that are standardized, `frame_mean` and `frame_deviation`,
            each `float32[bins]`.

        Raises:
            ValueError: If a line has no text or no extent, or has characters outside the alphabet
                where that is an error; if frames are to have texts in visual order; or if
                python-bidi is needed and not installed.
        """
        kind, highest, texts = _kind(source), 1, []
        text_order.check(self.order, kind)
        total, squares, count = np.zeros(()), np.zeros(()), 0
        for line in self.lines(source, kind, ("text",)):
            # The values are not kept: a training split may be larger than memory.
            texts.append(dataclasses.replace(line, values=np.zeros(0)))
            if kind == "image":
                highest = max(highest, line.values.shape[0])
            elif self.standardize:
                frames = line.values.astype(np.float64)
                total, squares = total + frames.sum(axis=0), squares + (frames**2).sum(axis=0)
                count += len(frames)
        order = text_order.fit([line.text for line in texts], kind, self.order, self.base_direction)
        texts = [line.in_order(order) for line in texts]
        given = tuple(dict.fromkeys(normalized(self.alphabet, self.normalization)))
        alphabet = Alphabet(given or _counted(texts, self.min_count))
        if self.unknown_in_training == "error":
            for line in texts:
                _refuse_unknown(line, alphabet)
        assets = {"alphabet": alphabet.to_array()}
        if kind == "image":
            assets["line_height"] = np.array(self.height or highest, np.int32)
            if FLAG in source.features and self.polarity == "fitted":
                assets |= polarity_lib.fit(np.array([bool(line.inverted) for line in texts]))
            assets |= text_order.to_asset(order, alphabet)
        elif self.standardize and count:
            mean = total / count
            deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
            assets["frame_mean"] = mean.astype(np.float32)
            # A constant bin carries no information; it is only centred.
            assets["frame_deviation"] = np.where(deviation < 1e-6, 1, deviation).astype(np.float32)
        return assets

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundTranscripts":
        """Returns the encoder bound to what it learned from the training split.

        One line on stderr says so if the assets are of a run from before there was `order`, and it
        learnt texts with characters from right to left of pictures.

        Args:
            assets: Arrays that `fit` returned, possibly among others.
            others: The splits that are evaluated; `unknown` applies to them, `unknown_in_training`
                to all other splits.

        Raises:
            ValueError: If the asset `alphabet` is missing or does not hold an alphabet, or if
                `text_order` does not hold an order.
        """
        alphabet = Alphabet.from_array(asset(assets, "alphabet"))
        order = text_order.from_assets(assets, alphabet)
        return BoundTranscripts(self, alphabet, dict(assets), order, tuple(others))

    def lines(self, source: Source, kind: str, further: tuple[str, ...] = ()) -> Iterator["_Line"]:
        """Returns an iterator over the lines of a split that could be read, in order.

        Args:
            source: The split.
            kind: Name of the feature that holds the line: `image` or `frames`.
            further: Names of further features that the split must have.
        """
        read = functools.partial(_line, kind, self.normalization)
        lines = read_each(source, (kind, *further), "transcripts have", read)
        return (line for line in lines if line is not None)


@dataclasses.dataclass(frozen=True)
class BoundTranscripts:
    """`Transcripts` bound to what it learned from the training split.

    Attributes:
        encoder: The encoder before binding.
        alphabet: The characters that the model can predict.
        assets: `line_height`, or `frame_mean` and `frame_deviation`, possibly among others.
        order: The visual order of labels; None for logical order.
        evaluated: Splits that are not trained on.
    """

    encoder: Transcripts
    alphabet: Alphabet
    assets: Mapping[str, np.ndarray]
    order: VisualOrder | None = None
    evaluated: tuple[Source, ...] = dataclasses.field(default=(), repr=False)

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`classes`, the number of characters of the alphabet and the blank."""
        return {**self.encoder.for_model, "classes": len(self.alphabet) + 1}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """`alphabet`, characters of which that of id i has index i - 1, and `visual_order`.

        `visual_order` is the `VisualOrder` of the labels; None where they are in logical order.
        """
        return {"alphabet": self.alphabet.characters, "visual_order": self.order}

    @property
    def multiple(self) -> int:
        """Padded widths or times are multiples of this."""
        return self.encoder.multiple

    def extents(self, source: Source) -> np.ndarray:
        """Returns the widths or times of lines as they are encoded, before they are padded.

        It reports to stderr what `wrap` does.

        Args:
            source: The lines as the data set stores them, all of which can be read.

        Returns:
            Widths or times `int64[examples]`.

        Raises:
            ValueError: If a line cannot be encoded; see `wrap`.
        """
        return np.array(self._measured(source, reports=True)[0], np.int64)

    def wrap(self, source: Source, longest: int = 0) -> EncodedSource:
        """Returns a split whose lines are encoded.

        Every line is read to find the longest. One line on stderr reports characters outside the
        alphabet that are kept or dropped, one the texts of an evaluated split that do not come back
        from visual order as they were, and one pictures whose ink clearly has another polarity than
        that of the run. A split without the feature `text` is encoded without labels.

        Args:
            source: The split as the data set stores it.
            longest: Width or time to which lines are padded if none of them is longer. If it is
                above 0, the lines are a part of those of which `extents` has reported.

        Raises:
            ValueError: If a line has no text or no extent, if its frames have another number of
                bins than the training split, or if it has a character outside the alphabet where
                that is an error.
        """
        kind, policy = _kind(source), self._policy(source)
        polarity = Polarity.of(self.encoder.polarity, self.assets, source)
        extents, most = self._measured(source, reports=not longest)
        longest = max([longest, 1, *extents])
        longest = -(-longest // self.encoder.multiple) * self.encoder.multiple
        if kind == "image":
            values = Feature((self._height, longest, 1), "uint8")
        else:
            values = Feature((longest, source.features[kind].shape[-1]), "float32")
        features = {kind: values, "length": Feature((), "int32")}
        if "text" in source.features:
            features |= {"labels": Feature((most,), "int32"), "label_length": Feature((), "int32")}
        for name, feature in source.features.items():
            if name not in (kind, "text", FLAG) and None not in feature.shape:
                features[name] = feature
        encode = functools.partial(self._encode, features, kind, policy, polarity)
        return EncodedSource(source, encode, features)

    def _measured(self, source: Source, *, reports: bool) -> tuple[list[int], int]:
        """Returns the extents of all lines and the largest number of labels, at least 1."""
        kind, policy = _kind(source), self._policy(source)
        polarity = Polarity.of(self.encoder.polarity, self.assets, source)
        extents, most, strange, first, turned = [], 1, 0, "", []
        texts, evaluated = [], self._is_evaluated(source)
        for line in self.encoder.lines(source, kind):
            texts += [line.text] if evaluated and self.order is not None else []
            line = line.in_order(self.order)
            extents.append(self._extent(line))
            most = max(most, len(self._labels(line, policy)))
            unknown = self.alphabet.unknown(line.text)
            if unknown and not strange:
                first = _name(line, unknown[0])
            strange += len(unknown)
            if reports and kind == "image" and polarity.contradicted(line.values, line.inverted):
                turned.append(line.where)
        if reports and kind == "image":
            polarity_lib.report(polarity, turned, len(source))
        if reports and strange:
            what = "they count as errors" if policy == "keep" else "they are left out of it"
            print(
                "warning: the text of a split has characters that the alphabet has not, "
                f"{strange:,} in all; {what}; the first is {first}",
                file=sys.stderr,
                flush=True,
            )
        if reports:
            text_order.report(self.order, texts)
        return extents, most

    @property
    def _height(self) -> int:
        return int(asset(self.assets, "line_height"))

    def _is_evaluated(self, source: Source) -> bool:
        return any(source is other for other in self.evaluated)

    def _policy(self, source: Source) -> str:
        if self._is_evaluated(source):
            return self.encoder.unknown
        return self.encoder.unknown_in_training

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

    def _values(self, line: "_Line", polarity: Polarity) -> np.ndarray:
        if line.values.ndim == 3:
            image = polarity.apply(line.values, line.inverted)
            return to_height(image, self._height, scale=self.encoder.scale)
        if self._mean is None:
            return line.values
        return (line.values - self._mean) / asset(self.assets, "frame_deviation")

    def _encode(
        self,
        features: Mapping[str, Feature],
        kind: str,
        policy: str,
        polarity: Polarity,
        example: Example,
        index: int,
    ) -> Example:
        line = _line(kind, self.encoder.normalization, example, index).in_order(self.order)
        encoded = padding(features)
        kept = [name for name in features if name in example and name != kind]
        encoded |= {name: np.asarray(example[name]) for name in kept}
        values = self._values(line, polarity)
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
    """A line as a picture or as frames, with its text.

    Attributes:
        values: Picture `uint8[height, width, 1]` or frames `float32[time, bins]`.
        text: Normalized text, in the order of labels; `""` in a split without texts.
        where: Description of the line for messages.
        inverted: Whether a picture's grey values were inverted; None if the data set does not say.
    """

    values: np.ndarray
    text: str
    where: str
    inverted: bool | None = None

    def in_order(self, order: VisualOrder | None) -> "_Line":
        """Returns the line with its text in visual order, or the line itself without an order."""
        if order is None:
            return self
        try:
            return dataclasses.replace(self, text=order.visual(self.text))
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None


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
    inverted = bool(example[FLAG]) if FLAG in example else None
    if "text" not in example:
        return _Line(values, "", where, inverted)
    try:
        text = normalized(decoded(example["text"]), normalization)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not text:
        raise ValueError(f"{where} has an empty text")
    return _Line(values, text, where, inverted)


def _kind(source: Source) -> str:
    """Returns which of the features `image` and `frames` holds the lines of a split."""
    kinds = [name for name in ("image", "frames") if name in source.features]
    if len(kinds) != 1:
        raise ValueError(
            "transcripts need one of the features 'image' and 'frames', the data set has "
            f"{', '.join(map(repr, source.features))}"
        )
    return kinds[0]


def _counted(lines: Sequence[_Line], min_count: int) -> tuple[str, ...]:
    """Returns the characters that occur at least `min_count` times, in the order of code points."""
    counts = collections.Counter(character for line in lines for character in line.text)
    characters = tuple(sorted(character for character, n in counts.items() if n >= min_count))
    if not characters:
        raise ValueError(
            f"min_count={min_count} leaves none of the {len(counts)} characters of the "
            f"{len(lines):,} lines"
        )
    return characters


def _refuse_unknown(line: _Line, alphabet: Alphabet) -> None:
    for place in alphabet.unknown(line.text)[:1]:
        raise ValueError(
            f"{_name(line, place)} is not in the alphabet of {len(alphabet)} characters"
        )


def _name(line: _Line, place: int) -> str:
    character = line.text[place]
    side = " from the left" if has_right_to_left(line.text) else ""
    return f"{character!r} (U+{ord(character):04X}) at position {place}{side} of {line.where}"
