"""Vocabularies of words and tags fitted on the training split, and letter trigrams.

A vocabulary is stored as an array of bytes (`to_array`), so that it can be one of the assets of a
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
"""The id after the end of a sequence, and of an unknown token in a vocabulary without `UNK`.

Its 1-of-N vector is all zeros.
"""
UNK = 0
"""The id of every unknown token in a vocabulary that has an entry for unknown tokens."""
BOS, EOS = 1, 2
"""The ids of `SPECIALS`: before the first token of a sentence, and after the last."""
ENCODINGS = ("one_hot", "one_hot_other", "trigrams", "embedding")
"""Encodings of words: 1-of-N without and with `UNK`, letter trigrams, embedding vectors."""
SPECIALS = ("<start>", "<end>")
OUTSIDE_TAG = "O"
_DIGITS = str.maketrans("123456789", "0" * 9)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokens and their ids.

    Attributes:
        tokens: The tokens by id.
        other: Whether id 0 (`UNK`) is shared by all unknown tokens, which is 1-of-N with an "other"
            class. Otherwise unknown tokens have the id `PAD`, which is plain 1-of-N.

    Raises:
        ValueError: If a token is repeated, or `other` is true and there is no token.

    Example:
        >>> from rcnn_jax.data.text.vocabulary import Vocabulary
        >>> vocabulary = Vocabulary.fit([["a", "dog"], ["a", "cat"]])
        >>> vocabulary.tokens
        ('<other>', 'a', 'cat', 'dog')
        >>> vocabulary.encode(["a", "bird"]).tolist()
        [1, 0]
        >>> vocabulary.decode([3, 1])
        ['dog', 'a']
    """

    tokens: tuple[str, ...]
    other: bool = True

    def __post_init__(self) -> None:
        repeated = [token for token, n in collections.Counter(self.tokens).items() if n > 1]
        if repeated:
            raise ValueError(f"a vocabulary holds each token once, got {repeated[0]!r} twice")
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
        """Returns the vocabulary of a training split.

        The order is `other`, then `specials`, then tokens by decreasing frequency, and alphabetical
        among equally frequent ones. It does not depend on the order of the sentences.

        Args:
            sentences: The tokens of each sentence.
            min_count: Tokens that occur less often are left out; at least 1.
            most: Number of tokens to keep besides the special ones, at least 1; None for all.
            specials: Tokens that have an id whether they occur or not, such as `"<end>"`.
            other: Name of the entry for unknown tokens; None for no such entry. With `min_count=1`
                and `most=None` no training token is unknown, so the row of this entry is only
                learned if the model drops words.

        Raises:
            ValueError: If `min_count` or `most` is less than 1, or two special tokens are equal.
        """
        if min_count < 1 or (most is not None and most < 1):
            raise ValueError(
                f"min_count and most must be at least 1, got min_count={min_count}, most={most}"
            )
        counts = collections.Counter(token for sentence in sentences for token in sentence)
        first = ([] if other is None else [other]) + list(specials)
        kept = [t for t, n in counts.items() if n >= min_count and t not in first]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls((*first, *kept[:most]), other is not None)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Returns the ids of tokens.

        Args:
            tokens: The tokens of a sentence.

        Returns:
            Ids `int32[tokens]`; unknown tokens have the id `UNK` if `other` is true, else `PAD`.
        """
        unknown = UNK if self.other else PAD
        return np.array([self._ids.get(token, unknown) for token in tokens], np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Returns the tokens of ids.

        Args:
            ids: Ids in `[0, len(self))`.

        Raises:
            ValueError: If an id lies outside `[0, len(self))`.
        """
        ids = [int(number) for number in ids]
        for number in ids:
            if not 0 <= number < len(self):
                raise ValueError(f"ids lie in 0..{len(self) - 1}, got {number}")
        return [self.tokens[number] for number in ids]

    def to_array(self) -> np.ndarray:
        """Returns the vocabulary as bytes of JSON, `uint8[bytes]`."""
        return _bytes_of({"tokens": self.tokens, "other": self.other})

    @classmethod
    def from_array(cls, array: np.ndarray) -> "Vocabulary":
        """Returns the vocabulary that `to_array` stored.

        Args:
            array: Bytes of JSON, `uint8[bytes]`.

        Raises:
            ValueError: If the array does not hold a vocabulary.
        """
        facts = _facts_of(array, {"tokens": list, "other": bool})
        return cls(tuple(facts["tokens"]), facts["other"])


@dataclasses.dataclass(frozen=True)
class TagVocabulary:
    """Tags and their ids: those of the training split, then those that occur only in other splits.

    A model predicts one of the first `known` tags. A tag of another split that is not among them
    can never be predicted correctly, but it has an id, so that its tokens and chunks count as
    missed.

    Attributes:
        tags: The tags by id.
        known: Number of tags of the training split, in `[1, len(tags)]`.

    Raises:
        ValueError: If a tag is repeated, or `known` lies outside its range.
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
        """Returns the tags of a training split: `O` first, then the others in alphabetical order.

        Args:
            sequences: The tags of each sentence.
        """
        different = {tag for sequence in sequences for tag in sequence} - {OUTSIDE_TAG}
        tags = (OUTSIDE_TAG, *sorted(different))
        return cls(tags, len(tags))

    def extended(self, sequences: Iterable[Iterable[str]]) -> "TagVocabulary":
        """Returns the vocabulary extended by the tags of a split that are not in it.

        They follow in alphabetical order, so that their ids depend on the split alone.

        Args:
            sequences: The tags of each sentence of the split.

        Example:
            >>> from rcnn_jax.data.text.vocabulary import TagVocabulary
            >>> tags = TagVocabulary.fit([["O", "B-city"]]).extended([["B-airline", "O"]])
            >>> tags.tags, tags.known
            (('O', 'B-city', 'B-airline'), 2)
        """
        further = {tag for sequence in sequences for tag in sequence} - set(self.tags)
        return TagVocabulary((*self.tags, *sorted(further)), self.known)

    def __len__(self) -> int:
        return len(self.tags)

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {tag: number for number, tag in enumerate(self.tags)}

    def encode(self, tags: Iterable[str]) -> np.ndarray:
        """Returns the ids of tags.

        Args:
            tags: The tags of a sentence.

        Returns:
            Ids `int32[tags]`.

        Raises:
            ValueError: If a tag is not in the vocabulary; see `extended`.
        """
        try:
            return np.array([self._ids[tag] for tag in tags], np.int32)
        except KeyError as error:
            raise ValueError(
                f"the tag {error} is not among the {len(self)} of this vocabulary: extend it by "
                "the tags of the split first"
            ) from None

    def unknown(self, sequences: Iterable[Iterable[str]]) -> dict[str, int]:
        """Counts the tags that do not occur in the training split.

        Args:
            sequences: The tags of each sentence of a split.

        Returns:
            Mapping from each such tag to its number of occurrences, in alphabetical order.
        """
        known = set(self.tags[: self.known])
        counts = collections.Counter(tag for sequence in sequences for tag in sequence)
        return {tag: counts[tag] for tag in sorted(counts) if tag not in known}

    def to_array(self) -> np.ndarray:
        """Returns the tags of the training split as bytes of JSON, `uint8[bytes]`."""
        return _bytes_of({"tags": self.tags[: self.known]})

    @classmethod
    def from_array(cls, array: np.ndarray) -> "TagVocabulary":
        """Returns the vocabulary that `to_array` stored.

        Args:
            array: Bytes of JSON, `uint8[bytes]`.

        Raises:
            ValueError: If the array does not hold a tag vocabulary.
        """
        tags = tuple(_facts_of(array, {"tags": list})["tags"])
        return cls(tags, len(tags))


def digits_as_zero(word: str) -> str:
    """Replaces each of the digits 0 to 9 by 0, so that `7th` and `9th` become one word.

    The slot of a number depends on its form. Of the 71 words in the test split of ATIS that do not
    occur in training, 26 contain digits; after the replacement, 52 unknown words are left.

    Args:
        word: Any word.

    Example:
        >>> from rcnn_jax.data.text.vocabulary import digits_as_zero
        >>> digits_as_zero("7th")
        '0th'
    """
    return word.translate(_DIGITS)


def letter_trigrams(word: str) -> list[str]:
    """Returns the letter trigrams of a word whose boundaries are marked by `#`.

    A repeated trigram is listed as often as it occurs, so that the list represents a vector of
    counts.

    Args:
        word: Any word.

    Example:
        >>> from rcnn_jax.data.text.vocabulary import letter_trigrams
        >>> letter_trigrams("cat")
        ['#ca', 'cat', 'at#']
    """
    marked = f"#{word}#"
    return [marked[start : start + 3] for start in range(len(marked) - 2)]


def encode_trigrams(
    words: Sequence[str], trigrams: Vocabulary, places: int | None = None
) -> np.ndarray:
    """Returns words as lists of ids of letter trigrams.

    Args:
        words: The words of a sentence.
        trigrams: Vocabulary fitted on the trigrams of training words, with `other=None`. Trigrams
            outside it are dropped.
        places: Length of the lists, at least the number of known trigrams of every word; None for
            the length that these words need.

    Returns:
        Ids `int32[words, places]`, filled up with `PAD`.

    Raises:
        ValueError: If a word has more known trigrams than `places`, or `trigrams` has an entry for
            unknown trigrams.
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
    """Returns 1-of-N vectors of ids.

    Summed over the lists of `encode_trigrams`, they are the counts of a word's trigrams.

    Args:
        ids: Integer array of any shape; `PAD` gives a vector of zeros.
        size: Number of classes.

    Returns:
        Vectors `float32[*ids.shape, size]`.

    Raises:
        ValueError: If an id is not below `size`.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.text.vocabulary import PAD, one_of_n
        >>> one_of_n(np.array([1, PAD]), size=3).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
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
