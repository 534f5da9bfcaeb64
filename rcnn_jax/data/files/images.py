"""Pictures read from files, and brought to the one size in which a data set stores its images."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rcnn_jax.data.spec import Feature

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".pbm", ".ppm",
)  # fmt: skip
"""Suffixes of the files that are read as pictures."""

T = TypeVar("T")

_MODES = {1: "L", 3: "RGB"}


def opened(path: Path, take: Callable[[Any], T], data: bytes | None = None) -> T:
    """Opens a picture with its EXIF orientation applied.

    Args:
        path: Path of the file; messages name it.
        take: Returns the wanted value, given the opened `PIL.Image`.
        data: Content of the file; None to read it from `path`.

    Returns:
        The result of `take`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture or damaged, or Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ValueError(f"reading {path} needs Pillow ({error}): pip install pillow") from error
    data = path.read_bytes() if data is None else data
    if not data:
        raise ValueError(f"{path} is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return take(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} cannot be read as a picture: its format is unknown") from error
    except Exception as error:  # Decoders raise errors of many kinds.
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def plain(picture: Any) -> Any:
    """Returns a picture with 8 bits per channel and without transparency.

    16-bit grey values are divided by 257 and rounded; transparent parts become white.

    Args:
        picture: A `PIL.Image`.

    Returns:
        A `PIL.Image`.

    Raises:
        ValueError: If it has no pixels, or grey values outside `[0, 65535]`.
    """
    from PIL import Image

    if min(picture.size) < 1:
        raise ValueError(f"it has {picture.size[0]}x{picture.size[1]} pixels")
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture).astype(np.float64)
        # Written so that NaN is rejected, too.
        if not (values.min() >= 0 and values.max() <= 65535):
            raise ValueError(f"its grey values go from {values.min():g} to {values.max():g}")
        picture = Image.fromarray((values / 257).round().astype(np.uint8))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return picture


def is_picture(feature: Feature) -> bool:
    """Returns whether a feature is an image of one size, `uint8[height, width, 1 or 3]`.

    Args:
        feature: Feature of a data set.
    """
    shape = feature.shape
    return (
        len(shape) == 3
        and None not in shape
        and shape[-1] in _MODES
        and np.dtype(feature.dtype) == np.uint8
    )


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a picture and resizes it bilinearly to a given size; its proportions may change.

    Args:
        path: Path of the file.
        shape: Shape of the result, `(height, width, channels)`, with 1 channel for grey values or 3
            for colours.

    Returns:
        Pixels `uint8[height, width, channels]`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture or damaged, or Pillow is not installed.
    """
    height, width, channels = shape

    def of_shape(picture: Any) -> np.ndarray:
        from PIL import Image

        picture = plain(picture).convert(_MODES[channels])
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(shape)

    return opened(path, of_shape)
