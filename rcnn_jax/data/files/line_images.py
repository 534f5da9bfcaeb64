"""Pictures of text lines as arrays: bright ink on a dark background, of any width.

Zeros are background, so that a line padded with zeros shows the same text on a longer strip.
"""

import functools
from pathlib import Path

import numpy as np

from rcnn_jax.data.files.images import opened, plain


def read_picture(path: Path, data: bytes | None = None) -> np.ndarray:
    """Reads a picture of one line.

    Transparent parts become white, the EXIF orientation is applied, and 16-bit values are reduced
    to 8 bits. A picture that is mostly bright is taken for dark ink on paper and inverted.

    Args:
        path: Path of the file; messages name it.
        data: Content of the file; None to read it from `path`.

    Returns:
        Grey values `uint8[height, width, 1]`, bright where there is ink.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture or damaged, or Pillow is not installed.
    """
    grey = opened(path, lambda picture: np.asarray(plain(picture).convert("L")), data)
    return (255 - grey if grey.mean() > 127.5 else grey)[..., None]


def width_at(shape: tuple[int, ...], height: int, *, scale: bool) -> int:
    """Returns the width that `to_height` gives to a picture.

    Args:
        shape: Shape of the picture, `(height, width, ...)`.
        height: Height of the result in pixels.
        scale: Whether a lower picture is scaled up; see `to_height`.

    Example:
        >>> from rcnn_jax.data.files.line_images import width_at
        >>> width_at((16, 40, 1), 32, scale=True), width_at((16, 40, 1), 32, scale=False)
        (80, 40)
    """
    if shape[0] == height or (shape[0] < height and not scale):
        return shape[1]
    return max(1, round(shape[1] * height / shape[0]))


def to_height(image: np.ndarray, height: int, *, scale: bool = True) -> np.ndarray:
    """Returns a picture at a given height.

    Args:
        image: Picture `uint8[old height, old width, 1]`.
        height: Height of the result in pixels.
        scale: Whether a lower picture is scaled up with its proportions kept. If false, it keeps
            its size and is centred vertically on a dark strip. A higher picture is scaled down in
            either case.

    Returns:
        Picture `uint8[height, width, 1]`.
    """
    if image.shape[0] == height:
        return image
    if image.shape[0] < height and not scale:
        above = (height - image.shape[0]) // 2
        return np.pad(image, ((above, height - image.shape[0] - above), (0, 0), (0, 0)))
    return bilinear(image, height, width_at(image.shape, height, scale=scale))


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a picture by triangular filters.

    The filters widen when a picture shrinks, so that no thin line is lost.

    Args:
        image: Picture `uint8[old height, old width, 1]`.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        Picture `uint8[height, width, 1]`.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.files.line_images import bilinear
        >>> bilinear(np.full((4, 6, 1), 200, np.uint8), 2, 3)[..., 0].tolist()
        [[200, 200, 200], [200, 200, 200]]
    """
    grey = image[..., 0].astype(np.float32)
    for axis, size in ((0, height), (1, width)):
        taps, weights = _filters(grey.shape[axis], size)
        moved = np.moveaxis(grey, axis, -1)
        grey = np.moveaxis(np.einsum("...ot,ot->...o", moved[..., taps], weights), -1, axis)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None]


@functools.lru_cache(maxsize=512)
def _filters(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the filters that resize an axis.

    Args:
        old: Old size of the axis.
        new: New size of the axis.

    Returns:
        Indices of the old pixels that each new pixel averages, `int64[new, taps]`, and their
        weights, `float32[new, taps]`, which sum to 1.
    """
    step = old / new
    reach = max(step, 1.0)
    centers = (np.arange(new) + 0.5) * step
    first = np.floor(centers - reach).astype(np.int64)
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    weights = np.maximum(0, 1 - np.abs(taps + 0.5 - centers[:, None]) / reach)
    # The filter is truncated at the border and normalized to sum to 1 again.
    weights[(taps < 0) | (taps >= old)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(taps, 0, old - 1), weights.astype(np.float32)
