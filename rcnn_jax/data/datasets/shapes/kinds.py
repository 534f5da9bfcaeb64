"""Short descriptions of what a scene may contain, as labels to learn vision from."""

import collections
import itertools

import numpy as np

from rcnn_jax.data.datasets.shapes.language import NUMBERS, plural
from rcnn_jax.data.datasets.shapes.world import COLOURS, FEWEST, MOST, SHAPES, SIZES, Scene

# Size, colour and shape of an object, or some of them alone.
_NAMES = tuple(itertools.product((None, *SIZES), (None, *COLOURS), (None, *SHAPES)))
_ANY, *_ONES = _NAMES
_OF_ANY_SIZE = [name for name in _ONES if name[0] is None]
# (least number, description) of each kind.
_COUNTED = (
    *((1, name) for name in _ONES),
    *((2, name) for name in _OF_ANY_SIZE),
    *((3, name) for name in _OF_ANY_SIZE if None in name[1:]),
    *((number, _ANY) for number in range(FEWEST + 1, MOST + 1)),
)


def _words(number: int, size: str | None, colour: str | None, shape: str | None) -> str:
    """Returns the words of a description."""
    noun = shape or "shape"
    parts = (NUMBERS[number] if number > 1 else None, size, colour)
    return " ".join((*filter(None, parts), plural(noun) if number > 1 else noun))


KINDS = tuple(_words(number, *name) for number, name in _COUNTED)
"""Descriptions that `kinds_present` labels.

They are of one object, such as a `star`, a `red shape` or a `small red star`; and of the least
number of objects of one kind, `two red stars`, `three stars`, `six shapes`.
"""


def kinds_present(shown: Scene) -> np.ndarray:
    """Returns which of `KINDS` are true of a scene.

    Args:
        shown: Scene to label.

    Returns:
        `uint8[len(KINDS)]`, 1 for the descriptions that are true and 0 for the others.
    """
    there: collections.Counter = collections.Counter()
    for item in shown.objects:
        full = SIZES[item.size], COLOURS[item.colour], SHAPES[item.shape]
        there.update(itertools.product(*((None, part) for part in full)))
    return np.array([there[name] >= number for number, name in _COUNTED], np.uint8)
