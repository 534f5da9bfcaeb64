"""Pictures read from files, and brought to the one size in which a data set stores its images."""

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rcnn_jax.data.spec import Feature

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".bmp", ".dib",
    ".gif", ".webp", ".avif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pgm", ".pbm",
    ".ppm", ".pnm", ".tga", ".pcx", ".heic", ".heif", ".hif", ".jxl",
)  # fmt: skip
"""Suffixes of the files that are read as pictures, in lower case; see also `why_not_read`."""

# What Pillow may have been built without, and packages that teach it a format. Of the latter:
# name of the module, and name by which pip installs it.
_BUILT_IN = {".avif": "avif", ".webp": "webp"} | dict.fromkeys(
    (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "jpg_2000"
)
_PLUGINS = dict.fromkeys((".heic", ".heif", ".hif"), ("pillow_heif", "pillow-heif")) | {
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin")
}

T = TypeVar("T")

_MODES = {1: "L", 3: "RGB"}


def why_not_read(path: Path) -> str | None:
    """Explains why a file would not be read as a picture, by its name alone.

    Args:
        path: Path of the file, which is not opened.

    Returns:
        None if files with its suffix are read. Otherwise a sentence without a full stop that begins
        with the suffix and names the package that is lacking, or says that it is no suffix of a
        picture.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return f"{suffix or 'a name without suffix'} is none of the suffixes of pictures"
    if suffix in _PLUGINS:
        module, package = _PLUGINS[suffix]
        if importlib.util.find_spec(module) is None:
            return f"{suffix} needs the package {package}: pip install {package}"
    if suffix in _BUILT_IN and importlib.util.find_spec("PIL") is not None:
        from PIL import features

        # A version that knows nothing of a format warns about its name.
        known = {*features.modules, *features.codecs}
        if _BUILT_IN[suffix] not in known or not features.check(_BUILT_IN[suffix]):
            return f"{suffix} needs a newer Pillow: pip install --upgrade pillow"
    return None


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
