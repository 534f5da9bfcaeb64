"""Grey values of any type and range, brought to 8 bits.

A TIFF or PNG file may hold samples of 16 or 32 bits or floating-point numbers, and rarely states
which value is white. What is white is found as follows.

- It is what the file states, where it does: 2^bits - 1 for samples of fewer than 16 bits, the
  maxval of PNM files, and the TIFF tag MaxSampleValue where it is 2^n - 1 below 65535.
- Whole numbers of 16 or 32 bits up to 255 are values of 8 bits, those from 1024 to 4095 values of
  12 bits (scanners, microscopes), and those from 4096 to 65535 values of 16 bits. A picture is thus
  read wrongly only if its brightest pixel has less than a 16th of the brightness of white, where it
  would be all but black. If the brightest is below a quarter of 65535, the file may hold 14 bits,
  which one line on stderr says. A brightest value from 256 to 1023, 10 bits or a dark picture of
  12, is refused.
- Floating-point numbers up to 1 have white at 1, those from 16 to 255 at 255. Larger ones are taken
  for whole numbers, and the range between 1 and 16 is refused.

Colours of 16 bits are read by Pillow as their upper 8 bits, so that those of fewer bits are lost:
if none reaches 4096, the picture is refused. 12 bits that fill the upper bits of 16 are 16 bits.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.files import tiff_tags

# Values that lie outside their range by this share of it are due to rounding, as of a filter.
_SLACK = 1e-3
_warned: set[Path] = set()  # folders
_COLOURS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "RGBa": 3}


@dataclasses.dataclass(frozen=True)
class Stated:
    """What a file states about its samples.

    Attributes:
        path: Path of the file, for messages.
        bits: Bits of a sample as the file stores it; 8 if it is not known.
        white: Value of white; 0 if the file does not state it.
        signed: Whether samples of 8 bits are signed.
        unsigned: Whether samples of 32 bits are unsigned.
        inverted: Whether 0 is white where Pillow does not take notice of it.
    """

    path: Path
    bits: int = 8
    white: int = 0
    signed: bool = False
    unsigned: bool = False
    inverted: bool = False


def stated(path: Path, picture: Any, data: bytes) -> Stated:
    """Returns what a file states about its samples.

    Args:
        path: Path of the file.
        picture: The opened `PIL.Image`.
        data: Content of the file.
    """
    if picture.format == "PNG":
        return Stated(path, bits=data[24])
    if picture.format != "TIFF":
        return Stated(path)
    tags = picture.tag_v2
    bits, kind = (
        tiff_tags.number(tags, tiff_tags.BITS, 1),
        tiff_tags.number(tags, tiff_tags.KIND, 1),
    )
    white = 2**bits - 1 if 8 < bits < 16 else tiff_tags.number(tags, tiff_tags.MAXIMUM, 0)
    if white >= 65535 or white & (white + 1):
        white = 0
    return Stated(
        path,
        bits=bits,
        white=white,
        signed=bits == 8 and kind == 2,
        unsigned=bits == 32 and kind == 1,
        inverted=tiff_tags.number(tags, tiff_tags.COLOURS, 1) == 0 and picture.mode[0] in "IF",
    )


def to_8_bits(picture: Any, known: Stated) -> Any:
    """Returns a picture with 8 bits per channel; see the module docstring for what is white.

    Args:
        picture: A `PIL.Image`.
        known: What its file states.

    Returns:
        A `PIL.Image` of mode `L` where `picture` has one channel of more than 8 bits, otherwise
        `picture`.

    Raises:
        ValueError: If its values lie outside every known range, or it cannot be told which value is
            white.
    """
    from PIL import Image

    if known.signed and picture.mode == "L":
        _refuse_range(*_ends(np.asarray(picture).view(np.int8)), 255)
    if picture.mode[0] not in "IF":
        _check_colours(picture, known)
        return picture
    values = np.asarray(picture)
    if known.unsigned and values.dtype == np.int32:
        values = values.view(np.uint32)
    low, high = _ends(values)
    white = _white(low, high, values.dtype.kind == "f", known)
    grey = np.clip(np.rint(values.astype(np.float64) * (255 / white)), 0, 255).astype(np.uint8)
    made = Image.fromarray(255 - grey if known.inverted else grey)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        # The one value that is transparent is one of 16 bits.
        made.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return made


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _white(low: float, high: float, floating: bool, known: Stated) -> int:
    """Returns the value of white, given the least and the greatest value of a picture."""
    _refuse_range(low, high, 65535)
    if floating and high <= 1 + _SLACK:
        white = 1
    elif floating and high < 16:
        raise ValueError(
            f"its grey values go from {low:g} to {high:g}; floating-point values are read if white "
            "is 1, 255 or 65535, rescale them"
        )
    elif known.white and known.white >= high:
        white = known.white
    elif high <= 255 * (1 + _SLACK):
        white = 255
    elif high < 1024:
        raise ValueError(
            f"its grey values go from {low:g} to {high:g}, either 10 bits in 16 or a dark picture "
            "of 12 bits or more; `convert FILE -level 0,1023 FILE.png` rescales 10 bits, "
            "-level 0,4095 12 bits"
        )
    else:
        white = 4095 if high < 4096 else 65535
        if 4096 <= high < 16384:
            _warn_of_14_bits(known.path, f"{high:,.0f}")
    _refuse_range(low, high, white)
    return white


def _refuse_range(low: float, high: float, white: int) -> None:
    # Written so that NaN is rejected, too.
    if not (low >= -_SLACK * white and high <= (1 + _SLACK) * white):
        raise ValueError(
            f"its grey values go from {low:g} to {high:g}; whole numbers are read from 0 to 65535 "
            "and floating-point ones from 0 to 1, 255 or 65535, rescale them"
        )


def _check_colours(picture: Any, known: Stated) -> None:
    if known.bits != 16 or picture.mode not in _COLOURS:
        return
    ends = picture.getextrema()
    colours = ends[: _COLOURS[picture.mode]] if isinstance(ends[0], tuple) else (ends,)
    high = max(top for _, top in colours)
    if high < 16:
        raise ValueError(
            f"its colours of 16 bits do not reach {(high + 1) * 256:,} of 65,535; it is black or "
            "holds fewer bits, `convert FILE -level 0,4095 FILE.png` rescales 12 bits"
        )
    if high < 64:
        _warn_of_14_bits(known.path, f"{high * 256:,}")


def _warn_of_14_bits(path: Path, high: str) -> None:
    """Says once for each folder that a dark picture may have fewer bits."""
    if path.parent in _warned:
        return
    _warned.add(path.parent)
    print(
        f"warning: {path}: its values reach {high} and are read as 16 bits, of which 65,535 is "
        "white; if such pictures hold 14 bits, `convert FILE -level 0,16383 FILE.png` rescales "
        "them",
        file=sys.stderr,
        flush=True,
    )
