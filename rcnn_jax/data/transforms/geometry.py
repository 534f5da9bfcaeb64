"""What transforms that move pixels make of boxes, and how they label what lies outside."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HeightWidth = tuple[int, int]
# What a box that is no longer in the picture becomes.
ABSENT = -1


def move_boxes(
    boxes: jax.Array,
    move: Callable[[jax.Array], jax.Array],
    before: HeightWidth,
    after: HeightWidth,
    relative: bool = False,
) -> jax.Array:
    """Moves the boxes of one example, and cuts them at the border of the new picture.

    Args:
        boxes: floating `[boxes, 4]`, rows `y0, x0, y1, x1`. Those without area are absent.
        move: from boxes in pixels of the old picture to boxes in pixels of the new one.
        before: height and width of the old picture.
        after: height and width of the new picture.
        relative: whether boxes are given, and returned, in shares of height and width.

    Returns:
        `[boxes, 4]`. Absent boxes stay as they are, and those that nothing is left of become rows
        of `ABSENT`.
    """
    limit = jnp.array([*after, *after], boxes.dtype)
    scale = jnp.array([*before, *before], boxes.dtype)
    moved = jnp.clip(move(boxes * scale[None] if relative else boxes), 0, limit[None])
    left = jnp.where(_present(moved), moved / limit[None] if relative else moved, ABSENT)
    return jnp.where(_present(boxes), left, boxes)


def _present(boxes: jax.Array) -> jax.Array:
    """Whether each box has an area, `[boxes, 1]`."""
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1, keepdims=True)


def corners(boxes: jax.Array) -> jax.Array:
    """The four corners `(y, x)` of each box, `[boxes, 4, 2]`."""
    return boxes[:, jnp.array([[0, 1], [0, 3], [2, 1], [2, 3]])]


def hull(points: jax.Array) -> jax.Array:
    """The smallest upright box around each row of points, `[boxes, points, 2] -> [boxes, 4]`."""
    return jnp.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def outside_label(name: str, void: int, dtype: Any) -> np.ndarray:
    """The label of pixels that come from outside the picture, in the type of a label map.

    Args:
        name: of the transform.
        void: the label. -1 stands for the largest value of an unsigned type, 255 in uint8.
        dtype: the label map's.

    Raises:
        ValueError: if the type cannot hold it.
    """
    limits = np.iinfo(dtype)
    if not isinstance(void, int) or (void != -1 and not limits.min <= void <= limits.max):
        raise ValueError(
            f"{name}: void={void!r} is no label of a {np.dtype(dtype)} label map, which holds "
            f"{limits.min} to {limits.max}"
        )
    return np.asarray(void).astype(dtype)
