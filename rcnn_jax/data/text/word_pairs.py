"""Which of several texts that look alike in a picture is the right one, by pairs of words."""

import collections
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rcnn_jax.data.text.bidirectional import brackets, has_right_to_left, letter_directions

# Log-odds against a bracket without its counterpart.
_UNMATCHED = 5.0
_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")
_ENDS = re.compile(r"^\W+|\W+$")
_NUMBER = re.compile(r"^[\W\d]+$")

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class WordPairs:
    """How often two words followed each other in right and in wrong texts.

    The ends of a line are empty words. A pair that was not counted is judged by those that differ
    from it in digits and in signs at the ends of words, else by those with other numbers, else by
    those with other words. In lines from right to left, where numbers change places with Latin
    words only, this holds for pairs of a number and such a word; and for pairs of an empty word and
    each word that is composed of both or has brackets, which are counted in addition.

    Attributes:
        counts: Tuples `(base direction, word, next word, right, wrong)`.
    """

    counts: tuple[tuple[str, str, str, int, int], ...] = ()

    @classmethod
    def count(cls, examples: Iterable[tuple[str, Sequence[str], str]]) -> "WordPairs":
        """Counts the pairs that only some of the texts which look alike have.

        Args:
            examples: Tuples of the right text; all texts that look like it; and the base direction,
                `L` or `R`.
        """
        counts: dict[tuple[str, str, str], list[int]] = collections.defaultdict(lambda: [0, 0])
        for text, alike, base in examples:
            right = set(_pairs(text))
            wrong = [set(_pairs(other)) for other in alike if other != text]
            for word, following in right - set.intersection(right, *wrong):
                counts[base, word, following][0] += 1
            for word, following in set[Pair]().union(*wrong) - right:
                counts[base, word, following][1] += 1
        return cls(tuple((*key, right, wrong) for key, (right, wrong) in sorted(counts.items())))

    def choose(self, texts: Sequence[str], base: str) -> str:
        """Returns the most plausible of several texts; of equally plausible ones the first.

        The log-odds of all pairs that not all texts have are added up, as if they were independent.

        Args:
            texts: Texts that look alike, in logical order; at least one.
            base: Base direction, `L` or `R`.
        """
        if len(texts) == 1:
            return texts[0]
        pairs = [_pairs(text) for text in texts]
        shared = set.intersection(*map(set, pairs))

        def plausibility(index: int) -> float:
            known = sum(self._log_odds(pair, base) for pair in pairs[index] if pair not in shared)
            return known - _UNMATCHED * brackets(texts[index])[1]

        return texts[max(range(len(texts)), key=plausibility)]

    def _log_odds(self, pair: Pair, base: str) -> float:
        for key in _generalized(pair, base):
            right, wrong = self._counted.get(key, (0, 0))
            if right + wrong:
                return math.log((right + 0.5) / (wrong + 0.5))
        return 0.0

    @functools.cached_property
    def _counted(self) -> Mapping[tuple[str, int, str, str], tuple[int, int]]:
        counted: dict[tuple[str, int, str, str], tuple[int, int]] = {}
        for base, word, following, right, wrong in self.counts:
            for key in _generalized((word, following), base):
                before = counted.get(key, (0, 0))
                counted[key] = before[0] + right, before[1] + wrong
        return counted


def _pairs(text: str) -> list[Pair]:
    """Returns the pairs of neighbours in a text, and of an empty word and each composed one."""
    words = text.split()
    composed = [("", word) for word in words if _is_composed(word)]
    return [*itertools.pairwise(("", *words, "")), *composed]


def _generalized(pair: Pair, base: str) -> Iterator[tuple[str, int, str, str]]:
    """Yields what a pair is an example of, from itself to its types of words alone."""
    yield (base, 0, *pair)
    one, other = pair
    across = (_has_number(one) and _has_latin(other)) or (_has_latin(one) and _has_number(other))
    if base == "R" and not across and not (one == "" and _is_composed(other)):
        return
    pair = _each(lambda word: _DIGITS.sub("0", _ENDS.sub("", word)), pair)
    yield (base, 1, *pair)
    pair = _each(lambda word: _NUMBER.sub("0", word), pair)
    yield (base, 2, *pair)
    yield (base, 3, *_each(lambda word: _LETTERS.sub(_direction, word), pair))


def _each(change: Callable[[str], str], pair: Pair) -> Pair:
    return change(pair[0]), change(pair[1])


def _is_composed(word: str) -> bool:
    """Returns whether a word has parts that may change places: Latin, and a number or brackets."""
    return _has_latin(word) and (_has_number(word) or bool(brackets(word)[0]))


def _has_number(word: str) -> bool:
    return any(map(str.isdigit, word))


def _has_latin(word: str) -> bool:
    return "L" in letter_directions(word)


def _direction(letters: re.Match[str]) -> str:
    return "R" if has_right_to_left(letters[0]) else "L"
