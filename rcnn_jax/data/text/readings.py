"""The way back from visual order: texts that are displayed as what is seen.

The bidirectional algorithm gives each character of a text a level, and the levels determine where
it is displayed. Of what is seen the levels are guessed; the text that they give is laid out, and
the levels found there are the next guess, until the two agree. Then the text is displayed exactly
as what is seen. Several texts that look alike are found from different first guesses.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rcnn_jax.data.text.bidirectional import (
    brackets,
    clusters,
    is_one_run,
    kind,
    lay_out,
    mirrored,
    undo_order,
)

# Places of one line that may have one level or another: of so many all combinations are tried, of
# more one at a time; and so many guesses in all, since a wrong answer may consist of brackets.
_COMBINED = 4
_TRIED = 128
_TYPES = {"L": "L", "R": "R", "AL": "R", "EN": "N", "AN": "N"}

_Levels = dict[int, int]


class _Token(NamedTuple):
    """Neighbours of one type, and the places where they are seen."""

    type: str
    places: range


def readings(seen: str, direction: str) -> list[str]:
    """Finds texts that are displayed as what is seen.

    Args:
        seen: A text in visual order.
        direction: Base direction, `L` or `R`.

    Returns:
        Different texts in logical order, those with numbers behind words first; empty if there is
        no such text or none was found.

    Raises:
        ValueError: If the line is too long, or python-bidi is not installed.

    Example:
        >>> from rcnn_jax.data.text.readings import readings
        >>> [text.split()[1:] for text in readings("GB 5 \u05d2\u05d1\u05d0", "R")]
        [['GB', '5'], ['5', 'GB']]
    """
    parts = clusters(seen)
    if is_one_run(parts, direction):
        return [_text(parts, [1] * len(parts))]
    found: dict[str, None] = {}
    tried: set[tuple[int, ...]] = set()
    for guess in _guesses(parts, direction):
        levels = _settled(parts, guess, direction, tried)
        if levels is not None:
            found[_text(parts, levels)] = None
        if len(tried) >= _TRIED:
            break
    return list(found)


def plain_reading(seen: str, direction: str) -> str:
    """Returns a text that is displayed much like what is seen, by the first guess of levels.

    Args:
        seen: A text in visual order.
        direction: Base direction, `L` or `R`.

    Raises:
        ValueError: If python-bidi is not installed.
    """
    parts = clusters(seen)
    return _text(parts, next(_guesses(parts, direction)))


def _guesses(parts: Sequence[str], direction: str) -> Iterator[list[int]]:
    """Yields levels that the clusters of a line in visual order may have."""
    other = "L" if direction == "R" else "R"
    # Brackets have the base direction if what they enclose has it.
    free = [
        pair
        for pair in brackets(parts)[0]
        if not any(_TYPES.get(kind(part)) == direction for part in parts[pair[0] : pair[1]])
    ]
    fixed = {place: direction for pair in brackets(parts)[0] for place in pair}
    # Behind Arabic letters such signs do not belong to numbers.
    for joined in (True, False) if any(kind(part) == "AL" for part in parts) else (True,):
        types = _types(parts, joined)
        usual = [_continues(types, pair, direction) for pair in free]
        for changed in _choices(len(free)):
            turned = dict(fixed)
            for pair, yes, change in zip(free, usual, changed, strict=True):
                turned |= dict.fromkeys(pair, other) if yes != change else {}
            tokens = _tokens([turned.get(place, each) for place, each in enumerate(types)])
            levels, switches = (_from_right if direction == "R" else _from_left)(tokens)
            for on in _choices(len(switches)):
                guess = list(levels)
                for switch in itertools.compress(switches, on):
                    for place, level in switch.items():
                        guess[place] = level
                yield guess


def _continues(types: Sequence[str], pair: tuple[int, int], direction: str) -> bool:
    """Returns whether brackets follow a word that is not in the base direction."""
    before = types[: pair[0]][::-1] if direction == "R" else types[pair[1] + 1 :]
    return next((each for each in before if each != "-"), direction) not in (direction, "N")


def _from_right(tokens: Sequence[_Token]) -> tuple[list[int], list[_Levels]]:
    """Returns levels of a line from right to left, and levels that some places may have instead.

    Letters and numbers from left to right have level 2. So has what lies between them behind a
    word; the word is on the left.
    """
    levels, switches, word = [], [], False
    for index, (type_, places) in enumerate(tokens):
        word = type_ == "L" or (word and type_ != "R")
        following = tokens[index + 1].type if index + 1 < len(tokens) else "R"
        within = type_ in "LN" or (word and type_ == "-" and following != "R")
        levels += [2 if within else 1] * len(places)
        if within and type_ == "-" and following == "N":
            # The number follows the word, or is read before it.
            switches.append(dict.fromkeys(places, 1))
    return levels, switches


def _from_left(tokens: Sequence[_Token]) -> tuple[list[int], list[_Levels]]:
    """Returns levels of a line from left to right, and levels that some places may have instead.

    Letters from right to left have level 1, with what lies between them, and numbers among them
    level 2. Numbers on either side of them may belong to them or not.
    """
    levels = [0] * sum(len(token.places) for token in tokens)
    switches = []
    ends = [-1, *(i for i, token in enumerate(tokens) if token.type == "L"), len(tokens)]
    for before, after in itertools.pairwise(ends):
        part = tokens[before + 1 : after]
        letters = [index for index, token in enumerate(part) if token.type == "R"]
        if not letters:
            continue
        numbers = [index for index, token in enumerate(part) if token.type == "N"]
        first, last = min([letters[0], *numbers]), letters[-1]
        for index in range(first, last + 1):
            for place in part[index].places:
                levels[place] = 2 if part[index].type == "N" else 1
        for one, stop in itertools.pairwise([*(n for n in numbers if n < letters[0]), letters[0]]):
            # The number is the end of what is read from right to left, or comes before that.
            switches.append({p: 0 for index in range(one, stop) for p in part[index].places})
        for start, one in itertools.pairwise([last, *(n for n in numbers if n > last)]):
            # The number is the beginning of it, or comes after it.
            places = [p for index in range(start + 1, one) for p in part[index].places]
            switches.append(dict.fromkeys(places, 1) | dict.fromkeys(part[one].places, 2))
    return levels, switches


def _types(parts: Sequence[str], joined: bool) -> list[str]:
    """Returns for each place `L` or `R` for letters, `N` for numbers and `-` for the rest.

    Args:
        parts: Clusters of a line.
        joined: Whether signs such as % belong to the number beside them.
    """
    kinds = [kind(part) for part in parts]
    types = [_TYPES.get(each, "-") for each in kinds]
    for place in range(1, len(parts) - 1):
        # A point, a comma or a slash between digits belongs to the number.
        if kinds[place] in ("ES", "CS") and types[place - 1] == types[place + 1] == "N":
            types[place] = "N"
    for places in (range(1, len(parts)), range(len(parts) - 2, -1, -1)) if joined else ():
        # So do signs such as % beside it.
        for place in places:
            if kinds[place] == "ET" and types[place - places.step] == "N":
                types[place] = "N"
    return types


def _tokens(types: Sequence[str]) -> list[_Token]:
    """Returns the longest ranges of places that have the same type."""
    tokens, start = [], 0
    for type_, group in itertools.groupby(types):
        stop = start + len(list(group))
        tokens.append(_Token(type_, range(start, stop)))
        start = stop
    return tokens


def _choices(count: int) -> Iterator[tuple[bool, ...]]:
    """Yields which of the switches are on: none first."""
    if count <= _COMBINED:
        yield from itertools.product((False, True), repeat=count)
        return
    yield (False,) * count
    for one in range(count):
        yield tuple(index == one for index in range(count))
    yield (True,) * count


def _settled(
    parts: Sequence[str], levels: list[int], direction: str, tried: set[tuple[int, ...]]
) -> list[int] | None:
    """Returns levels that agree with those of the text that they give.

    Args:
        parts: Clusters in visual order.
        levels: First guess of the level of each.
        direction: Base direction, `L` or `R`.
        tried: Guesses whose result is known; those that are tried are added.

    Returns:
        The levels; None if there are none, or they are the result of an earlier guess.
    """
    while tuple(levels) not in tried:
        tried.add(tuple(levels))
        places = undo_order(levels)
        layout = lay_out([_shown(parts[p], levels[p]) for p in places], direction)
        found = [0] * len(parts)
        for place, level in zip(places, layout.levels(), strict=True):
            found[place] = level
        in_place = all(places[index] == place for place, index in enumerate(layout.order))
        if in_place and all((a - b) % 2 == 0 for a, b in zip(found, levels, strict=True)):
            return found
        levels = found
    return None


def _shown(part: str, level: int) -> str:
    return mirrored(part) if level % 2 else part


def _text(parts: Sequence[str], levels: Sequence[int]) -> str:
    return "".join(_shown(parts[place], levels[place]) for place in undo_order(levels))
