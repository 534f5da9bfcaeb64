"""Pictures of text lines as arrays: bright ink on a dark background, of any width.

Zeros are background, so that a line padded with zeros shows the same text on a longer strip.
"""

import functools
from pathlib import Path

import numpy as np

from rcnn_jax.data.files.images import opened


def read_grey(path: Path, data: bytes | None = None) -> np.ndarray:
    """Reads the grey values of a picture of one line, whatever is ink in it.

    See `rcnn_jax.data.files.images.opened` for orientation, transparency and values of other
    ranges. Whole numbers that are 0 and 1 alone are black and white.

    Args:
        path: Path of the file; messages name it.
        data: Content of the file; None to read it from `path`.

    Returns:
        Grey values `uint8[height, width, 1]`, 0 for black.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture, see `rcnn_jax.data.files.images.opened`.
    """
    grey = opened(path, lambda picture: np.asarray(picture.convert("L")), data)
    return (grey * 255 if grey.max() == 1 else grey)[..., None]


def read_picture(path: Path, data: bytes | None = None) -> np.ndarray:
    """Reads a picture of one line as bright ink on dark, by the evidence of this picture alone.

    Dark ink on bright paper is inverted, see `ink_is_dark`: paper of grey value g becomes 255 - g.
    Contrast is not changed, so dim paper remains brighter than the zeros that lines are padded
    with.

    Args:
        path: Path of the file; messages name it.
        data: Content of the file; None to read it from `path`.

    Returns:
        Grey values `uint8[height, width, 1]`, bright where there is ink.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture, see `rcnn_jax.data.files.images.opened`.
    """
    return with_polarity(read_grey(path, data))[0]


def with_polarity(grey: np.ndarray) -> tuple[np.ndarray, bool]:
    """Returns a picture as bright ink on dark, and whether it was inverted for that.

    Args:
        grey: Picture `uint8[height, width, 1]` as its file has it.
    """
    dark = ink_is_dark(grey)
    return (255 - grey if dark else grey), dark


def ink_is_dark(grey: np.ndarray) -> bool:
    """Returns whether a picture shows dark ink on bright paper.

    Two of three signs decide: most pixels are brighter than Otsu's threshold between ink and paper;
    most pixels of the border are; the mean exceeds mid-grey, 127.5. The first two hold at any
    exposure. The mean alone decides on a picture of one value.

    Args:
        grey: Picture `uint8[height, width, 1]`.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.files.line_images import ink_is_dark
        >>> page = np.full((5, 9, 1), 100, np.uint8)  # darker than mid-grey
        >>> page[2, 2:5] = 30
        >>> ink_is_dark(page), ink_is_dark(255 - page)
        (True, False)
    """
    signs = _signs(grey)
    votes = np.sign(signs).sum()
    return bool(votes > 0 or (votes == 0 and signs[-1] > 0))


def clearly_dark_ink(grey: np.ndarray) -> bool | None:
    """Returns whether a picture shows dark ink on bright paper, if that is beyond doubt.

    Args:
        grey: Picture `uint8[height, width, 1]`.

    Returns:
        None unless three quarters of all pixels, and of those of the border, are on one side of
        Otsu's threshold.
    """
    whole, border, _ = _signs(grey)
    if min(whole, border) >= 0.5:
        return True
    return False if max(whole, border) <= -0.5 else None


def _signs(grey: np.ndarray) -> tuple[float, float, float]:
    """Returns three signs of dark ink on bright paper, each in `[-1, 1]` and positive for it."""
    counts = np.bincount(grey.ravel(), minlength=256)
    mean = float(counts @ np.arange(256)) / grey.size / 127.5 - 1
    if np.count_nonzero(counts) < 2:
        return 0.0, 0.0, mean
    threshold = _otsu(counts)
    edge = grey[..., 0]
    edge = np.concatenate([edge[0], edge[-1], edge[1:-1, 0], edge[1:-1, -1]])
    bright = (
        counts[threshold + 1 :].sum() / grey.size,
        np.count_nonzero(edge > threshold) / edge.size,
    )
    return 2 * float(bright[0]) - 1, 2 * bright[1] - 1, mean


def _otsu(counts: np.ndarray) -> int:
    """Returns the grey value up to which pixels are dark, by the greatest variance between both.

    Args:
        counts: Number of pixels of each value, `[256]`, of which at least two occur.

    References:
        N. Otsu. A threshold selection method from gray-level histograms. IEEE Transactions on
        Systems, Man, and Cybernetics 9(1), 1979.
    """
    below = counts.cumsum().astype(np.float64)
    sums = (counts * np.arange(256)).cumsum().astype(np.float64)
    split = (below > 0) & (below < below[-1])
    n, s = below[split], sums[split]
    between = (sums[-1] * n / below[-1] - s) ** 2 / (n * (below[-1] - n))
    return int(np.flatnonzero(split)[between.argmax()])


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
