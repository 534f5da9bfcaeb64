"""What a scene of shapes is: which objects it has, where they lie and which hides which.

Pictures have 64 x 64 pixels. A small object is then 12 to 15 pixels across, which is what a star
needs to keep its points; on 48 x 48 pixels it would have 9 to 11, or six objects no room.

How many scenes there are: an object is one of 8 shapes in one of 8 colours (6 of the 64 pairs are
held out) and small or large, so that there are 58 * 2 = 116 kinds. Of six objects without order
there are (116 + 5)! / (6! 115!) = 3.8e9 lists of kinds alone; three objects have 2.7e5. The places
multiply this: a large object's centre has 40 * 40 of them or more.
"""

import dataclasses
import functools

import numpy as np

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.shapes.stamps import INSIDE, REACH, TURNS, Stamp, stamp

SIDE = 64
SHAPES = tuple(INSIDE)
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
SIZES = ("small", "large")
FEWEST, MOST = 3, 6
HELD_OUT = frozenset(
    (SHAPES.index(shape), COLOURS.index(colour))
    for shape, colour in (
        ("star", "red"), ("square", "orange"), ("cross", "yellow"), ("heart", "green"),
        ("ring", "blue"), ("triangle", "purple"),
    )
)  # fmt: skip
"""Pairs of shape and colour that no scene of training and validation has."""
VISIBLE = 0.65
"""The least share of an object's pixels that others leave visible."""
HIDDEN = 10
"""The fewest pixels that an object hides of another one, or it hides none."""

_RADII = ((6.0, 6.5, 7.0), (10.0, 10.5, 11.0))  # of small and large objects
_TRIES = 40  # at a place for one object, before the scene is begun anew


class BlockDraws(Draws):
    """Draws that are made many at a time: a scene needs hundreds."""

    def __init__(self, seed: int, stream: int, index: int) -> None:
        """See `Draws`."""
        super().__init__(seed, stream, index)
        self._block: list[float] = []

    def below(self, bound: int) -> int:
        """A whole number in 0..bound - 1."""
        if not self._block:
            self._block = self.uniform(128).tolist()
        return int(self._block.pop() * bound)


@dataclasses.dataclass(frozen=True)
class Object:
    """A shape of a scene.

    Attributes:
        shape: place in `SHAPES`.
        colour: place in `COLOURS`.
        size: place in `SIZES`.
        y: row of its centre, whether that is visible or not.
        x: column of its centre.
        radius: in pixels; what is called small or large differs a little.
        turn: number of its rotation.
    """

    shape: int
    colour: int
    size: int
    y: int
    x: int
    radius: float
    turn: int

    @property
    def stamp(self) -> Stamp:
        """Its mask."""
        return stamp(SHAPES[self.shape], self.radius, self.turn)

    @property
    def window(self) -> tuple[slice, slice]:
        """The part of a picture that its stamp covers."""
        half = self.stamp.half
        return slice(self.y - half, self.y + half + 1), slice(self.x - half, self.x + half + 1)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Objects from back to front.

    Attributes:
        objects: 3 to 6.
        owners: for each pixel the number of the object that is seen there, counted from 1; 0 is
            the background. uint8 `[64, 64]`.
        hides: for each object the place of the one that it hides a part of; None: it hides none.
    """

    objects: tuple[Object, ...]
    owners: np.ndarray
    hides: tuple[int | None, ...]

    @property
    def held_out(self) -> bool:
        """Whether it has a pair of shape and colour that training has not."""
        return any((own.shape, own.colour) in HELD_OUT for own in self.objects)

    @functools.cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Objects in front and those that they hide a part of."""
        return tuple((front, back) for front, back in enumerate(self.hides) if back is not None)


def scene(draws: Draws, *, held_out: bool) -> Scene:
    """A scene.

    At most two objects overlap in one place, and never two of one colour: each outline can be
    seen. The one in front hides at least `HIDDEN` pixels of the other and leaves it `VISIBLE`.

    Args:
        draws: its random numbers.
        held_out: whether it is to have pairs of `HELD_OUT`, at least one, or none.
    """
    count = FEWEST + draws.below(MOST - FEWEST + 1)
    while True:
        placed = _Placement()
        if all(placed.add(draws, *kind) for kind in _kinds(draws, count, held_out)):
            return Scene(tuple(placed.objects), placed.owners, tuple(placed.hides))


def _kinds(draws: Draws, count: int, held_out: bool) -> list[tuple[int, int]]:
    """Shape and colour of each object; some are those of an earlier one, so that there are twos."""
    kinds: list[tuple[int, int]] = []
    special = draws.below(count) if held_out else -1
    pairs = sorted(HELD_OUT)
    while len(kinds) < count:
        if len(kinds) == special:
            kinds.append(draws.choice(pairs))
            continue
        shape, colour = draws.below(len(SHAPES)), draws.below(len(COLOURS))
        if kinds and draws.below(10) < 3:
            shape = draws.choice(kinds)[0]
        if kinds and draws.below(10) < 3:
            colour = draws.choice(kinds)[1]
        if held_out or (shape, colour) not in HELD_OUT:
            kinds.append((shape, colour))
    return kinds


@functools.cache
def _offsets(reach: int) -> tuple[tuple[int, int], ...]:
    """From one centre to another, where radii that add up to `reach` make shapes overlap a bit."""
    steps = range(-reach, reach + 1)
    return tuple(
        (down, right)
        for down in steps
        for right in steps
        if 0.35 * reach**2 <= down**2 + right**2 <= 0.8 * reach**2
    )


class _Placement:
    """A scene while it is being put together."""

    def __init__(self) -> None:
        self.objects: list[Object] = []
        self.hides: list[int | None] = []
        self.owners = np.zeros((SIDE, SIDE), np.uint8)

    def add(self, draws: Draws, shape: int, colour: int) -> bool:
        """Finds a place for an object, or says that there was none."""
        size = draws.below(len(SIZES))
        radius, turn = draws.choice(_RADII[size]), draws.below(TURNS)
        half = stamp(SHAPES[shape], radius, turn).half
        back = self._partner(draws, colour)
        for number in range(_TRIES):
            if number == _TRIES // 2:
                back = None  # there is no such place, perhaps
            if back is None:
                y = half + draws.below(SIDE - 2 * half)
                x = half + draws.below(SIDE - 2 * half)
            else:
                other = self.objects[back]
                down, right = draws.choice(_offsets(int(radius + other.radius)))
                y, x = other.y + down, other.x + right
                if min(y, x) < half or max(y, x) >= SIDE - half:
                    continue
            new = Object(shape, colour, size, y, x, radius, turn)
            if self._is_clear(new, back) and (back is None or self._hides_some(new, back)):
                self.owners[new.window][new.stamp.mask] = len(self.objects) + 1
                self.objects.append(new)
                self.hides.append(back)
                return True
        return False

    def _partner(self, draws: Draws, colour: int) -> int | None:
        """Which object the next one is to hide a part of."""
        taken = {*self.hides, *(front for front, b in enumerate(self.hides) if b is not None)}
        free = [
            place
            for place, own in enumerate(self.objects)
            if place not in taken and own.colour != colour
        ]
        return draws.choice(free) if free and draws.below(5) < 2 else None

    def _is_clear(self, new: Object, but: int | None) -> bool:
        """Whether at least a pixel of background lies between an object and all others but one."""
        for place, own in enumerate(self.objects):
            apart = REACH * (own.radius + new.radius) + 2
            if place != but and (own.y - new.y) ** 2 + (own.x - new.x) ** 2 < apart**2:
                return False
        return True

    def _hides_some(self, new: Object, back: int) -> bool:
        hidden = int(np.count_nonzero(self.owners[new.window][new.stamp.mask] == back + 1))
        return HIDDEN <= hidden <= (1 - VISIBLE) * self.objects[back].stamp.area
