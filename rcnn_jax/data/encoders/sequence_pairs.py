"""The encoder of sequence-to-sequence problems: pairs of token sequences as ids."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders.base import EncodedSource, asset, read_each
from rcnn_jax.data.sources import Example, Source
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.data.text.sentences import to_words
from rcnn_jax.data.text.vocabulary import EOS, PAD, SPECIALS, UNK, Vocabulary

_SIDES = ("source", "target")
# Features of encoded examples, as `rcnn_jax.tasks.sequence_to_sequence` reads them.
MADE = ("source", "source_length", "target", "target_length")


@dataclasses.dataclass(frozen=True)
class SequencePairs:
    """Encodes the features `source` and `target` of a data set.

    Encoded examples hold `source` `int32[time]`, `source_length` `int32[]`, `target`
    `int32[steps]`, which ends with `EOS`, and `target_length` `int32[]`, which counts `EOS`. `time`
    and `steps` fit the longest sequences of the split. A source token that does not occur in the
    training split is `UNK`. A target token that does not occur there has the id after the last
    class, which no model can predict.

    Attributes:
        min_count: Source tokens that occur less often in the training split are unknown.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.encoders.sequence_pairs import SequencePairs
        >>> from rcnn_jax.data.sources import ArraySource
        >>> from rcnn_jax.data.text.sentences import TEXT, to_bytes
        >>> columns = {"source": [to_bytes(["a", "b"])], "target": [to_bytes(["b", "a"])]}
        >>> source = ArraySource(columns, {"source": TEXT, "target": TEXT})
        >>> encoder = SequencePairs()
        >>> bound = encoder.bind(encoder.fit(source))
        >>> bound.for_model["classes"]
        5
        >>> bound.wrap(source)[0]["target"].tolist()
        [4, 3, 2]
    """

    offers = ("vocabulary", "classes")
    required = ("classes",)

    min_count: int = 1

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Empty: no argument of the model is known without data."""
        return {}

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """Fits the two vocabularies on the training split.

        Args:
            source: The training split.

        Returns:
            `source_vocabulary` and `target_vocabulary`, each `uint8[bytes]`.

        Raises:
            ValueError: If a sequence is empty.
        """
        pairs = [pair for pair in _pairs(source) if pair is not None]
        read = Vocabulary.fit((pair[0] for pair in pairs), min_count=self.min_count)
        written = Vocabulary.fit((pair[1] for pair in pairs), specials=SPECIALS)
        return {"source_vocabulary": read.to_array(), "target_vocabulary": written.to_array()}

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundSequencePairs":
        """Returns the encoder bound to its vocabularies.

        Args:
            assets: Arrays that `fit` returned, possibly among others.
            others: Further splits; they are not used.

        Raises:
            ValueError: If an asset is missing or does not hold a vocabulary.
        """
        del others
        read, written = (
            Vocabulary.from_array(asset(assets, f"{side}_vocabulary")) for side in _SIDES
        )
        return BoundSequencePairs(self, read, written)


@dataclasses.dataclass(frozen=True)
class BoundSequencePairs:
    """`SequencePairs` bound to its vocabularies.

    Attributes:
        encoder: The encoder before binding.
        source: Vocabulary of the sequences that are read.
        target: Vocabulary of the sequences that are written.
    """

    encoder: SequencePairs
    source: Vocabulary
    target: Vocabulary

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Sizes: `vocabulary` of the source and `classes` of the target."""
        sizes = {"vocabulary": len(self.source), "classes": len(self.target)}
        return {**self.encoder.for_model, **sizes}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """Empty: no argument of the task is determined."""
        return {}

    def wrap(self, source: Source) -> EncodedSource:
        """Returns a split whose pairs are encoded as ids.

        Every pair is read to find the longest sequences.

        Args:
            source: The split as the data set stores it.

        Raises:
            ValueError: If a sequence is empty.
        """
        pairs = [pair for pair in _pairs(source) if pair is not None]
        longest = [max((len(pair[side]) for pair in pairs), default=1) for side in (0, 1)]
        kept = {k: f for k, f in source.features.items() if k not in _SIDES and None not in f.shape}
        features = {
            "source": Feature((longest[0],), "int32"),
            "source_length": Feature((), "int32"),
            "target": Feature((longest[1] + 1,), "int32"),
            "target_length": Feature((), "int32"),
            **kept,
        }
        return EncodedSource(source, functools.partial(self._encode, features), features)

    def _encode(self, features: Mapping[str, Feature], example: Example, index: int) -> Example:
        encoded = {k: np.asarray(v) for k, v in example.items() if k in features}
        read, written = _tokens(example, index)
        target = np.append(self.target.encode(written), EOS)
        unknown = [token not in self.target for token in written]
        target[:-1][unknown] = len(self.target)
        empty = padding(features)
        for side, ids in (("source", self.source.encode(read)), ("target", target)):
            encoded[side] = np.full_like(empty[side], PAD if side == "source" else UNK)
            encoded[side][: len(ids)] = ids
            encoded[f"{side}_length"] = np.array(len(ids), np.int32)
        return encoded


def _pairs(source: Source) -> Iterator[tuple[list[str], list[str]] | None]:
    """Yields the tokens of each example; None for one that could not be read."""
    return read_each(source, _SIDES, "pairs of sequences have", _tokens)


def _tokens(example: Example, index: int) -> tuple[list[str], list[str]]:
    read, written = (to_words(example[side]) for side in _SIDES)
    if not read or not written:
        raise ValueError(
            f"the {'target' if read else 'source'} of example {index} of the split is empty"
        )
    return read, written
