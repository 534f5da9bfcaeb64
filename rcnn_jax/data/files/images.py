"""Pictures read from files, and brought to the one size in which a data set stores its images."""

import functools
import importlib
import importlib.util
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rcnn_jax.data.files import grey_ranges, libtiff_errors, signatures, tiff_tags
from rcnn_jax.data.spec import Feature

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".bmp", ".dib",
    ".gif", ".webp", ".avif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pgm", ".pbm",
    ".ppm", ".pnm", ".tga", ".pcx", ".heic", ".heif", ".hif", ".jxl",
)  # fmt: skip
"""Suffixes of the files that are read as pictures, in lower case; see also `why_not_read`."""

RELEASE_NOTE = (
    "pictures of floating-point numbers, of 32 bits or of 12 bits in 16, and white ink on "
    "transparency are read by their range; they were all but blank"
)
"""What data sets of pictures say of their version 1.1.0, see `DatasetSpec.release_notes`."""

# What Pillow may have been built without, and packages that teach it a format. Of the latter:
# name of the module, and name by which pip installs it.
_BUILT_IN = {".avif": "avif", ".webp": "webp"} | dict.fromkeys(
    (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "jpg_2000"
)
_PLUGINS = dict.fromkeys((".heic", ".heif", ".hif"), ("pillow_heif", "pillow-heif")) | {
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin")
}

T = TypeVar("T")

_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_OTHER_COLOURS = ("LAB",)

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
    """Opens a picture upright, with 8 bits per channel and without transparency.

    The EXIF orientation is applied, other ranges of values are brought to 8 bits as
    `rcnn_jax.data.files.grey_ranges` says, and transparent parts are filled by `on_paper`. Of a
    TIFF file with reduced copies or masks of its picture the picture is taken, of an animation the
    first frame, and of a file of several views, such as a telephone's MPO or HEIC, the main one. A
    TIFF file of several pages is refused.

    Args:
        path: Path of the file; messages name it.
        take: Returns the wanted value, given the `PIL.Image`.
        data: Content of the file; None to read it from `path`.

    Returns:
        The result of `take`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture, damaged, without pixels or of several pages, if it
            cannot be told which of its values is white, or if Pillow or a package that reads its
            format is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ValueError(f"reading {path} needs Pillow ({error}): pip install pillow") from error
    data = path.read_bytes() if data is None else data
    if not data:
        raise ValueError(f"{path} is empty")
    try:
        _load_plugin(data)
        _ignore_warnings_of_tags()
        try:
            image = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            raise
        except Exception as error:
            said = "" if isinstance(error, UnidentifiedImageError) else f": {_text(error)}"
            raise ValueError(f"it is {signatures.meaning(data)}{said}") from error
        with image:
            _load(image, data)
            known = grey_ranges.stated(path, image, data)
            picture = ImageOps.exif_transpose(image)
        return take(on_paper(grey_ranges.to_8_bits(picture, known)))
    except Exception as error:  # Decoders raise errors of many kinds.
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


@functools.cache
def _ignore_warnings_of_tags() -> None:
    # Two lines on stderr for each file, of tags that do not concern the pixels.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


def _load_plugin(data: bytes) -> None:
    """Imports the package that teaches Pillow the format of a file, if it needs one."""
    suffix = signatures.plugin_suffix(data)
    if suffix is None:
        return
    why = why_not_read(Path(f"a{suffix}"))
    if why is not None:
        raise ValueError(why)
    if suffix in _PLUGINS:
        module = importlib.import_module(_PLUGINS[suffix][0])
        if suffix == ".heic":
            module.register_heif_opener()


def _load(image: Any, data: bytes) -> None:
    """Decodes the only page of an opened picture."""
    page = _page(image, data)
    with libtiff_errors.collected() as met:
        try:
            if page:
                image.seek(page)
            image.load()
        except Exception as error:
            if image.format == "TIFF":
                said = f" ({met[0]})" if met else ""
                raise ValueError(f"it is {tiff_tags.described(data)}{said}") from error
            raise ValueError(
                f"it is a {image.format} picture that is damaged or cut off: {_text(error)}"
            ) from error
    if met:
        raise ValueError(f"it is a TIFF file that is damaged: {met[0]}")
    if min(image.size) < 1:
        raise ValueError(f"it has {image.size[0]}x{image.size[1]} pixels")


def _text(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _page(image: Any, data: bytes) -> int:
    """Returns the number of the page that is neither a reduced copy nor a mask."""
    if image.format == "DCX":
        pages = range(image.n_frames)
    elif image.format == "TIFF":
        # Most files hold one page, whose tags Pillow has read.
        directories = tiff_tags.directories(data) if image.tag_v2.next else [image.tag_v2]
        pages = [n for n, tags in enumerate(directories) if not tiff_tags.is_copy(tags)]
        if not pages and (len(directories) > 1 or tiff_tags.SUBFILES in directories[0]):
            raise ValueError(
                "it holds reduced copies of a picture alone, as camera raw files do; convert it"
            )
        # ImageJ writes all of a large stack behind the first page.
        text = str(image.tag_v2.get(tiff_tags.DESCRIPTION, ""))
        if len(pages) == 1 and (stack := re.match(r"ImageJ=[^\n]*\nimages=(\d+)", text)):
            pages = range(int(stack[1]))
    else:
        return 0
    if len(pages) > 1:
        raise ValueError(
            f"it holds {len(pages):,} pages, and a file is read as one picture; "
            "`convert FILE page_%d.png` splits it"
        )
    return pages[0] if pages else 0


def on_paper(picture: Any) -> Any:
    """Returns a picture whose transparent parts are filled with white, or with black.

    They become black where all that can be seen is brighter than mid-grey, which would vanish on
    white: white letters that are to be laid over another picture. Of what can be seen, weighted by
    its opacity, 5 % may be darker, or 0.5 % if it covers more than half of the picture. A picture
    that is transparent everywhere is white.

    Args:
        picture: A `PIL.Image` with 8 bits per channel.

    Returns:
        A `PIL.Image`; `picture` itself if it has no transparency.

    Raises:
        ValueError: If its colours cannot be converted.
    """
    from PIL import Image

    if picture.mode in _OTHER_COLOURS:
        raise ValueError(
            f"its colours are {picture.mode}, `convert FILE -colorspace sRGB FILE.png`"
        )
    if picture.mode not in _WITH_ALPHA and "transparency" not in picture.info:
        return picture
    if picture.mode == "La":
        picture = picture.convert("LA")
    picture = picture.convert("RGBA")
    opacity = np.asarray(picture.getchannel("A"))
    if opacity.min() == 255:
        return picture.convert("RGB")
    dark = opacity[np.asarray(picture.convert("L")) < 128].sum(dtype=np.int64)
    limit = 0.05 if opacity.mean() < 127.5 else 0.005
    bright = opacity.any() and dark <= limit * opacity.sum(dtype=np.int64)
    paper = Image.new("RGBA", picture.size, "black" if bright else "white")
    return Image.alpha_composite(paper, picture)


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
        ValueError: If it is not a picture, see `opened`.
    """
    height, width, channels = shape

    def of_shape(picture: Any) -> np.ndarray:
        from PIL import Image

        picture = picture.convert(_MODES[channels])
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(shape)

    return opened(path, of_shape)
