"""Words and tags as numbers: vocabularies fitted on the training split, and letter trigrams.

A vocabulary travels as an array of bytes (`to_array`), so that it can lie among the assets of a
workdir: evaluation and prediction read it there and need no training data.

References:
    Huang, He, Gao, Deng, Acero & Heck, Learning deep structured semantic models for web search
    using clickthrough data, CIKM 2013 (letter trigrams, there called word hashing).
"""

import collections
import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

PAD = -1
"""The id behind the end of a sequence, and of an unknown token in a vocabulary without `UNK`.

Its 1-of-N vector is all zeros.
"""
UNK = 0
"""The id of every unknown token, in a vocabulary that has an entry for them."""
BOS, EOS = 1, 2
"""The ids of `SPECIALS`: before the first token of a sentence, and after the last."""
ENCODINGS = ("one_hot", "one_hot_other", "trigrams", "embedding")
"""How words are numbers for a model: 1-of-N without and with `UNK`, letter trigrams, vectors."""
SPECIALS = ("<start>", "<end>")
OUTSIDE_TAG = "O"
_DIGITS = str.maketrans("123456789", "0" * 9)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens and their ids.

    Attributes:
        tokens: by id.
        other: whether id 0 stands for every unknown token: 1-of-N with an "other" class. Where it
            does not, unknown tokens have the id `PAD`: plain 1-of-N.
    """

    tokens: tuple[str, ...]
    other: bool = True

    def __post_init__(self) -> None:
        double = [token for token, n in collections.Counter(self.tokens).items() if n > 1]
        if double:
            raise ValueError(f"a vocabulary holds each token once, got {double[0]!r} twice")
        if self.other and not self.tokens:
            raise ValueError("a vocabulary with an entry for other tokens has at least that one")

    @classmethod
    def fit(
        cls,
        sentences: Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        most: int | None = None,
        specials: Sequence[str] = (),
        other: str | None = "<other>",
    ) -> "Vocabulary":
        """The vocabulary of a training split.

        The order is that of `other`, then `specials`, then tokens by falling frequency, and
        alphabetical among equally frequent ones: the same whatever order the sentences have.

        Args:
            sentences: tokens of each sentence.
            min_count: rarer tokens are left out.
            most: only so many tokens are kept, besides the special ones; None: all.
            specials: tokens that have an id whether they occur or not, such as `"<end>"`.
            other: what the entry for unknown tokens is called; None for none. With `min_count=1`
                and `most=None` no training token meets it, so that its row is only learned where
                the model drops words.

        Raises:
            ValueError: `min_count` or `most` is less than 1, or two special tokens are equal.
        """
        if min_count < 1 or (most is not None and most < 1):
            raise ValueError(
                f"min_count and most must be at least 1, got min_count={min_count}, most={most}"
            )
        counts = collections.Counter(token for sentence in sentences for token in sentence)
        first = ([] if other is None else [other]) + list(specials)
        found = [t for t, n in counts.items() if n >= min_count and t not in first]
        found.sort(key=lambda token: (-counts[token], token))
        return cls((*first, *found[:most]), other is not None)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The ids of tokens, int32 `[tokens]`; unknown ones are `UNK` or `PAD`."""
        unknown = UNK if self.other else PAD
        return np.array([self._ids.get(token, unknown) for token in tokens], np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids.

        Raises:
            ValueError: an id is none of this vocabulary.
        """
        ids = [int(number) for number in ids]
        for number in ids:
            if not 0 <= number < len(self):
                raise ValueError(f"ids lie in 0..{len(self) - 1}, got {number}")
        return [self.tokens[number] for number in ids]

    def to_array(self) -> np.ndarray:
        """The vocabulary as bytes of JSON, uint8 `[bytes]`."""
        return _bytes_of({"tokens": self.tokens, "other": self.other})

    @classmethod
    def from_array(cls, array: np.ndarray) -> "Vocabulary":
        """Reads what `to_array` made.

        Raises:
            ValueError: the array holds something else.
        """
        facts = _facts_of(array, {"tokens": list, "other": bool})
        return cls(tuple(facts["tokens"]), facts["other"])


@dataclasses.dataclass(frozen=True)
class TagVocabulary:
    """Tags and their ids: those of the training split, then those that only occur elsewhere.

    A model answers with one of the first `known` tags. A tag of another split that is not among
    them can never be right, but it is there: its tokens and chunks count as missed ones.

    Attributes:
        tags: by id.
        known: how many of them are those of the training split.
    """

    tags: tuple[str, ...]
    known: int

    def __post_init__(self) -> None:
        if len(set(self.tags)) < len(self.tags) or not 1 <= self.known <= len(self.tags):
            raise ValueError(
                f"a tag vocabulary holds each tag once and knows 1 to all of them, got "
                f"{len(self.tags)} tags, {len(set(self.tags))} different ones, {self.known} known"
            )

    @classmethod
    def fit(cls, sequences: Iterable[Iterable[str]]) -> "TagVocabulary":
        """The tags of a training split: `O` first, the others in alphabetical order."""
        found = {tag for sequence in sequences for tag in sequence} - {OUTSIDE_TAG}
        tags = (OUTSIDE_TAG, *sorted(found))
        return cls(tags, len(tags))

    def extended(self, sequences: Iterable[Iterable[str]]) -> "TagVocabulary":
        """The same, able to encode a split with tags that training does not know.

        They follow in alphabetical order, so that their ids depend on the split alone.
        """
        found = {tag for sequence in sequences for tag in sequence} - set(self.tags)
        return TagVocabulary((*self.tags, *sorted(found)), self.known)

    def __len__(self) -> int:
        return len(self.tags)

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {tag: number for number, tag in enumerate(self.tags)}

    def encode(self, tags: Iterable[str]) -> np.ndarray:
        """The ids of tags, int32 `[tags]`.

        Raises:
            ValueError: a tag has none; see `extended`.
        """
        try:
            return np.array([self._ids[tag] for tag in tags], np.int32)
        except KeyError as error:
            raise ValueError(
                f"the tag {error} is not among the {len(self)} of this vocabulary: extend it by "
                "the tags of the split first"
            ) from None

    def unknown(self, sequences: Iterable[Iterable[str]]) -> dict[str, int]:
        """How often each tag occurs that the training split has not, in alphabetical order."""
        known = set(self.tags[: self.known])
        counts = collections.Counter(tag for sequence in sequences for tag in sequence)
        return {tag: counts[tag] for tag in sorted(counts) if tag not in known}

    def to_array(self) -> np.ndarray:
        """The known tags as bytes of JSON, uint8 `[bytes]`: what a workdir keeps."""
        return _bytes_of({"tags": self.tags[: self.known]})

    @classmethod
    def from_array(cls, array: np.ndarray) -> "TagVocabulary":
        """Reads what `to_array` made.

        Raises:
            ValueError: the array holds something else.
        """
        tags = tuple(_facts_of(array, {"tags": list})["tags"])
        return cls(tags, len(tags))


def digits_as_zero(word: str) -> str:
    """The word with each of the digits 0 to 9 as a 0: `7th` and `9th` are one word then.

    What tells the slot of a number is its form. Of the 71 words in the test split of ATIS that
    training has not, 26 hold digits; written so, 52 unknown words are left.
    """
    return word.translate(_DIGITS)


def letter_trigrams(word: str) -> list[str]:
    """The letter trigrams of a word with its boundaries marked: `cat` gives `#ca cat at#`.

    A repeated trigram is listed as often as it occurs, so that the list is a vector of counts.
    """
    marked = f"#{word}#"
    return [marked[start : start + 3] for start in range(len(marked) - 2)]


def encode_trigrams(
    words: Sequence[str], trigrams: Vocabulary, places: int | None = None
) -> np.ndarray:
    """Words as lists of ids of letter trigrams.

    Args:
        words: of a sentence.
        trigrams: fitted on the trigrams of training words, without an entry for others: a trigram
            that it does not know counts nowhere.
        places: length of the lists, at least the number of known trigrams of every word; None:
            just as long as these words need.

    Returns:
        int32 `[words, places]`, filled up with `PAD`.

    Raises:
        ValueError: a word has more trigrams than `places`, or the vocabulary has an entry for
            others.
    """
    if trigrams.other:
        raise ValueError("a vocabulary of trigrams has no entry for others: fit it with other=None")
    lists = [trigrams.encode(letter_trigrams(word)) for word in words]
    lists = [ids[ids != PAD] for ids in lists]
    longest = max((len(ids) for ids in lists), default=0)
    if places is not None and longest > places:
        word = next(w for w, ids in zip(words, lists, strict=True) if len(ids) > places)
        raise ValueError(f"{word!r} has more than places={places} letter trigrams")
    table = np.full((len(lists), longest if places is None else places), PAD, np.int32)
    for row, ids in zip(table, lists, strict=True):
        row[: len(ids)] = ids
    return table


def one_of_n(ids: np.ndarray, size: int) -> np.ndarray:
    """1-of-N vectors: float32 `[*ids, size]`, zeros where an id is `PAD`.

    Summed over the lists of `encode_trigrams` they are the counts of a word's trigrams.

    Raises:
        ValueError: an id is not below `size`.
    """
    if ids.size and int(ids.max()) >= size:
        raise ValueError(f"ids must be below size={size}, got {int(ids.max())}")
    return (ids[..., None] == np.arange(size)).astype(np.float32)


def _bytes_of(facts: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(json.dumps(facts, ensure_ascii=False).encode(), np.uint8)


def _facts_of(array: np.ndarray, kinds: Mapping[str, type]) -> dict[str, Any]:
    try:
        facts = json.loads(np.asarray(array, np.uint8).tobytes())
        if {name: type(value) for name, value in facts.items()} == dict(kinds):
            return facts
    except (AttributeError, ValueError):
        pass
    raise ValueError(f"the array holds no vocabulary: JSON with {', '.join(kinds)} was expected")
