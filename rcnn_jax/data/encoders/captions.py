"""The encoder of captioning: pictures with sentences about them."""

import dataclasses
import functools
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.encoders.base import EncodedSource, asset, read_columns
from rcnn_jax.data.sources import Example, Source
from rcnn_jax.data.spec import Feature, padding
from rcnn_jax.data.text import ptb
from rcnn_jax.data.text.alphabet import decoded
from rcnn_jax.data.text.coverage import Coverage, coverage
from rcnn_jax.data.text.vocabulary import EOS, PAD, SPECIALS, UNK, TagVocabulary, Vocabulary

TOKENIZERS = ("ptb", "whitespace")
UNKNOWN = ("other", "drop")
_CAPTIONED = "pictures with sentences have"
_OTHER_NAME = "<other>"
# Features of encoded examples, as `rcnn_jax.tasks.captioning` reads them.
MADE = ("captions", "caption_lengths", "references", "reference_lengths")
_RESERVED = {name: name.strip("<>") for name in (_OTHER_NAME, *SPECIALS)}


@dataclasses.dataclass(frozen=True)
class Captions:
    """Encodes the feature `captions` of a data set: the sentences about a picture, one per line.

    Encoded examples hold `captions` `int32[sentences, steps]`, ids of words followed by `EOS` and
    then `PAD`; `caption_lengths` `int32[sentences]`, which count `EOS` and are 0 where a picture
    has fewer sentences; `references` `int32[sentences, longest]`, the whole sentences for metrics,
    without `EOS`, in ids that also cover words outside the vocabulary; and `reference_lengths`
    `int32[sentences]`. `sentences`, `steps` and `longest` are the maxima over the split. `file`
    becomes `uint8[longest name]` with zeros after the name. Other features are kept if they have a
    fixed shape, and so are vectors `features` whose size the data set does not state. Everything
    else whose shape varies, such as further texts, is dropped.

    Attributes:
        min_count: Words that occur less often in the training split are left out of the vocabulary,
            at least 1. (The paper leaves out words seen less than 5 times.)
        most_steps: Number of words of a sentence that are learned, at least 1. Later words are cut
            off and `EOS` follows immediately. References stay whole.
        tokenizer: `ptb` splits sentences as published scores do, see `rcnn_jax.data.text.ptb`;
            `whitespace` splits at white space, for sentences that are tokenized already.
        lower: Whether words are lower-cased; must be true for `ptb`, which always does so.
        unknown: Replacement in `captions` for a word outside the vocabulary: `other` for the id
            `UNK`, `drop` to remove it. A sentence without any word left is a single `EOS`.
        most_sentences: Number of sentences of a picture that are used, also as references; later
            ones are dropped. 0 for all.

    Raises:
        ValueError: If an argument lies outside its range, or `lower` is false for `ptb`.
    """

    offers = ("classes", "word_counts", "words", "training_captions")
    required = ("classes",)

    min_count: int = 5
    most_steps: int = 20
    tokenizer: str = "ptb"
    lower: bool = True
    unknown: str = "other"
    most_sentences: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("tokenizer", TOKENIZERS), ("unknown", UNKNOWN)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name, least in (("min_count", 1), ("most_steps", 1), ("most_sentences", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.tokenizer == "ptb" and not self.lower:
            raise ValueError("tokenizer='ptb' writes lower case: lower=False needs 'whitespace'")

    @property
    def for_model(self) -> Mapping[str, Any]:
        """Empty: no argument of the model is known without data."""
        return {}

    def tokens(self, sentence: str) -> list[str]:
        """Returns the words of a sentence in the form in which the vocabulary holds them.

        A word that equals a special token, such as `<end>`, loses its angle brackets.

        Args:
            sentence: One sentence; it is normalized to NFC first.

        Example:
            >>> from rcnn_jax.data.encoders.captions import Captions
            >>> Captions().tokens("A dog doesn't wait, it runs.")
            ['a', 'dog', 'does', "n't", 'wait', 'it', 'runs']
        """
        sentence = unicodedata.normalize("NFC", sentence)
        if self.tokenizer == "ptb":
            words = ptb.tokenize(sentence)
        else:
            words = (sentence.lower() if self.lower else sentence).split()
        return [_RESERVED.get(word, word) for word in words]

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """Fits the vocabulary and the counts of its words on the training split.

        Args:
            source: The training split.

        Returns:
            `vocabulary` `uint8[bytes]`; `word_counts` `int64[classes]`, in which `UNK` has the
            number of words outside the vocabulary, `BOS` 0 and `EOS` the number of sentences;
            `training_captions` `uint8[bytes]`, the tokenized sentences, one per line.

        Raises:
            ValueError: If a picture has no sentence, if one of its sentences has no word, or if
                `min_count` leaves no word.
        """
        sentences = [words for every in self.sentences(source) for words in every]
        vocabulary = Vocabulary.fit(
            sentences, min_count=self.min_count, specials=SPECIALS, other=_OTHER_NAME
        )
        if len(vocabulary) == 1 + len(SPECIALS):
            raise ValueError(
                f"min_count={self.min_count} leaves no word of the {len(sentences):,} sentences"
            )
        ids = vocabulary.encode(word for words in sentences for word in words)
        counts = np.bincount(ids, minlength=len(vocabulary)).astype(np.int64)
        counts[EOS] = len(sentences)
        text = "\n".join(" ".join(words) for words in sentences)
        return {
            "vocabulary": vocabulary.to_array(),
            "word_counts": counts,
            "training_captions": np.frombuffer(text.encode(), np.uint8),
        }

    def bind(
        self, assets: Mapping[str, np.ndarray], others: Sequence[Source] = ()
    ) -> "BoundCaptions":
        """Returns the encoder bound to its vocabulary.

        Args:
            assets: Arrays that `fit` returned, possibly among others.
            others: Further splits to be encoded; words that occur only in them get further ids.

        Raises:
            ValueError: If an asset is missing or does not hold a vocabulary.
        """
        vocabulary = Vocabulary.from_array(asset(assets, "vocabulary"))
        training = tuple(decoded(asset(assets, "training_captions")).split("\n"))
        words = TagVocabulary(vocabulary.tokens, len(vocabulary))
        further = (
            words
            for other in others
            if "captions" in other.features
            for every in self.sentences(other)
            for words in every
        )
        # Rare words of the training split come first, so that their ids do not depend on `others`.
        words = words.extended(sentence.split(" ") for sentence in training).extended(further)
        counts = tuple(asset(assets, "word_counts").tolist())
        return BoundCaptions(self, vocabulary, words, counts, training)

    def sentences(self, source: Source) -> Iterator[list[list[str]]]:
        """Yields the tokenized sentences of each example; `[]` for one that could not be read.

        Args:
            source: The split.

        Raises:
            ValueError: If a picture has no sentence, or one of its sentences has no word.
        """
        for index, stored in enumerate(read_columns(source, ("captions",), _CAPTIONED)):
            yield [] if stored is None else self.read(stored["captions"], index)

    def read(self, stored: np.ndarray, index: int) -> list[list[str]]:
        """Returns the tokenized sentences of one example.

        Args:
            stored: UTF-8 bytes `uint8[bytes]`, one sentence per line.
            index: Index of the example, for messages.

        Raises:
            ValueError: If the bytes are not UTF-8, or a sentence has no word.
        """
        where = f"the captions of example {index} of the split"
        try:
            lines = decoded(stored).split("\n")
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        sentences = [self.tokens(line) for line in lines[: self.most_sentences or None]]
        for line, words in zip(lines, sentences, strict=False):
            if not words:
                raise ValueError(f"{where} hold one without a word: {line!r}")
        return sentences


@dataclasses.dataclass(frozen=True)
class BoundCaptions:
    """`Captions` bound to the vocabulary of the training split.

    Attributes:
        encoder: The encoder before binding.
        vocabulary: The words that the model reads and writes.
        words: `vocabulary`, followed by all other words of the training split and of the splits
            that are evaluated.
        counts: Number of occurrences of each word of `vocabulary`, by id; see `Captions.fit`.
        training: Tokenized sentences of the training split, words separated by spaces.
    """

    encoder: Captions
    vocabulary: Vocabulary
    words: TagVocabulary
    counts: tuple[int, ...] = dataclasses.field(repr=False)
    training: tuple[str, ...] = dataclasses.field(repr=False)

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`classes`, the size of the vocabulary, and `word_counts` by class."""
        sizes = {"classes": len(self.vocabulary), "word_counts": self.counts}
        return {**self.encoder.for_model, **sizes}

    @property
    def for_task(self) -> Mapping[str, Any]:
        """`words` by id, `word_counts` by class, and `training_captions`."""
        return {
            "words": self.words.tags,
            "word_counts": self.counts,
            "training_captions": self.training,
        }

    def coverage(self, sentences: Iterable[Sequence[str]]) -> Coverage:
        """Counts the words of sentences that the vocabulary contains.

        Args:
            sentences: The tokens of each sentence.
        """
        return coverage(sentences, self.vocabulary, self.encoder.most_steps)

    def wrap(self, source: Source) -> EncodedSource:
        """Returns a split whose sentences are encoded.

        Every sentence is read, but no picture. One line on stderr reports the coverage of the
        vocabulary. A split without the feature `captions` is encoded without sentences.

        Args:
            source: The split as the data set stores it.

        Raises:
            ValueError: If a picture has no sentence, or one of its sentences has no word.
        """
        texts = [name for name in ("captions", "file") if name in source.features]
        all_sentences, longest = [], 1
        for index, stored in enumerate(read_columns(source, texts, _CAPTIONED)):
            stored = stored or {}
            all_sentences.append(
                self.encoder.read(stored["captions"], index) if "captions" in stored else []
            )
            longest = max(longest, len(stored.get("file", ())))
        features, held = {}, None
        if "captions" in texts:
            covered = self.coverage(words for sentences in all_sentences for words in sentences)
            print(f"captions: {covered}", file=sys.stderr, flush=True)
            held = _Held.of(all_sentences, self.words)
            most, steps = (
                max(map(len, all_sentences), default=1),
                min(self.encoder.most_steps, covered.longest),
            )
            features = {
                "captions": Feature((most, steps + 1), "int32"),
                "caption_lengths": Feature((most,), "int32"),
                "references": Feature((most, covered.longest), "int32"),
                "reference_lengths": Feature((most,), "int32"),
            }
        sizes = {"file": (longest,), "features": _shape_of(source, "features")}
        for name, feature in source.features.items():
            shape = sizes.get(name) if None in feature.shape else feature.shape
            if name != "captions" and shape is not None:
                features[name] = dataclasses.replace(feature, shape=shape)
        return EncodedSource(source, functools.partial(self._encode, features, held), features)

    def _encode(
        self, features: Mapping[str, Feature], held: "_Held | None", example: Example, index: int
    ) -> Example:
        encoded = {name: np.asarray(example[name]) for name in features if name in example}
        if "file" in encoded:
            empty = np.zeros(features["file"].shape, np.uint8)  # pyright: ignore[reportCallIssue, reportArgumentType]
            empty[: len(encoded["file"])] = encoded["file"]
            encoded["file"] = empty
        if held is not None:
            empty = padding({name: features[name] for name in MADE})
            encoded |= {name: empty[name] for name in MADE}
            encoded["captions"][:] = encoded["references"][:] = PAD
            for row, ids in enumerate(held.ids_of(index)):
                learnt = self._learnt(ids)
                for name, sequence in (("reference", ids), ("caption", learnt)):
                    encoded[f"{name}s"][row, : len(sequence)] = sequence
                    encoded[f"{name}_lengths"][row] = len(sequence)
        return encoded

    def _learnt(self, ids: np.ndarray) -> np.ndarray:
        """Returns the ids of a sentence that the model learns, with `EOS` at the end."""
        known = ids < len(self.vocabulary)
        ids = ids[known] if self.encoder.unknown == "drop" else np.where(known, ids, UNK)
        return np.append(ids[: self.encoder.most_steps], EOS)


@dataclasses.dataclass(frozen=True)
class _Held:
    """The sentences of a split in three arrays.

    Attributes:
        ids: Ids of all words, `int32[words]`.
        starts: Start of each sentence in `ids`, and the end, `int64[sentences + 1]`.
        first: Index of the first sentence of each example, and the end, `int64[examples + 1]`.
    """

    ids: np.ndarray
    starts: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, every: Sequence[Sequence[Sequence[str]]], words: TagVocabulary) -> "_Held":
        flat = [sentence for sentences in every for sentence in sentences]
        return cls(
            words.encode(word for sentence in flat for word in sentence),
            np.cumsum([0, *map(len, flat)]),
            np.cumsum([0, *map(len, every)]),
        )

    def ids_of(self, example: int) -> Iterator[np.ndarray]:
        """Yields the ids of each sentence of an example."""
        for sentence in range(self.first[example], self.first[example + 1]):
            yield self.ids[self.starts[sentence] : self.starts[sentence + 1]]


def _shape_of(source: Source, name: str) -> tuple[int, ...] | None:
    """Returns the shape of a feature in the first example that could be read; None without one."""
    if name not in source.features:
        return None
    values = (value[name] for value in read_columns(source, (name,), "pictures have") if value)
    return next((value.shape for value in values), None)
