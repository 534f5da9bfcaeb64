"""Pictures from files, and as a data set of images of one size stores its examples."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rcnn_jax.data.spec import Feature

T = TypeVar("T")

_MODES = {1: "L", 3: "RGB"}


def opened(path: Path, take: Callable[[Any], T], data: bytes | None = None) -> T:
    """Opens a picture, the way up that a camera's note on how it was held says.

    Args:
        path: of the file; names it in errors.
        take: takes what is wanted of the opened `PIL.Image`.
        data: the file's content; None: it is read.

    Returns:
        What `take` gives.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no picture or damaged, or Pillow is not installed.
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
    except Exception as error:  # decoders raise whatever they like
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def plain(picture: Any) -> Any:
    """A `PIL.Image` with 8 bits a channel and without transparency.

    Of grey values of 16 bits the upper 8 are taken; transparent parts become white.

    Raises:
        ValueError: it has no pixels, or grey values beyond 0 to 65535.
    """
    from PIL import Image

    if min(picture.size) < 1:
        raise ValueError(f"it has {picture.size[0]}x{picture.size[1]} pixels")
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture).astype(np.float64)
        # Written so that a NaN is refused, too.
        if not (values.min() >= 0 and values.max() <= 65535):
            raise ValueError(f"its grey values go from {values.min():g} to {values.max():g}")
        picture = Image.fromarray((values / 257).round().astype(np.uint8))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return picture


def is_picture(feature: Feature) -> bool:
    """Whether a feature is an image of one size, uint8 `[height, width, 1 or 3]`."""
    shape = feature.shape
    return (
        len(shape) == 3
        and None not in shape
        and shape[-1] in _MODES
        and np.dtype(feature.dtype) == np.uint8
    )


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a picture and brings it to a size, bilinearly; its proportions may change.

    Args:
        path: of the file.
        shape: `[height, width, channels]`, 1 channel for grey values or 3 for colours.

    Returns:
        uint8 of that shape, 0 to 255.

    Raises:
        OSError, ValueError: see `opened`.
    """
    height, width, channels = shape

    def of_shape(picture: Any) -> np.ndarray:
        from PIL import Image

        picture = plain(picture).convert(_MODES[channels])
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(shape)

    return opened(path, of_shape)
