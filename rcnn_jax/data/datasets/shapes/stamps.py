"""Shapes as masks with soft edges, by name, radius and rotation."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

LEVELS = 16
"""Coverage of a pixel that lies entirely inside its shape."""
REACH = 1.08
"""Largest distance of any point of a shape from its centre, in radii."""
TURNS = 8
"""Number of rotations of a shape."""

_ACROSS = 4  # samples along one side of a pixel: LEVELS is its square
# Half the range of rotations in degrees. A shape that is turned further has another name (a square
# on its corner is a diamond), or looks the same again.
_SWINGS = {"square": 16, "cross": 16, "triangle": 30, "star": 36, "heart": 30, "moon": 180}

Points = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stamp:
    """A shape as a mask that can be pasted.

    Attributes:
        coverage: Covered part of each pixel, 0 to `LEVELS`, `int16[side, side]`; the centre of the
            shape is the middle pixel.
        mask: Pixels that belong to the shape, at least half of which is covered,
            `bool[side, side]`.
        area: Number of pixels of the mask.
        half: Number of pixels between the centre and the border, `side = 2 * half + 1`.
    """

    coverage: np.ndarray
    mask: np.ndarray
    area: int
    half: int


@functools.cache
def stamp(shape: str, radius: float, turn: int) -> Stamp:
    """Returns the stamp of a shape.

    Args:
        shape: One of `INSIDE`.
        radius: Radius of the shape in pixels; its points are at most `REACH` radii from the centre.
        turn: Index of its rotation, 0 to `TURNS` - 1.
    """
    half = math.ceil(REACH * radius)
    coordinates = (np.arange((2 * half + 1) * _ACROSS) + 0.5) / _ACROSS - half - 0.5
    right, up = np.meshgrid(coordinates / radius, -coordinates / radius)
    angle = math.radians(_SWINGS.get(shape, 0) * (2 * turn + 1 - TURNS) / TURNS)
    cos, sin = math.cos(angle), math.sin(angle)
    inside = INSIDE[shape]((cos * right + sin * up, cos * up - sin * right))
    blocks = inside.reshape(2 * half + 1, _ACROSS, 2 * half + 1, _ACROSS)
    coverage = blocks.sum(axis=(1, 3)).astype(np.int16)
    mask = 2 * coverage >= LEVELS
    for array in (coverage, mask):
        array.flags.writeable = False
    return Stamp(coverage, mask, int(mask.sum()), half)


def _circle(points: Points) -> np.ndarray:
    right, up = points
    return right**2 + up**2 < 0.93**2


def _ring(points: Points) -> np.ndarray:
    right, up = points
    return _circle(points) & (right**2 + up**2 > 0.53**2)


def _square(points: Points) -> np.ndarray:
    return np.maximum(*np.abs(points)) < 0.763


def _cross(points: Points) -> np.ndarray:
    near, far = np.sort(np.abs(points), axis=0)
    return (near < 0.303) & (far < 1.003)


def _heart(points: Points) -> np.ndarray:
    right, up = 1.21 * points[0], 1.21 * points[1] + 0.11
    return (right**2 + up**2 - 1) ** 3 < right**2 * up**3


def _moon(points: Points) -> np.ndarray:
    right, up = points[0] + 0.13, points[1]
    outer = right**2 + up**2 < 1.01**2
    return outer & ((right - 0.55) ** 2 + up**2 > 0.79**2)


def _polygon(corners: Sequence[tuple[float, float]]) -> Callable[[Points], np.ndarray]:
    """Returns a test for points inside a polygon, whose rays cross an odd number of sides."""

    def inside(points: Points) -> np.ndarray:
        right, up = points
        odd = np.zeros(right.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            spans = (y0 > up) != (y1 > up)
            # A horizontal side spans no points, so that the divisor is nonzero where it matters.
            slope = (x1 - x0) / (y1 - y0) if y1 != y0 else 0.0
            odd ^= spans & (right < x0 + slope * (up - y0))
        return odd

    return inside


def _corners(radii: Sequence[float]) -> list[tuple[float, float]]:
    """Returns corners at equal angles, the first at the top."""
    angles = [2 * math.pi * number / len(radii) for number in range(len(radii))]
    return [(r * math.sin(a), r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


INSIDE: dict[str, Callable[[Points], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _polygon(_corners([1.07] * 3)),
    "star": _polygon(_corners([1.07, 0.44] * 5)),
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
}
"""Tests of each shape for the points inside, given in radii right of and above its centre."""
