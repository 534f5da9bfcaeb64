"""Pictures with sentences about them, as arrays: the encoder of captioning."""

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
    """Encodes the feature `captions` of a data set: the sentences of a picture, one a line.

    Encoded examples hold `captions` int32 `[sentences, steps]`, ids of words with `EOS` as the
    last and `PAD` behind it; `caption_lengths` int32 `[sentences]`, the end counted, 0 where a
    picture has fewer sentences; `references` int32 `[sentences, longest]`, the whole sentences for
    metrics, without `EOS`, in ids that also name words outside the vocabulary; and
    `reference_lengths` int32 `[sentences]`. `sentences`, `steps` and `longest` are those of the
    split. `file` becomes uint8 `[longest name]` with zeros behind the name. Features of one shape
    are kept, and vectors `features` whose size the data set does not state; what else differs
    between examples, as further texts do, is left out.

    Attributes:
        min_count: words that the training split has less often are not in the vocabulary (the paper
            leaves out those seen less than 5 times).
        most_steps: words of a sentence that are learnt; what follows is cut off, and the end comes
            then. References stay whole.
        tokenizer: `ptb` takes words as published scores do, see `rcnn_jax.data.text.ptb`;
            `whitespace` takes what stands between spaces, for sentences that are tokenised already.
        lower: write words in lower case; `ptb` always does.
        unknown: what stands in `captions` for a word outside the vocabulary: `other`, the id
            `UNK`, or nothing (`drop`). A sentence of which nothing is left is an `EOS` alone.
        most_sentences: of a picture, further ones are left out, also as references; 0: all.
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
        """Nothing is known without data."""
        return {}

    def tokens(self, sentence: str) -> list[str]:
        """The words of a sentence as the vocabulary knows them.

        What is called as a special token, such as `<end>`, loses its brackets.
        """
        sentence = unicodedata.normalize("NFC", sentence)
        if self.tokenizer == "ptb":
            words = ptb.tokenize(sentence)
        else:
            words = (sentence.lower() if self.lower else sentence).split()
        return [_RESERVED.get(word, word) for word in words]

    def fit(self, source: Source) -> dict[str, np.ndarray]:
        """The vocabulary of the training split, how often it has each word, and its sentences.

        Returns:
            `vocabulary`; `word_counts` int64 `[classes]`, of `UNK` the number of words outside
            the vocabulary, of `BOS` 0 and of `EOS` the number of sentences; `training_captions`
            uint8 `[bytes]`, the tokenised sentences, one a line.

        Raises:
            ValueError: a picture has no sentence, or one of its sentences has no word.
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
        """See `Encoder`: words that only `others` have get further ids."""
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
        # First those of training that are too rare: their ids are the same in every evaluation.
        words = words.extended(sentence.split(" ") for sentence in training).extended(further)
        counts = tuple(asset(assets, "word_counts").tolist())
        return BoundCaptions(self, vocabulary, words, counts, training)

    def sentences(self, source: Source) -> Iterator[list[list[str]]]:
        """The words of the sentences of each example, none for one that could not be read.

        Raises:
            ValueError: see `fit`.
        """
        for index, stored in enumerate(read_columns(source, ("captions",), _CAPTIONED)):
            yield [] if stored is None else self.read(stored["captions"], index)

    def read(self, stored: np.ndarray, index: int) -> list[list[str]]:
        """The words of the sentences of one example, whose index messages name.

        Raises:
            ValueError: see `fit`.
        """
        where = f"the captions of example {index} of the split"
        try:
            lines = decoded(stored).split("\n")
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        found = [self.tokens(line) for line in lines[: self.most_sentences or None]]
        for line, words in zip(lines, found, strict=False):
            if not words:
                raise ValueError(f"{where} hold one without a word: {line!r}")
        return found


@dataclasses.dataclass(frozen=True)
class BoundCaptions:
    """`Captions` with what the training split taught.

    Attributes:
        encoder: what it was bound to.
        vocabulary: what the model reads and writes.
        words: the same and, behind it, all other words of training and of splits that are
            evaluated.
        counts: see `Captions.fit`, by id.
        training: tokenised sentences of the training split.
    """

    encoder: Captions
    vocabulary: Vocabulary
    words: TagVocabulary
    counts: tuple[int, ...] = dataclasses.field(repr=False)
    training: tuple[str, ...] = dataclasses.field(repr=False)

    @property
    def for_model(self) -> Mapping[str, Any]:
        """`classes`, known words and special ones, and `word_counts`, how often each is said."""
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
        """How much of tokenised sentences the vocabulary has."""
        return coverage(sentences, self.vocabulary, self.encoder.most_steps)

    def wrap(self, source: Source) -> EncodedSource:
        """See `rcnn_jax.data.encoders.base.Encoding`; every sentence is looked at, no picture.

        What the vocabulary covers is told in one line of stderr. A split without the feature
        `captions` is encoded without sentences.

        Raises:
            ValueError: see `Captions.fit`.
        """
        texts = [name for name in ("captions", "file") if name in source.features]
        every, longest = [], 1
        for index, stored in enumerate(read_columns(source, texts, _CAPTIONED)):
            stored = stored or {}
            every.append(
                self.encoder.read(stored["captions"], index) if "captions" in stored else []
            )
            longest = max(longest, len(stored.get("file", ())))
        features, held = {}, None
        if "captions" in texts:
            covered = self.coverage(words for sentences in every for words in sentences)
            print(f"captions: {covered}", file=sys.stderr, flush=True)
            held = _Held.of(every, self.words)
            most, steps = (
                max(map(len, every), default=1),
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
                for name, own in (("reference", ids), ("caption", learnt)):
                    encoded[f"{name}s"][row, : len(own)] = own
                    encoded[f"{name}_lengths"][row] = len(own)
        return encoded

    def _learnt(self, ids: np.ndarray) -> np.ndarray:
        """What the model is taught of a sentence, with its end."""
        known = ids < len(self.vocabulary)
        ids = ids[known] if self.encoder.unknown == "drop" else np.where(known, ids, UNK)
        return np.append(ids[: self.encoder.most_steps], EOS)


@dataclasses.dataclass(frozen=True)
class _Held:
    """The sentences of a split in three arrays.

    Attributes:
        ids: of all words, int32 `[words]`.
        starts: where in `ids` each sentence starts, and the end, int64 `[sentences + 1]`.
        first: which sentence is the first of each example, and the end, int64 `[examples + 1]`.
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
        """The ids of each sentence of an example."""
        for sentence in range(self.first[example], self.first[example + 1]):
            yield self.ids[self.starts[sentence] : self.starts[sentence + 1]]


def _shape_of(source: Source, name: str) -> tuple[int, ...] | None:
    """That of the first example that could be read; None where there is none."""
    if name not in source.features:
        return None
    values = (value[name] for value in read_columns(source, (name,), "pictures have") if value)
    return next((value.shape for value in values), None)
