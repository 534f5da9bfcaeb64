"""Parser of sentences about shapes: what they claim, by the grammar of captions, word by word.

    sentence  = listing | statement | inversion | count
    listing   = [opening] phrase [("and" | "with") phrase] [("and" | "with") phrase]
              | [opening] phrase relation phrase ["and" relation phrase]
    statement = phrase "is" (relation phrase ["and" relation phrase]
              | quality ["and" phrase "is" quality])
    inversion = relation phrase ("is" | "there is") phrase
    count     = number "shapes" "are" group | (number | "one") "of the" number "shapes"
                ("is" | "are") group
    phrase    = ("a" | "an" | "the") [size] [colour] noun | number [size] [colour] nouns
    quality   = size | colour | ("a" | "an") noun
    group     = colour | nouns, or "a" noun after "is"

`captions` generates sentences of this grammar; a model may generate others of it, which are parsed
as well.
"""

import dataclasses
from collections.abc import Sequence

from rcnn_jax.data.datasets.shapes.world import COLOURS, SHAPES, SIZES

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
"""Number words by number."""
RELATIONS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "under"),
    "front": ("in front of", "partly covering"),
    "behind": ("behind", "partly covered by"),
}
"""Phrases for each relation."""
SINGULAR_OPENINGS = ("there is", "i see", "the picture shows")
PLURAL_OPENINGS = ("there are", "i see", "the picture shows")

_TAILS = {tuple(said.split()): kind for kind, ways in RELATIONS.items() for said in ways}


def plural(noun: str) -> str:
    """Returns the plural of a shape.

    Args:
        noun: Name of a shape.
    """
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


# A noun to its shape; "shape" itself is any.
_NOUNS = {noun: noun for noun in SHAPES} | {"shape": None}
_PLURALS = {plural(noun): shape for noun, shape in _NOUNS.items()}


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Objects as a sentence names them.

    Attributes:
        shape: One of `SHAPES`; None: any shape.
        colour: One of `COLOURS`; None: not mentioned.
        size: One of `SIZES`; None: not mentioned.
        number: Exact number of the objects; None: one object, whether or not there are more.
        definite: Whether the phrase has "the", so that it must fit no other object.
        first: Index of its first word.
        last: Index of its last word.
    """

    shape: str | None
    colour: str | None
    size: str | None
    number: int | None
    definite: bool
    first: int
    last: int


@dataclasses.dataclass(frozen=True)
class Facts:
    """Claims of a sentence.

    Attributes:
        phrases: Phrases in their order.
        relations: Triples (phrase, relation, phrase), such as `(0, "left", 1)`: the first is left
            of the second.
        qualities: Triples (phrase, "size", "colour" or "shape", value) of properties that are
            claimed of an object and not needed to identify it.
        total: Number of objects in total; None: not mentioned.
    """

    phrases: tuple[Phrase, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    qualities: tuple[tuple[int, str, str], ...] = ()
    total: int | None = None


def facts(sentence: str) -> Facts | None:
    """Parses a sentence.

    Args:
        sentence: Lower-case words separated by white space, without punctuation.

    Returns:
        Its claims; None if it does not belong to the grammar.

    Example:
        >>> from rcnn_jax.data.datasets.shapes.language import facts
        >>> claims = facts("a red star left of the ring")
        >>> claims.relations, claims.phrases[0].colour, claims.phrases[1].definite
        (((0, 'left', 1),), 'red', True)
        >>> facts("star a red") is None
        True
    """
    words = sentence.split()
    for read in (_listing, _statement, _inversion, _count):
        claims = read(words)
        if claims is not None:
            return claims
    return None


def _take(words: Sequence[str], at: int, text: str) -> int | None:
    """Returns the index after some expected words at an index; None where they differ."""
    expected = text.split()
    return at + len(expected) if list(words[at : at + len(expected)]) == expected else None


def _word(words: Sequence[str], at: int) -> str:
    """Returns the word at an index, or "" beyond the end."""
    return words[at] if at < len(words) else ""


def _number(word: str) -> int | None:
    """Returns the value of a plural's number word."""
    return NUMBERS.index(word) if word in NUMBERS[2:] else None


def _phrase(words: Sequence[str], start: int) -> tuple[Phrase, int] | None:
    """Parses a phrase that begins at an index, and returns it with the index after it."""
    article, at = _word(words, start), start + 1
    number = _number(article)
    if number is None and article not in ("a", "an", "the"):
        return None
    if article in ("a", "an") and article != _article(_word(words, at)):
        return None
    size = colour = None
    if _word(words, at) in SIZES:
        size, at = words[at], at + 1
    if _word(words, at) in COLOURS:
        colour, at = words[at], at + 1
    nouns = _NOUNS if number is None else _PLURALS
    noun = _word(words, at)
    if noun not in nouns:
        return None
    return Phrase(nouns[noun], colour, size, number, article == "the", start, at), at + 1


def _article(word: str) -> str:
    """Returns the article that belongs before a word."""
    return "an" if word[:1] in ("a", "e", "i", "o", "u") else "a"


def _relation(words: Sequence[str], start: int) -> tuple[str, int] | None:
    """Parses a relation, and returns it with the index after it."""
    for tail, kind in _TAILS.items():
        if tuple(words[start : start + len(tail)]) == tail:
            return kind, start + len(tail)
    return None


def _relations(words: Sequence[str], at: int, subject: Phrase) -> Facts | None:
    """Parses one or two relations of a subject, up to the end of the sentence."""
    phrases, relations = [subject], []
    while len(relations) < 2:
        relation = _relation(words, at)
        other = None if relation is None else _phrase(words, relation[1])
        if relation is None or other is None or subject.number is not None:
            return None
        relations.append((0, relation[0], len(phrases)))
        phrases.append(other[0])
        if other[0].number is not None:
            return None
        at = other[1]
        if at == len(words):
            return Facts(tuple(phrases), tuple(relations))
        if words[at] != "and":
            return None
        at += 1
    return None


def _listing(words: Sequence[str]) -> Facts | None:
    """Parses a listing."""
    start, openings = 0, (*SINGULAR_OPENINGS, *PLURAL_OPENINGS)
    opening = next((candidate for candidate in openings if _take(words, 0, candidate)), None)
    if opening is not None:
        start = len(opening.split())
    first = _phrase(words, start)
    if first is None:
        return None
    allowed = SINGULAR_OPENINGS if first[0].number is None else PLURAL_OPENINGS
    if opening is not None and opening not in allowed:
        return None
    phrases, at = [first[0]], first[1]
    related = _relations(words, at, first[0])
    if related is not None:
        return related
    while at < len(words):
        more = _phrase(words, at + 1) if words[at] in ("and", "with") else None
        if more is None or len(phrases) == 3:
            return None
        phrases.append(more[0])
        at = more[1]
    return Facts(tuple(phrases))


def _statement(words: Sequence[str]) -> Facts | None:
    """Parses a statement."""
    subject = _phrase(words, 0)
    at = None if subject is None else _take(words, subject[1], "is")
    if subject is None or at is None or subject[0].number is not None:
        return None
    related = _relations(words, at, subject[0])
    if related is not None:
        return related
    phrases, qualities = [subject[0]], []
    while True:
        quality = _quality(words, at)
        if quality is None:
            return None
        qualities.append((len(phrases) - 1, *quality[0]))
        at = quality[1]
        if at == len(words):
            return Facts(tuple(phrases), qualities=tuple(qualities))
        more = _phrase(words, at + 1) if words[at] == "and" and len(phrases) == 1 else None
        at = None if more is None else _take(words, more[1], "is")
        if more is None or at is None or more[0].number is not None:
            return None
        phrases.append(more[0])


def _quality(words: Sequence[str], at: int) -> tuple[tuple[str, str], int] | None:
    """Parses a quality, and returns it with the index after it."""
    word = _word(words, at)
    if word in SIZES:
        return ("size", word), at + 1
    if word in COLOURS:
        return ("colour", word), at + 1
    noun = _word(words, at + 1)
    if noun in SHAPES and word == _article(noun):
        return ("shape", noun), at + 2
    return None


def _inversion(words: Sequence[str]) -> Facts | None:
    """Parses an inversion."""
    relation = _relation(words, 0)
    other = None if relation is None else _phrase(words, relation[1])
    if relation is None or other is None:
        return None
    at = _take(words, other[1], "is") or _take(words, other[1], "there is")
    subject = None if at is None else _phrase(words, at)
    if subject is None or subject[1] != len(words):
        return None
    if subject[0].number is not None or other[0].number is not None:
        return None
    return Facts((other[0], subject[0]), ((1, relation[0], 0),))


def _count(words: Sequence[str]) -> Facts | None:
    """Parses a count."""
    number = 1 if _word(words, 0) == "one" else _number(_word(words, 0))
    if number is None:
        return None
    total, at = None, _take(words, 1, "shapes")
    if at is None or number == 1:
        total, at = _number(_word(words, 3)), _take(words, 4, "shapes")
        if total is None or at is None or _take(words, 1, "of the") is None:
            return None
    last = at - 1
    at = _take(words, at, "is" if number == 1 else "are")
    if at is None:
        return None
    if number == 1:
        quality = _quality(words, at)
        if quality is None:
            return None
        (what, value), at = quality
    else:
        word = _word(words, at)
        what, value = ("colour", word) if word in COLOURS else ("shape", _PLURALS.get(word))
        if value is None:
            return None
        at += 1
    if at != len(words) or what == "size":
        return None
    values = {"shape": None, "colour": None, what: value}
    phrase = Phrase(values["shape"], values["colour"], None, number, False, 0, last)
    return Facts((phrase,), total=total)
