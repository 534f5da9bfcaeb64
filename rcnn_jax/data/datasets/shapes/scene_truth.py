"""Whether a sentence is true of a scene: claim by claim, from the table of objects alone."""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from rcnn_jax.data.datasets.shapes.language import Facts, Phrase, facts
from rcnn_jax.data.datasets.shapes.world import COLOURS, SHAPES, SIZES

SHAPE, COLOUR, SIZE, Y, X, HIDES = range(6)
"""Columns of the table of objects; `HIDES` is the row of the object behind, -1 for none."""
NOTICEABLE = 4
"""The least distance in pixels, of rows or of columns, at which a centre is said to lie higher or
further left than another one."""

_QUALITIES = {"shape": (SHAPE, SHAPES), "colour": (COLOUR, COLOURS), "size": (SIZE, SIZES)}
_DIRECTIONS = {"left": (X, 1), "right": (X, -1), "above": (Y, 1), "below": (Y, -1)}

Groups = tuple[frozenset[int], ...]


@dataclasses.dataclass(frozen=True)
class Truth:
    """What of a sentence is true.

    Attributes:
        grammatical: it is of the grammar; otherwise nothing of it is true.
        objects_true: different objects of the shapes and sizes, as many as it names, are there,
            whatever their colours.
        colours_true: so are such of the named colours. A number is then exact, and "the" fits one
            object only. True where no colour is named.
        relations_true: among these are some that lie as it says. True where no relation is named.
        all_true: all of that at once.
    """

    grammatical: bool
    objects_true: bool
    colours_true: bool
    relations_true: bool
    all_true: bool


def truth(sentence: str, objects: np.ndarray) -> Truth:
    """Holds a sentence against a scene.

    Args:
        sentence: see `facts`.
        objects: the feature `objects` of the scene, int32 `[6, 6]`: for each object its shape,
            colour, size, row and column of its centre, and the row in this table of the object
            that it hides a part of, -1 for none; rows of -1 behind the last.

    Raises:
        ValueError: the table has not six columns.
    """
    if objects.ndim != 2 or objects.shape[1] != 6:
        raise ValueError(f"a table of objects is [objects, 6], got {list(objects.shape)}")
    claimed = facts(sentence)
    if claimed is None:
        return Truth(False, False, False, False, False)
    table = objects[objects[:, SHAPE] >= 0]
    coloured = any(phrase.colour for phrase in claimed.phrases)
    coloured |= any(what == "colour" for _, what, _ in claimed.qualities)
    there = _holds(claimed, table, colours=False, relations=False)
    colours = not coloured or _holds(claimed, table, colours=True, relations=False)
    relations = not claimed.relations or _holds(claimed, table, colours=True, relations=True)
    return Truth(True, there, colours, relations, there and colours and relations)


def _holds(claimed: Facts, table: np.ndarray, *, colours: bool, relations: bool) -> bool:
    """Whether objects can be found for all phrases at once."""
    if claimed.total is not None and claimed.total != len(table):
        return False
    options = [list(_candidates(phrase, table, colours)) for phrase in claimed.phrases]
    return any(
        _apart(claimed, groups)
        and all(
            _has(table, groups[place], what, value)
            for place, what, value in claimed.qualities
            if colours or what != "colour"
        )
        and (not relations or _related(claimed, table, groups))
        for groups in itertools.product(*options)
    )


def _candidates(phrase: Phrase, table: np.ndarray, colours: bool) -> Iterator[frozenset[int]]:
    """The objects, or groups of such, that a phrase may mean."""
    fitting = [
        place
        for place, row in enumerate(table)
        if phrase.shape in (None, SHAPES[row[SHAPE]])
        and phrase.size in (None, SIZES[row[SIZE]])
        and (not colours or phrase.colour in (None, COLOURS[row[COLOUR]]))
    ]
    # What a phrase says of its own number is about all its words: not without its colour.
    whole = colours or phrase.colour is None
    number = phrase.number or 1
    if whole and (phrase.definite or phrase.number) and len(fitting) != number:
        return
    yield from map(frozenset, itertools.combinations(fitting, number))


def _apart(claimed: Facts, groups: Groups) -> bool:
    """Whether what is named twice is there twice; two phrases with "the" may mean one object."""
    pairs = itertools.combinations(zip(claimed.phrases, groups, strict=True), 2)
    return all((p.definite and q.definite) or a.isdisjoint(b) for (p, a), (q, b) in pairs)


def _has(table: np.ndarray, group: frozenset[int], what: str, value: str) -> bool:
    column, names = _QUALITIES[what]
    return all(names[table[place, column]] == value for place in group)


def _related(claimed: Facts, table: np.ndarray, groups: Groups) -> bool:
    """Whether objects lie as is claimed; what is related is one object each."""
    for one, kind, other in claimed.relations:
        (a,), (b,) = groups[one], groups[other]
        if kind in _DIRECTIONS:
            column, sign = _DIRECTIONS[kind]
            holds = sign * (table[b, column] - table[a, column]) >= NOTICEABLE
        else:
            front, back = (a, b) if kind == "front" else (b, a)
            holds = table[front, HIDES] == back
        if not holds:
            return False
    return True
