"""The Unicode bidirectional algorithm: where each character of a line is displayed.

python-bidi resolves levels and reorders (rules W1 to L2, with paired brackets). Its result is a
text, which does not tell where a character came from, and in which neither brackets are mirrored
(L4) nor marks follow their letter (L3). It is therefore given three further characters behind each
that the algorithm ignores (class BN). They number it, and are reversed where it was.

References:
    Unicode Standard Annex 9, Unicode bidirectional algorithm.
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

DIRECTIONS = ("L", "R")

# What turns the order: letters of Hebrew, letters of Arabic, and Arabic-Indic digits.
_TURNED = frozenset(("R", "AL", "AN"))
# What follows from right to left if there is nothing else in a line of that direction.
_IN_ONE_RUN = frozenset(("R", "AL", "WS", "ON", "CS", "ES", "ET", "BN"))
_STRONG = {"L": "L", "R": "R", "AL": "R"}
# Invisible characters that only control directions: marks, embeddings, overrides and isolates.
_CONTROLS = dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
_OPENED = (("\u2066\u2067\u2068", "\u2069"), ("\u202a\u202b\u202d\u202e", "\u202c"))

# The numbers behind characters have three digits of base 32. Each place has characters of its own,
# so that their order says whether they were reversed.
_PLACES = (0xE0020, 0xE0040, 0xE0060)
_MOST = 32**3
_NUMBER = re.compile(
    "[\U000e0020-\U000e003f][\U000e0040-\U000e005f][\U000e0060-\U000e007f]"
    "|[\U000e0060-\U000e007f][\U000e0040-\U000e005f][\U000e0020-\U000e003f]"
)


def kind(character: str) -> str:
    """Returns the bidirectional class of a character or of the base of a cluster.

    Args:
        character: A character, possibly with marks behind it.

    Returns:
        Class such as `L`, `R`, `AL`, `EN` or `WS`; empty for an unassigned code point.
    """
    return unicodedata.bidirectional(character[0])


def visible(text: str) -> str:
    """Returns a text without the invisible characters that only control directions.

    Args:
        text: Any text.
    """
    return text.translate(_CONTROLS)


def has_right_to_left(text: str) -> bool:
    """Returns whether a text has visible characters of the classes R, AL or AN.

    Args:
        text: Any text.
    """
    return not text.isascii() and any(kind(character) in _TURNED for character in visible(text))


def letter_directions(text: str) -> set[str]:
    """Returns the directions of the visible letters of a text.

    Args:
        text: Any text.

    Returns:
        A subset of `L` and `R`.
    """
    return {_STRONG[each] for each in map(kind, visible(text)) if each in _STRONG}


def first_strong(text: str) -> str | None:
    """Returns the direction of the first letter or directional mark (rule P2).

    Args:
        text: A text in logical order.

    Returns:
        `L` or `R`; None where there is none.
    """
    return next((_STRONG[each] for each in map(kind, text) if each in _STRONG), None)


def clusters(text: str) -> list[str]:
    """Divides a text into characters with the nonspacing marks behind them.

    Args:
        text: Any text.

    Returns:
        Clusters, which are the text when joined.
    """
    found: list[str] = []
    for character in text:
        if kind(character) == "NSM" and found:
            # A joiner between a letter and its mark belongs to both.
            while len(found) > 1 and kind(found[-1]) == "BN":
                joiner = found.pop()
                found[-1] += joiner
            found[-1] += character
        else:
            found.append(character)
    return found


def mirrored(cluster: str) -> str:
    """Returns a cluster as it is displayed from right to left: brackets and the like are mirrored.

    Args:
        cluster: A character, possibly with marks behind it.
    """
    return _library()[1].get(cluster[0], cluster[0]) + cluster[1:]


def brackets(parts: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Finds brackets that enclose something.

    Args:
        parts: Clusters of a line, in any order.

    Returns:
        Pairs of the indices of an opening bracket and its closing one, and the number of brackets
        that are in no pair.
    """
    opened: list[int] = []
    pairs, count = [], 0
    for place, part in enumerate(parts):
        category = unicodedata.category(part[0])
        count += category in ("Ps", "Pe")
        if category == "Ps":
            opened.append(place)
        elif category == "Pe" and opened and mirrored(parts[opened[-1]][0]) == part[0]:
            pairs.append((opened.pop(), place))
    return pairs, count - 2 * len(pairs)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the clusters of a line are displayed.

    Attributes:
        order: Index of each displayed cluster within the text, from left to right.
        reversed: Whether each cluster of the text is displayed from right to left; such clusters
            are mirrored.
    """

    order: Sequence[int]
    reversed: Sequence[bool]

    def levels(self) -> list[int]:
        """Returns the level of each cluster of a text without embeddings, as far as it matters.

        Returns:
            0 for clusters that follow each other from left to right in the line, 1 for those that
            follow from right to left, and 2 for those from left to right among the latter.
        """
        levels, start, last = [0] * len(self.order), 0, -1
        for place, index in enumerate(self.order):
            last = max(last, index)
            if last > place:
                continue
            # Clusters start..place are displayed at places start..place, and no part of them is.
            inner = 2 if place > start else 0
            for each in range(start, place + 1):
                levels[each] = 1 if self.reversed[each] else inner
            start = place + 1
        return levels


def lay_out(parts: Sequence[str], direction: str) -> Layout:
    """Applies the bidirectional algorithm to a line.

    Tabs and separators of paragraphs are laid out as spaces.

    Args:
        parts: Clusters of the text in logical order, at most 32,768.
        direction: Base direction, `L` or `R`.

    Raises:
        ValueError: If the line is longer, or python-bidi is not installed.
    """
    if len(parts) > _MOST:
        raise ValueError(
            f"a line of {len(parts):,} characters cannot be turned, at most {_MOST:,} can"
        )
    bases = [" " if kind(part) in ("B", "S") else part[0] for part in parts]
    numbered = "".join([base + _number(index) for index, base in enumerate(bases)])
    # Without a letter at the end, the numbers there would be laid out as white space. One in the
    # base direction has no effect on others, after the embeddings that are open are closed.
    for openers, closer in _OPENED:
        numbered += closer * sum(base in openers for base in bases)
    shown = _library()[0](numbered + {"L": "a", "R": "א"}[direction], base_dir=direction)
    order, is_reversed = [0] * len(parts), [False] * len(parts)
    for place, (first, middle, last) in enumerate(_NUMBER.findall(shown)):
        turned = first > last
        high, low = (last, first) if turned else (first, last)
        index = (ord(high) & 31) << 10 | (ord(middle) & 31) << 5 | ord(low) & 31
        order[place], is_reversed[index] = index, turned
    return Layout(order, is_reversed)


def is_one_run(parts: Sequence[str], direction: str) -> bool:
    """Returns whether a whole line follows from right to left, so that it is only reversed.

    Args:
        parts: Clusters of the line, in logical or visual order.
        direction: Base direction, `L` or `R`.
    """
    return direction == "R" and all(kind(part) in _IN_ONE_RUN for part in parts)


def displayed(text: str, direction: str) -> str:
    """Returns what is seen of a line from left to right.

    Args:
        text: The line in logical order.
        direction: Base direction, `L` or `R`.

    Returns:
        The visible characters: brackets in the shape that is seen, marks behind their letter.

    Raises:
        ValueError: If the line is too long, or python-bidi is not installed.

    Example:
        >>> from rcnn_jax.data.text.bidirectional import displayed
        >>> displayed("\u05d0\u05d1 (a 12)", "R") == "(a 12) \u05d1\u05d0"
        True
    """
    parts = clusters(text)
    if is_one_run(parts, direction):
        return visible("".join(mirrored(part) for part in reversed(parts)))
    layout = lay_out(parts, direction)
    shown = (mirrored(parts[i]) if layout.reversed[i] else parts[i] for i in layout.order)
    return visible("".join(shown))


def undo_order(levels: Sequence[int]) -> list[int]:
    """Inverts the reordering of a line (rule L2).

    Args:
        levels: Level of each displayed cluster, from left to right.

    Returns:
        Places of the clusters of the text, in logical order.
    """
    places = list(range(len(levels)))
    for level in range(1, max(levels, default=0) + 1):
        start = 0
        while start < len(places):
            end = start
            while end < len(places) and levels[places[end]] >= level:
                end += 1
            places[start:end] = places[start:end][::-1]
            start = end + 1
    return places


@functools.cache
def _number(index: int) -> str:
    digits = (index >> 10, index >> 5 & 31, index & 31)
    return "".join(chr(first + digit) for first, digit in zip(_PLACES, digits, strict=True))


@functools.cache
def _library() -> tuple[Callable[..., str], Mapping[str, str]]:
    """Returns python-bidi's `get_display` and its table of mirrored characters."""
    try:
        from bidi import get_display  # pyright: ignore[reportMissingImports]
        from bidi.mirror import MIRRORED  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"right-to-left text in pictures needs python-bidi ({error}): pip install "
            "'rcnn-jax[bidi]'; config.encoder.order=logical leaves texts in the order of their file"
        ) from error
    display: Any = get_display
    return display, MIRRORED
