"""Pictures of text lines as arrays: bright ink on a dark background, of any width.

Zeros are background, so that a line padded with zeros shows the same text on a longer strip.
"""

import functools
from pathlib import Path

import numpy as np

from rcnn_jax.data.files.images import opened, plain

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm",
)  # fmt: skip
"""Ends of the names of files that count as pictures."""


def read_picture(path: Path, data: bytes | None = None) -> np.ndarray:
    """Reads a picture of one line.

    Transparent parts are white, a camera's note on how it was held is followed, and 16 bits become
    the upper 8. A picture that is mostly bright is taken for dark ink on paper and inverted.

    Args:
        path: of the file; names it in errors.
        data: its content; None: it is read.

    Returns:
        Grey values, uint8 `[height, width, 1]`, bright where there is ink.

    Raises:
        OSError, ValueError: see `rcnn_jax.data.files.images.opened`.
    """
    grey = opened(path, lambda picture: np.asarray(plain(picture).convert("L")), data)
    return (255 - grey if grey.mean() > 127.5 else grey)[..., None]


def width_at(shape: tuple[int, ...], height: int, *, scale: bool) -> int:
    """How wide a picture becomes at a height, see `to_height`."""
    if shape[0] == height or (shape[0] < height and not scale):
        return shape[1]
    return max(1, round(shape[1] * height / shape[0]))


def to_height(image: np.ndarray, height: int, *, scale: bool = True) -> np.ndarray:
    """A picture at a given height.

    Args:
        image: uint8 `[its height, its width, 1]`.
        height: of the result.
        scale: scale it and keep its proportions. Without it a lower picture keeps its size and
            stands in the middle of a dark strip; a higher one is scaled all the same.

    Returns:
        uint8 `[height, width, 1]`.
    """
    if image.shape[0] == height:
        return image
    if image.shape[0] < height and not scale:
        above = (height - image.shape[0]) // 2
        return np.pad(image, ((above, height - image.shape[0] - above), (0, 0), (0, 0)))
    return bilinear(image, height, width_at(image.shape, height, scale=scale))


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes by triangular filters, which widen when a picture shrinks, so that no line is lost.

    Args:
        image: uint8 `[its height, its width, 1]`.
        height: of the result.
        width: of the result.

    Returns:
        uint8 `[height, width, 1]`.
    """
    grey = image[..., 0].astype(np.float32)
    for axis, size in ((0, height), (1, width)):
        taps, weights = _filters(grey.shape[axis], size)
        moved = np.moveaxis(grey, axis, -1)
        grey = np.moveaxis(np.einsum("...ot,ot->...o", moved[..., taps], weights), -1, axis)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None]


@functools.lru_cache(maxsize=512)
def _filters(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Which old pixels each new one is a mean of, int `[new, taps]`, and weights that sum to 1."""
    step = old / new
    reach = max(step, 1.0)
    centers = (np.arange(new) + 0.5) * step
    first = np.floor(centers - reach).astype(np.int64)
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    weights = np.maximum(0, 1 - np.abs(taps + 0.5 - centers[:, None]) / reach)
    # The filter is cut at the border, and what is left of it sums to 1 again.
    weights[(taps < 0) | (taps >= old)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(taps, 0, old - 1), weights.astype(np.float32)
