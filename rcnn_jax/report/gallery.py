"""Pictures of the examples that an evaluation names: saved beside it, and read for the page.

A task names an example by the key `example` of a row of its tables, the number of the example in
the split. Its picture is WORKDIR/gallery/SPLIT/NUMBER.png, with the split's name percent-encoded as
in a URL.
"""

import io
import pathlib
import struct
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rcnn_jax.output.files import write_atomically

if TYPE_CHECKING:  # a page that only reads pictures needs no data set
    from rcnn_jax.data.sources import Source

MOST = 64
"""Largest number of pictures of a split."""

_AREA = 256 * 256  # largest number of pixels of a picture
_LONGEST = 1024  # longer side: a line of text is much wider than high and must stay legible
_FAINT = 32  # uint8 images below this are counts, such as the digits' 0 to 16, and not shades
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def folder(workdir: pathlib.Path, split: str) -> pathlib.Path:
    """Returns the folder of the pictures of a split.

    Args:
        workdir: Workdir of the run.
        split: Name of the split.
    """
    return workdir / "gallery" / urllib.parse.quote(split, safe="")


def example_of(row: Any) -> int | None:
    """Returns the number of the example that a row of a table is about.

    Args:
        row: Row of a table; anything but a mapping has no example.

    Returns:
        The number from 0 on; None if the row names no example.
    """
    number = row.get("example") if isinstance(row, Mapping) else None
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if number >= 0 else None


def save(
    workdir: pathlib.Path,
    split: str,
    details: Mapping[str, Any],
    source: "Callable[[], Source]",
    feature: str = "image",
) -> int:
    """Saves the pictures of the examples that tables name, and removes those of earlier tables.

    A picture is an example's `feature` as the data set stores it, with one channel or three: uint8,
    or floats in [0, 1] (other floats are scaled from their range to [0, 1]). Larger pictures are
    scaled down to 65,536 pixels and to 1,024 pixels along the longer side.

    Args:
        workdir: Workdir of the run.
        split: Split to which the examples belong.
        details: Tables of the evaluation by name.
        source: Function that opens the split; it is only called if a picture is needed.
        feature: Name of the feature that holds the picture.

    Returns:
        The number of saved pictures.

    Raises:
        ImportError: Pillow is not installed; nothing has been changed.
        OSError: The folder cannot be written.
    """
    place, pictures = folder(workdir, split), {}
    if numbers := _numbers(details):
        from PIL import Image  # noqa: F401 - before data are read

        pictures = _encoded(source(), numbers, feature)
    if pictures:
        place.mkdir(parents=True, exist_ok=True)
    for number, content in pictures.items():
        write_atomically(place / f"{number}.png", content)
    for file in place.glob("*.png"):
        if file.stem.isdecimal() and int(file.stem) not in pictures:
            file.unlink(missing_ok=True)
    return len(pictures)


def _numbers(details: Mapping[str, Any]) -> list[int]:
    named = (example_of(row) for rows in details.values() if isinstance(rows, list) for row in rows)
    return list(dict.fromkeys(number for number in named if number is not None))[:MOST]


def _encoded(source: "Source", numbers: list[int], feature: str) -> dict[int, bytes]:
    """Returns PNG files by the number of the example; examples without a picture are left out."""
    if feature not in source.features:
        return {}
    images = {}
    for number in numbers:
        example = source[number] if number < len(source) else {"mask": 0}
        if example.get("mask", 1) and _is_picture(image := np.asarray(example[feature])):
            images[number] = image
    greatest = max((int(i.max()) for i in images.values() if i.dtype == np.uint8), default=255)
    top = greatest if 0 < greatest < _FAINT else 255
    return {number: _file(_shades(image, top)) for number, image in images.items()}


def _is_picture(image: np.ndarray) -> bool:
    kind = image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating)
    return bool(kind and image.ndim == 3 and image.shape[-1] in (1, 3) and image.size)


def _shades(image: np.ndarray, top: int) -> np.ndarray:
    """Converts an image to uint8; `top` is the byte value that becomes white."""
    if image.dtype == np.uint8:
        return image if top == 255 else np.rint(image * (255.0 / top)).astype(np.uint8)
    # NaN becomes black.
    image = np.nan_to_num(image.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    low, high = image.min(), image.max()
    if low < 0 or high > 1:
        image = (image - low) / (high - low or 1.0)
    return np.rint(image * 255).astype(np.uint8)


def _file(image: np.ndarray) -> bytes:
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    height, width = image.shape[:2]
    scale = min(1.0, (_AREA / (height * width)) ** 0.5, _LONGEST / max(height, width))
    if scale < 1:
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        picture = picture.resize(size, Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, format="png", optimize=True)
    return content.getvalue()


def read(workdir: pathlib.Path, split: str, number: int) -> tuple[bytes, int, int] | None:
    """Reads a saved picture.

    Args:
        workdir: Workdir of the run.
        split: Split to which the example belongs.
        number: Number of the example in the split.

    Returns:
        The PNG file, its width and its height in pixels; None if there is no such picture.
    """
    try:
        content = (folder(workdir, split) / f"{number}.png").read_bytes()
    except (OSError, ValueError):  # there is no file, or its name cannot be a path
        return None
    if not content.startswith(_SIGNATURE) or len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return (content, width, height) if width and height else None


def cards(details: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yields the tables in which each row is about an example.

    Args:
        details: Tables of the evaluation by name.

    Yields:
        Pairs of a table's name and its rows.
    """
    for name, rows in details.items():
        if isinstance(rows, list) and rows and all(example_of(row) is not None for row in rows):
            yield name, rows
