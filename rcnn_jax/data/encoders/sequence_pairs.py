"""Pairs of token sequences as ids: the encoder of sequence to sequence problems."""

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

    Encoded examples hold `source` int32 `[time]`, `source_length` int32 `[]`, `target` int32
    `[steps]`, which ends with `EOS`, and `target_length` int32 `[]`, which counts that. `time` and
    `steps` are those of the longest of the split. A source token that the training split has not
    is `UNK`; a target token that it has not has the id behind the last class, which no model
    can write.

    Attributes:
        min_count: source tokens that the training split has less often are unknown.
    """

    offers = ("vocabulary", "classes")
    required = ("classes",)

    min_count: int = 1

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Nothing is known without data."""
        return {}

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """The two vocabularies of the training split.

        Raises:
            ValueError: a sequence is empty.
        """
        pairs = [pair for pair in _pairs(source) if pair is not None]
        read = Vocabulary.fit((pair[0] for pair in pairs), min_count=self.min_count)
        written = Vocabulary.fit((pair[1] for pair in pairs), specials=SPECIALS)
        return {"source_vocabulary": read.to_array(), "target_vocabulary": written.to_array()}

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundSequencePairs":
        """See `rcnn_jax.data.encoders.base.Encoder`; other splits add nothing."""
        del others
        read, written = (
            Vocabulary.from_array(asset(assets, f"{side}_vocabulary")) for side in _SIDES
        )
        return BoundSequencePairs(self, read, written)


@dataclasses.dataclass(frozen=True)
class BoundSequencePairs:
    """`SequencePairs` with its vocabularies.

    Attributes:
        encoder: what it was bound to.
        source: vocabulary of what is read.
        target: vocabulary of what is written.
    """

    encoder: SequencePairs
    source: Vocabulary
    target: Vocabulary

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`vocabulary` of the source and `classes` of the target."""
        sizes = {"vocabulary": len(self.source), "classes": len(self.target)}
        return {**self.encoder.for_model, **sizes}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def wrap(self, source: Source) -> EncodedSource:
        """See `rcnn_jax.data.encoders.base.Encoding`; every pair is looked at, for the longest."""
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
    """The tokens of each example; None for one that could not be read."""
    return read_each(source, _SIDES, "pairs of sequences have", _tokens)


def _tokens(example: Example, index: int) -> tuple[list[str], list[str]]:
    read, written = (to_words(example[side]) for side in _SIDES)
    if not read or not written:
        raise ValueError(
            f"the {'target' if read else 'source'} of example {index} of the split is empty"
        )
    return read, written
