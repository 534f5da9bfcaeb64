"""What a scene may hold, in short words, and what it does hold: labels to learn to see with."""

import collections
import itertools

import numpy as np

from rcnn_jax.data.datasets.shapes.language import NUMBERS, plural
from rcnn_jax.data.datasets.shapes.world import COLOURS, FEWEST, MOST, SHAPES, SIZES, Scene

# Size, colour and shape of an object, or some of them alone.
_NAMES = tuple(itertools.product((None, *SIZES), (None, *COLOURS), (None, *SHAPES)))
_ANY, *_ONES = _NAMES
_OF_ANY_SIZE = [name for name in _ONES if name[0] is None]
# At least so many of these.
_COUNTED = (
    *((1, name) for name in _ONES),
    *((2, name) for name in _OF_ANY_SIZE),
    *((3, name) for name in _OF_ANY_SIZE if None in name[1:]),
    *((number, _ANY) for number in range(FEWEST + 1, MOST + 1)),
)


def _words(number: int, size: str | None, colour: str | None, shape: str | None) -> str:
    noun = shape or "shape"
    parts = (NUMBERS[number] if number > 1 else None, size, colour)
    return " ".join((*filter(None, parts), plural(noun) if number > 1 else noun))


KINDS = tuple(_words(number, *name) for number, name in _COUNTED)
"""All that `kinds_present` tells of: a `star`, a `red shape`, a `small red star`; and at least so
many of one kind, `two red stars`, `three stars`, `six shapes`."""


def kinds_present(shown: Scene) -> np.ndarray:
    """Which of `KINDS` a scene holds, uint8 `[len(KINDS)]`: 1 for those, 0 for the others."""
    there: collections.Counter = collections.Counter()
    for own in shown.objects:
        full = SIZES[own.size], COLOURS[own.colour], SHAPES[own.shape]
        there.update(itertools.product(*((None, part) for part in full)))
    return np.array([there[name] >= number for number, name in _COUNTED], np.uint8)
