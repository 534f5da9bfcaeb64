"""Pictures of the examples that an evaluation speaks of: saved beside it, and read for the page.

A task names an example by the key `example` of a row of its tables, its number in the split. Its
picture is WORKDIR/gallery/SPLIT/NUMBER.png, the split written as in an address.
"""

import io
import pathlib
import struct
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rcnn_jax.output.files import write_atomically

if TYPE_CHECKING:  # reading the pictures of a page needs no data set
    from rcnn_jax.data.sources import Source

MOST = 64
"""Pictures of a split."""

_AREA = 256 * 256  # pixels of a picture
_LONGEST = 1024  # a line of text is much wider than high, and must stay legible
_FAINT = 32  # bytes that are all darker are counts, as the digits' 0 to 16, and no shades
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def folder(workdir: pathlib.Path, split: str) -> pathlib.Path:
    """Where the pictures of a split are."""
    return workdir / "gallery" / urllib.parse.quote(split, safe="")


def example_of(row: Any) -> int | None:
    """The number of the example that a row of a table is about; None where it is about none."""
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
    """Saves the pictures of the examples that tables name, in place of those of earlier tables.

    A picture is what an example holds in `feature`, as the data set stores it: uint8, or floats in
    0 to 1 (others are spread from their least to their greatest value), of one channel or three. It
    is scaled down to 65,536 pixels, and 1,024 of its longer side, where it is larger.

    Args:
        workdir: The folder of the run.
        split: Of the examples.
        details: Tables by name.
        source: Opens the split; only called where a picture is wanted.
        feature: Name of the feature that holds the picture.

    Returns:
        How many there are.

    Raises:
        ImportError: Pillow is not installed; nothing has changed.
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
    """The files by number; examples without a picture are left out."""
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
    """An image as uint8; `top` is the brightest byte."""
    if image.dtype == np.uint8:
        return image if top == 255 else np.rint(image * (255.0 / top)).astype(np.uint8)
    # A value that is no number is dark.
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
    """A saved picture.

    Args:
        workdir: The folder of the run.
        split: Of the example.
        number: Of the example.

    Returns:
        The PNG file, its width and its height; None where there is none.
    """
    try:
        content = (folder(workdir, split) / f"{number}.png").read_bytes()
    except (OSError, ValueError):  # a split whose name is no text has none
        return None
    if not content.startswith(_SIGNATURE) or len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return (content, width, height) if width and height else None


def cards(details: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The tables whose rows are each about an example, by name."""
    for name, rows in details.items():
        if isinstance(rows, list) and rows and all(example_of(row) is not None for row in rows):
            yield name, rows
