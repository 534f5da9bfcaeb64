"""The tags of TIFF files: of pages that Pillow reads, and of those that it does not."""

import io
from typing import Any

NEW_SUBFILE, SUBFILE, BITS, COMPRESSION, COLOURS, DESCRIPTION = 254, 255, 258, 259, 262, 270
SAMPLES, MAXIMUM, SUBFILES, KIND = 277, 281, 330, 339
_KINDS = {2: "signed whole", 3: "floating-point", 5: "complex", 6: "complex"}
_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 50001: "WebP", 50002: "JPEG XL"}
_COLOURS = {6: "YCbCr", 8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32803: "camera raw"}


def numbers(tags: Any, code: int) -> tuple[int, ...]:
    """Returns the whole numbers of a tag; `()` if it is missing or holds something else.

    Args:
        tags: Directory of a page, as Pillow reads it.
        code: Number of the tag.
    """
    value = tags.get(code)
    values = value if isinstance(value, tuple) else (value,)
    return tuple(values) if all(isinstance(each, int) for each in values) else ()


def number(tags: Any, code: int, otherwise: int) -> int:
    """Returns the first whole number of a tag.

    Args:
        tags: Directory of a page, as Pillow reads it.
        code: Number of the tag.
        otherwise: Result if the tag is missing or holds something else.
    """
    return (numbers(tags, code) or (otherwise,))[0]


def directories(data: bytes) -> list[Any]:
    """Returns the tags of each page, also of pages that Pillow cannot decode.

    Args:
        data: Content of a TIFF or BigTIFF file.
    """
    from PIL import TiffImagePlugin

    header = data[:16] if b"+" in data[2:4] else data[:8]
    found, seen = [], set()
    place = TiffImagePlugin.ImageFileDirectory_v2(header).next
    # The last page is followed by 0; a damaged file may lead anywhere.
    while 0 < place < len(data) and place not in seen:
        seen.add(place)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream = io.BytesIO(data)
        stream.seek(place)
        tags.load(stream)
        found.append(tags)
        place = tags.next
    return found


def is_copy(tags: Any) -> bool:
    """Returns whether a page is a reduced copy of another one, or the mask of one.

    Args:
        tags: Directory of the page, as Pillow reads it.
    """
    # Bits 0 and 2 of NewSubfileType; in the older tag, 2 is a reduced copy.
    return bool(number(tags, NEW_SUBFILE, 0) & 0b101) or number(tags, SUBFILE, 0) == 2


def described(data: bytes) -> str:
    """Returns what a TIFF file is that Pillow does not read.

    Args:
        data: Content of the file.

    Returns:
        The end of a sentence that begins with "it is".
    """
    try:
        tags = directories(data)[0]
        bits = number(tags, BITS, 0)
    except Exception:  # noqa: BLE001 - the directory of a damaged file may hold anything
        bits, tags = 0, {}
    if not bits:
        return "a TIFF file that is damaged or cut off"
    count = number(tags, SAMPLES, 1)
    what = f"{count} {_KINDS.get(number(tags, KIND, 1), 'whole')} number{'s' * (count != 1)}"
    what += f" of {bits} bits"
    if (code := number(tags, COMPRESSION, 1)) in _COMPRESSIONS:
        what += f" compressed by {_COMPRESSIONS[code]}"
    if (code := number(tags, COLOURS, 1)) in _COLOURS:
        what += f" in {_COLOURS[code]} colours"
    return (
        f"a TIFF file with {what} for each pixel, which Pillow cannot read or which is damaged; "
        "`convert FILE -depth 16 FILE.png` rewrites it"
    )
