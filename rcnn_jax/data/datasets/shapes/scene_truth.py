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
"""Least distance in pixels at which a centre counts as higher or further left than another one.

It is a distance of rows or of columns.
"""

_QUALITIES = {"shape": (SHAPE, SHAPES), "colour": (COLOUR, COLOURS), "size": (SIZE, SIZES)}
_DIRECTIONS = {"left": (X, 1), "right": (X, -1), "above": (Y, 1), "below": (Y, -1)}

Groups = tuple[frozenset[int], ...]


@dataclasses.dataclass(frozen=True)
class Truth:
    """Which claims of a sentence are true.

    Attributes:
        grammatical: Whether the sentence belongs to the grammar; otherwise all others are false.
        objects_true: Whether there are different objects of the shapes and sizes that it names, as
            many as it names, whatever their colours.
        colours_true: Whether there are such objects of the named colours. A number must then be
            exact, and "the" must fit one object only. True where no colour is named.
        relations_true: Whether some of these objects are in the named relations. True where no
            relation is named.
        all_true: Whether all of these are true.
    """

    grammatical: bool
    objects_true: bool
    colours_true: bool
    relations_true: bool
    all_true: bool


def truth(sentence: str, objects: np.ndarray) -> Truth:
    """Compares a sentence with a scene.

    Args:
        sentence: Lower-case words separated by white space, without punctuation.
        objects: Feature `objects` of the scene, `int32[6, 6]`: for each object its shape, colour,
            size, row and column of its centre, and the row in this table of the object that it
            partly hides, -1 for none; rows of -1 after the last.

    Returns:
        Which of its claims are true.

    Raises:
        ValueError: The table does not have six columns.
    """
    if objects.ndim != 2 or objects.shape[1] != 6:
        raise ValueError(f"a table of objects is [objects, 6], got {list(objects.shape)}")
    claimed = facts(sentence)
    if claimed is None:
        return Truth(False, False, False, False, False)
    table = objects[objects[:, SHAPE] >= 0]
    coloured = any(phrase.colour for phrase in claimed.phrases)
    coloured |= any(what == "colour" for _, what, _ in claimed.qualities)
    objects_true = _holds(claimed, table, colours=False, relations=False)
    colours = not coloured or _holds(claimed, table, colours=True, relations=False)
    relations = not claimed.relations or _holds(claimed, table, colours=True, relations=True)
    return Truth(True, objects_true, colours, relations, objects_true and colours and relations)


def _holds(claimed: Facts, table: np.ndarray, *, colours: bool, relations: bool) -> bool:
    """Returns whether there are objects for all phrases at once."""
    if claimed.total is not None and claimed.total != len(table):
        return False
    options = [list(_candidates(phrase, table, colours)) for phrase in claimed.phrases]
    return any(
        _apart(claimed, groups)
        and all(
            _has(table, groups[index], what, value)
            for index, what, value in claimed.qualities
            if colours or what != "colour"
        )
        and (not relations or _related(claimed, table, groups))
        for groups in itertools.product(*options)
    )


def _candidates(phrase: Phrase, table: np.ndarray, colours: bool) -> Iterator[frozenset[int]]:
    """Yields the objects, or groups of objects, that a phrase may refer to."""
    fitting = [
        index
        for index, row in enumerate(table)
        if phrase.shape in (None, SHAPES[row[SHAPE]])
        and phrase.size in (None, SIZES[row[SIZE]])
        and (not colours or phrase.colour in (None, COLOURS[row[COLOUR]]))
    ]
    # The number of a phrase is about all its words, so it is not checked without its colour.
    whole = colours or phrase.colour is None
    number = phrase.number or 1
    if whole and (phrase.definite or phrase.number) and len(fitting) != number:
        return
    yield from map(frozenset, itertools.combinations(fitting, number))


def _apart(claimed: Facts, groups: Groups) -> bool:
    """Returns whether phrases refer to different objects, except that two with "the" may not."""
    pairs = itertools.combinations(zip(claimed.phrases, groups, strict=True), 2)
    return all((p.definite and q.definite) or a.isdisjoint(b) for (p, a), (q, b) in pairs)


def _has(table: np.ndarray, group: frozenset[int], what: str, value: str) -> bool:
    """Returns whether all objects of a group have a property."""
    column, names = _QUALITIES[what]
    return all(names[table[index, column]] == value for index in group)


def _related(claimed: Facts, table: np.ndarray, groups: Groups) -> bool:
    """Returns whether objects are in the claimed relations, each between single objects."""
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
