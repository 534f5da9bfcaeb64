"""The encoder of slot filling: sentences with a tag for each word, as ids."""

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

    Encoded examples hold `words` `int32[time]`, or `int32[time, trigrams]` for letter trigrams;
    `tags` `int32[time]`; and `length` `int32[]`, the number of words. `time` is the length of the
    longest sentence of the split rounded up to `multiple`, `trigrams` the number of trigrams of its
    longest word. After the end of a sentence, words are `PAD` and tags 0. Other features are kept
    if they have a fixed shape, such as `intent`.

    Attributes:
        encoding: Encoding by which the model reads words; it is passed to the model, see
            `rcnn_jax.models.tagger.Tagger`. `one_hot` and `trigrams` have no id for unknown words
            or trigrams; in the other encodings it is 0.
        min_count: Words, or trigrams, that occur less often in the training split are unknown.
        zero_digits: Whether each digit is replaced by 0 first, so that `7th` and `9th` are one
            word.
        multiple: `time` is rounded up to a multiple of this, at least 1.

    Raises:
        ValueError: If `encoding` is unknown or `multiple` is below 1.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.encoders.word_tags import WordTags
        >>> from rcnn_jax.data.sources import ArraySource
        >>> from rcnn_jax.data.text.sentences import TEXT, to_bytes
        >>> columns = {"words": [to_bytes(["to", "rome"])], "tags": [to_bytes(["O", "B-city"])]}
        >>> source = ArraySource(columns, {"words": TEXT, "tags": TEXT})
        >>> encoder = WordTags(multiple=4)
        >>> bound = encoder.bind(encoder.fit(source))
        >>> bound.for_task["tags"]
        ('O', 'B-city')
        >>> encoded = bound.wrap(source)[0]
        >>> encoded["words"].tolist(), encoded["tags"].tolist(), int(encoded["length"])
        ([2, 1, -1, -1], [0, 1, 0, 0], 2)
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
        """`encoding`, so that the model reads words in the way in which they are encoded."""
        return {"encoding": self.encoding}

    def tokens(self, words: Iterable[str]) -> list[str]:
        """Returns the words in the form in which the vocabulary holds them.

        Args:
            words: The words of a sentence.
        """
        return [digits_as_zero(word) for word in words] if self.zero_digits else list(words)

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """Fits the vocabulary and the tags on the training split.

        Args:
            source: The training split.

        Returns:
            `vocabulary` and `tag_vocabulary`, each `uint8[bytes]`.

        Raises:
            ValueError: If a sentence is empty or differs from its tags in length, or if `min_count`
                leaves no word.
        """
        pairs = [pair for pair in _sentences(source) if pair is not None]
        sentences = (self.tokens(words) for words, _ in pairs)
        if self.encoding == "trigrams":
            sentences = ([t for w in words for t in letter_trigrams(w)] for words in sentences)
        other = "<other>" if self.encoding in ("one_hot_other", "embedding") else None
        vocabulary = Vocabulary.fit(sentences, min_count=self.min_count, other=other)
        if not len(vocabulary):
            raise ValueError(
                f"min_count={self.min_count} leaves no word of the {len(pairs):,} sentences"
            )
        tags = TagVocabulary.fit(tags for _, tags in pairs)
        return {"vocabulary": vocabulary.to_array(), "tag_vocabulary": tags.to_array()}

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundWordTags":
        """Returns the encoder bound to its vocabularies.

        Args:
            assets: Arrays that `fit` returned, possibly among others.
            others: Further splits to be encoded; tags that occur only in them get further ids.

        Raises:
            ValueError: If an asset is missing or does not hold a vocabulary.
        """
        tags = TagVocabulary.from_array(asset(assets, "tag_vocabulary"))
        sentences = (pair[1] for other in others for pair in _sentences(other) if pair is not None)
        return BoundWordTags(
            self, Vocabulary.from_array(asset(assets, "vocabulary")), tags.extended(sentences)
        )


@dataclasses.dataclass(frozen=True)
class BoundWordTags:
    """`WordTags` bound to its vocabularies.

    Attributes:
        encoder: The encoder before binding.
        vocabulary: Vocabulary of words, or of trigrams.
        tags: The tags of the training split, followed by those that occur only in other splits.
    """

    encoder: WordTags
    vocabulary: Vocabulary
    tags: TagVocabulary

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`vocabulary` and `classes`, the numbers of words and of tags, and `encoding`."""
        sizes = {"vocabulary": len(self.vocabulary), "classes": self.tags.known}
        return {**self.encoder.for_model, **sizes}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """`tags`, the tuple of tags by id."""
        return {"tags": self.tags.tags}

    def wrap(self, source: Source) -> EncodedSource:
        """Returns a split whose sentences are encoded as ids.

        Every sentence is read to find the longest.

        Args:
            source: The split as the data set stores it.

        Raises:
            ValueError: If a sentence is empty or differs from its tags in length.
        """
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
    """Yields the words and tags of each example; None for one that could not be read."""
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
