"""Boxes under transforms that move pixels, and the label of pixels from outside the picture."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HeightWidth = tuple[int, int]
# All four coordinates of a box that is no longer in the picture.
ABSENT = -1


def move_boxes(
    boxes: jax.Array,
    move: Callable[[jax.Array], jax.Array],
    before: HeightWidth,
    after: HeightWidth,
    relative: bool = False,
) -> jax.Array:
    """Moves the boxes of one example and clips them to the new picture.

    Args:
        boxes: Floating boxes `[boxes, 4]`, rows `y0, x0, y1, x1`. A box without area is absent.
        move: Maps boxes in pixels of the old picture to boxes in pixels of the new one.
        before: Height and width of the old picture.
        after: Height and width of the new picture.
        relative: Whether boxes are given and returned in fractions of height and width.

    Returns:
        Boxes `[boxes, 4]`. Absent boxes are unchanged, and boxes that lie outside the new picture
        become rows of `ABSENT`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.data.transforms.geometry import move_boxes
        >>> boxes = jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 1.0, 1.0]])
        >>> move_boxes(boxes, lambda box: box - 2, (8, 8), (4, 4)).tolist()
        [[0.0, 0.0, 2.0, 2.0], [-1.0, -1.0, -1.0, -1.0]]
    """
    limit = jnp.array([*after, *after], boxes.dtype)
    scale = jnp.array([*before, *before], boxes.dtype)
    moved = jnp.clip(move(boxes * scale[None] if relative else boxes), 0, limit[None])
    left = jnp.where(_present(moved), moved / limit[None] if relative else moved, ABSENT)
    return jnp.where(_present(boxes), left, boxes)


def _present(boxes: jax.Array) -> jax.Array:
    """Returns whether each box has an area, `bool[boxes, 1]`."""
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=1, keepdims=True)


def corners(boxes: jax.Array) -> jax.Array:
    """Returns the four corners `(y, x)` of each box.

    Args:
        boxes: Boxes `[boxes, 4]`, rows `y0, x0, y1, x1`.

    Returns:
        Corners `[boxes, 4, 2]`.
    """
    return boxes[:, jnp.array([[0, 1], [0, 3], [2, 1], [2, 3]])]


def hull(points: jax.Array) -> jax.Array:
    """Returns the smallest upright box around each row of points.

    Args:
        points: Points `(y, x)` of each box, `[boxes, points, 2]`.

    Returns:
        Boxes `[boxes, 4]`, rows `y0, x0, y1, x1`.
    """
    return jnp.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def outside_label(name: str, void: int, dtype: Any) -> np.ndarray:
    """Returns the label of pixels from outside the picture, in the dtype of a label map.

    Args:
        name: Name of the transform, for messages.
        void: The label; -1 is the largest value of an unsigned dtype, such as 255 for uint8.
        dtype: Dtype of the label map.

    Returns:
        Array `[]` of that dtype.

    Raises:
        ValueError: If the dtype cannot hold the label.

    Example:
        >>> from rcnn_jax.data.transforms.geometry import outside_label
        >>> int(outside_label("pad_crop", -1, "uint8"))
        255
    """
    limits = np.iinfo(dtype)
    if not isinstance(void, int) or (void != -1 and not limits.min <= void <= limits.max):
        raise ValueError(
            f"{name}: void={void!r} is no label of a {np.dtype(dtype)} label map, which holds "
            f"{limits.min} to {limits.max}"
        )
    return np.asarray(void).astype(dtype)
