"""What a sentence about shapes claims: the grammar of captions, read word by word.

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

`captions` says sentences of this grammar; a model may say others of it, which are read as well.
"""

import dataclasses
from collections.abc import Sequence

from rcnn_jax.data.datasets.shapes.world import COLOURS, SHAPES, SIZES

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
"""Number words, by number."""
RELATIONS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "under"),
    "front": ("in front of", "partly covering"),
    "behind": ("behind", "partly covered by"),
}
"""How each relation is said."""
SINGULAR_OPENINGS = ("there is", "i see", "the picture shows")
PLURAL_OPENINGS = ("there are", "i see", "the picture shows")

_TAILS = {tuple(said.split()): kind for kind, ways in RELATIONS.items() for said in ways}


def plural(noun: str) -> str:
    """More than one of a shape."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


# A noun to its shape; "shape" itself is any.
_NOUNS = {noun: noun for noun in SHAPES} | {"shape": None}
_PLURALS = {plural(noun): shape for noun, shape in _NOUNS.items()}


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Some objects as a sentence names them.

    Attributes:
        shape: of `SHAPES`; None: any.
        colour: of `COLOURS`; None: not said.
        size: of `SIZES`; None: not said.
        number: how many there are, exactly; None: one, whether or not there are more.
        definite: "the": there is no other one that the same words fit.
        first: place of its first word.
        last: place of its last word.
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
    """What a sentence claims.

    Attributes:
        phrases: in their order.
        relations: (phrase, relation, phrase), such as `(0, "left", 1)`: the first is left of the
            second.
        qualities: (phrase, "size", "colour" or "shape", value) that are claimed of an object and
            not needed to find it.
        total: how many objects there are in all; None: not said.
    """

    phrases: tuple[Phrase, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    qualities: tuple[tuple[int, str, str], ...] = ()
    total: int | None = None


def facts(sentence: str) -> Facts | None:
    """Reads a sentence.

    Args:
        sentence: lower-case words with white space between, without punctuation.

    Returns:
        What it claims; None: it is not of the grammar.
    """
    words = sentence.split()
    for read in (_listing, _statement, _inversion, _count):
        found = read(words)
        if found is not None:
            return found
    return None


def _take(words: Sequence[str], at: int, text: str) -> int | None:
    """The place after some words that are expected at a place."""
    expected = text.split()
    return at + len(expected) if list(words[at : at + len(expected)]) == expected else None


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if at < len(words) else ""


def _number(word: str) -> int | None:
    """What a plural's number word says."""
    return NUMBERS.index(word) if word in NUMBERS[2:] else None


def _phrase(words: Sequence[str], start: int) -> tuple[Phrase, int] | None:
    """A phrase that begins at a place, and the place after it."""
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
    return "an" if word[:1] in ("a", "e", "i", "o", "u") else "a"


def _relation(words: Sequence[str], start: int) -> tuple[str, int] | None:
    for said, kind in _TAILS.items():
        if tuple(words[start : start + len(said)]) == said:
            return kind, start + len(said)
    return None


def _relations(words: Sequence[str], at: int, subject: Phrase) -> Facts | None:
    """One or two relations of a subject, to the end of the sentence."""
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
    start, openings = 0, (*SINGULAR_OPENINGS, *PLURAL_OPENINGS)
    opening = next((own for own in openings if _take(words, 0, own)), None)
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
    told = {"shape": None, "colour": None, what: value}
    phrase = Phrase(told["shape"], told["colour"], None, number, False, 0, last)
    return Facts((phrase,), total=total)
