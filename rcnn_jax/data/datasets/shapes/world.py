"""Scenes of shapes: which objects they have, where these lie and which hides which.

Pictures have 64 x 64 pixels. A small object is then 12 to 15 pixels across, which a star needs to
keep its points; on 48 x 48 pixels it would have 9 to 11, or six objects would have no room.

The number of scenes: an object is one of 8 shapes in one of 8 colours (6 of the 64 pairs are
held out) and small or large, so that there are 58 * 2 = 116 kinds. Of six objects without order
there are (116 + 5)! / (6! 115!) = 3.8e9 lists of kinds alone; three objects have 2.7e5. Positions
multiply this: the centre of a large object has 40 * 40 of them or more.
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
"""Least share of an object's pixels that other objects leave visible."""
HIDDEN = 10
"""Least number of pixels that an object hides of another one, unless it hides none."""

_RADII = ((6.0, 6.5, 7.0), (10.0, 10.5, 11.0))  # of small and large objects
_TRIES = 40  # number of positions tried for one object before the scene is started anew


class BlockDraws(Draws):
    """Draws that are generated many at a time, because a scene needs hundreds."""

    def __init__(self, seed: int, stream: int, index: int) -> None:
        """Starts at the first number.

        Args:
            seed: Seed of the data set, 0 to 2**64 - 1.
            stream: Number of the stream, such as the index of the split, 0 to 2**16 - 1.
            index: Index of the example, 0 to 2**48 - 1.
        """
        super().__init__(seed, stream, index)
        self._block: list[float] = []

    def below(self, bound: int) -> int:
        """Returns a random integer in 0..bound - 1.

        Args:
            bound: Number of possible values.
        """
        if not self._block:
            self._block = self.uniform(128).tolist()
        return int(self._block.pop() * bound)


@dataclasses.dataclass(frozen=True)
class Object:
    """A shape in a scene.

    Attributes:
        shape: Index in `SHAPES`.
        colour: Index in `COLOURS`.
        size: Index in `SIZES`.
        y: Row of its centre, whether that is visible or not.
        x: Column of its centre.
        radius: Radius in pixels, which varies a little among small and among large objects.
        turn: Index of its rotation.
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
        """The mask of the object."""
        return stamp(SHAPES[self.shape], self.radius, self.turn)

    @property
    def window(self) -> tuple[slice, slice]:
        """The slices of a picture that the object's stamp covers."""
        half = self.stamp.half
        return slice(self.y - half, self.y + half + 1), slice(self.x - half, self.x + half + 1)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Objects from back to front.

    Attributes:
        objects: 3 to 6 objects.
        owners: Number of the object that is visible at each pixel, counted from 1; 0 is the
            background. `uint8[64, 64]`.
        hides: Index of the object that each object partly hides; None: it hides none.
    """

    objects: tuple[Object, ...]
    owners: np.ndarray
    hides: tuple[int | None, ...]

    @property
    def held_out(self) -> bool:
        """Whether the scene has a pair of shape and colour that training does not have."""
        return any((item.shape, item.colour) in HELD_OUT for item in self.objects)

    @functools.cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of an object in front and the one that it partly hides."""
        return tuple((front, back) for front, back in enumerate(self.hides) if back is not None)


def scene(draws: Draws, *, held_out: bool) -> Scene:
    """Generates a scene.

    At most two objects overlap in one place, and never two of one colour, so that each outline is
    visible. The one in front hides at least `HIDDEN` pixels of the other and leaves the share
    `VISIBLE`.

    Args:
        draws: Random numbers of the example.
        held_out: Whether it has at least one pair of `HELD_OUT`, or none.
    """
    count = FEWEST + draws.below(MOST - FEWEST + 1)
    while True:
        placed = _Placement()
        if all(placed.add(draws, *kind) for kind in _kinds(draws, count, held_out)):
            return Scene(tuple(placed.objects), placed.owners, tuple(placed.hides))


def _kinds(draws: Draws, count: int, held_out: bool) -> list[tuple[int, int]]:
    """Draws shape and colour of each object; some repeat an earlier one, to create pairs."""
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
    """Returns offsets between centres at which shapes whose radii sum to `reach` overlap a bit."""
    steps = range(-reach, reach + 1)
    return tuple(
        (down, right)
        for down in steps
        for right in steps
        if 0.35 * reach**2 <= down**2 + right**2 <= 0.8 * reach**2
    )


class _Placement:
    """A scene under construction."""

    def __init__(self) -> None:
        self.objects: list[Object] = []
        self.hides: list[int | None] = []
        self.owners = np.zeros((SIDE, SIDE), np.uint8)

    def add(self, draws: Draws, shape: int, colour: int) -> bool:
        """Finds a position for an object; returns whether there was one."""
        size = draws.below(len(SIZES))
        radius, turn = draws.choice(_RADII[size]), draws.below(TURNS)
        half = stamp(SHAPES[shape], radius, turn).half
        back = self._partner(draws, colour)
        for number in range(_TRIES):
            if number == _TRIES // 2:
                back = None  # there may be no position that overlaps this object
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
        """Draws the object that the next one is to hide partly; None for no such object."""
        taken = {*self.hides, *(front for front, b in enumerate(self.hides) if b is not None)}
        free = [
            index
            for index, item in enumerate(self.objects)
            if index not in taken and item.colour != colour
        ]
        return draws.choice(free) if free and draws.below(5) < 2 else None

    def _is_clear(self, new: Object, but: int | None) -> bool:
        """Returns whether at least a pixel of background separates an object from all but one."""
        for index, item in enumerate(self.objects):
            apart = REACH * (item.radius + new.radius) + 2
            if index != but and (item.y - new.y) ** 2 + (item.x - new.x) ** 2 < apart**2:
                return False
        return True

    def _hides_some(self, new: Object, back: int) -> bool:
        """Returns whether a new object hides enough, and not too much, of the one behind it."""
        hidden = int(np.count_nonzero(self.owners[new.window][new.stamp.mask] == back + 1))
        return HIDDEN <= hidden <= (1 - VISIBLE) * self.objects[back].stamp.area
