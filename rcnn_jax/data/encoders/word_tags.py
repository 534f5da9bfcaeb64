"""Sentences with a tag for each word, as ids: the encoder of slot filling."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders.base import EncodedSource, asset, read_each
from rcnn_jax.data.sources import Example, Source
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.data.text.sentences import to_words
from rcnn_jax.data.text.vocabulary import (
    ENCODINGS,
    PAD,
    TagVocabulary,
    Vocabulary,
    digits_as_zero,
    encode_trigrams,
    letter_trigrams,
)

# Features of encoded examples, as `rcnn_jax.tasks.tagging` reads them.
MADE = ("words", "tags", "length")


@dataclasses.dataclass(frozen=True)
class WordTags:
    """Encodes the features `words` and `tags` of a data set.

    Encoded examples hold `words` int32 `[time]`, or `[time, trigrams]`; `tags` int32 `[time]`; and
    `length` int32 `[]`, the number of words. `time` is the length of the split's longest sentence
    rounded up to `multiple`, `trigrams` that of its longest word. Beyond the length words are
    `PAD` and tags 0. Features of one shape, such as `intent`, are kept.

    Attributes:
        encoding: how the model reads words, see `rcnn_jax.models.tagger.Tagger`, which is handed
            it. `one_hot` and `trigrams` have no id for what is unknown, the others have 0.
        min_count: words, or trigrams, that the training split has less often are unknown.
        zero_digits: write each digit as a 0 first, so that `7th` and `9th` are one word.
        multiple: what `time` is a multiple of.
    """

    offers = ("encoding", "vocabulary", "classes", "tags")
    required = ("classes",)

    encoding: str = "embedding"
    min_count: int = 1
    zero_digits: bool = False
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding is one of {', '.join(ENCODINGS)}, got {self.encoding!r}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, got {self.multiple}")

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`encoding`: the model reads words in the way that they are encoded."""
        return {"encoding": self.encoding}

    def tokens(self, words: Iterable[str]) -> list[str]:
        """The words as the vocabulary knows them."""
        return [digits_as_zero(word) for word in words] if self.zero_digits else list(words)

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """The vocabulary and the tags of the training split.

        Raises:
            ValueError: a sentence is empty or has not as many tags as words.
        """
        found = [pair for pair in _sentences(source) if pair is not None]
        sentences = (self.tokens(words) for words, _ in found)
        if self.encoding == "trigrams":
            sentences = ([t for w in words for t in letter_trigrams(w)] for words in sentences)
        other = "<other>" if self.encoding in ("one_hot_other", "embedding") else None
        vocabulary = Vocabulary.fit(sentences, min_count=self.min_count, other=other)
        if not len(vocabulary):
            raise ValueError(
                f"min_count={self.min_count} leaves no word of the {len(found):,} sentences"
            )
        tags = TagVocabulary.fit(tags for _, tags in found)
        return {"vocabulary": vocabulary.to_array(), "tag_vocabulary": tags.to_array()}

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundWordTags":
        """See `Encoder`: tags that only `others` have get further ids."""
        tags = TagVocabulary.from_array(asset(assets, "tag_vocabulary"))
        sentences = (pair[1] for other in others for pair in _sentences(other) if pair is not None)
        return BoundWordTags(
            self, Vocabulary.from_array(asset(assets, "vocabulary")), tags.extended(sentences)
        )


@dataclasses.dataclass(frozen=True)
class BoundWordTags:
    """`WordTags` with its vocabularies.

    Attributes:
        encoder: what it was bound to.
        vocabulary: of words, or of trigrams.
        tags: those of the training split and, behind them, of other splits.
    """

    encoder: WordTags
    vocabulary: Vocabulary
    tags: TagVocabulary

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`vocabulary`, `classes` and `encoding`."""
        sizes = {"vocabulary": len(self.vocabulary), "classes": self.tags.known}
        return {**self.encoder.for_model, **sizes}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """`tags`: what each id means."""
        return {"tags": self.tags.tags}

    def wrap(self, source: Source) -> EncodedSource:
        """See `Encoding`; every sentence is looked at, for the longest."""
        sentences = [pair for pair in _sentences(source) if pair is not None]
        longest = max((len(words) for words, _ in sentences), default=1)
        shape = (-(-longest // self.encoder.multiple) * self.encoder.multiple,)
        read = shape
        if self.encoder.encoding == "trigrams":
            different = {word for words, _ in sentences for word in self.encoder.tokens(words)}
            read = (*shape, encode_trigrams(sorted(different), self.vocabulary).shape[1])
        kept = {
            name: feature
            for name, feature in source.features.items()
            if name not in ("words", "tags") and None not in feature.shape
        }
        features = {
            "words": Feature(read, "int32"),
            "tags": Feature(shape, "int32"),
            "length": Feature((), "int32"),
            **kept,
        }
        return EncodedSource(source, functools.partial(self._encode, features), features)

    def _encode(self, features: Mapping[str, Feature], example: Example, index: int) -> Example:
        words, tags = _words_and_tags(example, index)
        encoded = {name: np.asarray(example[name]) for name in features if name in example}
        empty = padding(features)
        encoded["words"] = np.full_like(empty["words"], PAD)
        encoded["tags"] = empty["tags"]
        encoded["length"] = np.array(len(words), np.int32)
        words = self.encoder.tokens(words)
        if self.encoder.encoding == "trigrams":
            places = encoded["words"].shape[1]
            encoded["words"][: len(words)] = encode_trigrams(words, self.vocabulary, places)
        else:
            encoded["words"][: len(words)] = self.vocabulary.encode(words)
        encoded["tags"][: len(words)] = self.tags.encode(tags)
        return encoded


def _sentences(source: Source) -> Iterator[tuple[list[str], list[str]] | None]:
    """Words and tags of each example; None for one that could not be read."""
    return read_each(source, ("words", "tags"), "sentences with tags have", _words_and_tags)


def _words_and_tags(example: Example, index: int) -> tuple[list[str], list[str]]:
    words, tags = to_words(example["words"]), to_words(example["tags"])
    if not words:
        raise ValueError(f"sentence {index} of the split is empty")
    if len(words) != len(tags):
        raise ValueError(
            f"sentence {index} of the split has {len(tags)} tags for {len(words)} words"
        )
    return words, tags
