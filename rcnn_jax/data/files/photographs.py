"""Photographs of any size and kind as colours of one size."""

import concurrent.futures
import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.files.images import opened, plain

FILTERS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture of any size becomes a square.

    Attributes:
        size: side of the square in pixels.
        shorter: the shorter side becomes this, proportions are kept, and the square is cut from
            the middle; 0: both sides become `size`.
        filter: `bilinear` or `bicubic`; both widen where a picture shrinks.
    """

    size: int
    shorter: int = 0
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise ValueError(f"pictures are resized by {' or '.join(FILTERS)}, got {self.filter!r}")
        if self.size < 1 or (self.shorter and self.shorter < self.size):
            raise ValueError(
                f"a square of {self.size} pixels cannot be cut where the shorter side is "
                f"{self.shorter}: sizes are at least 1, and the shorter side at least the square's"
            )

    def apply(self, picture: Any) -> Any:
        """Resizes and cuts a `PIL.Image`."""
        from PIL import Image

        resample = Image.Resampling[self.filter.upper()]
        square = (self.size, self.size)
        if not self.shorter:
            return picture if picture.size == square else picture.resize(square, resample)
        least = min(picture.size)
        sides = tuple(
            max(self.shorter, round(side * self.shorter / least)) for side in picture.size
        )
        if picture.size != sides:
            picture = picture.resize(sides, resample)
        left, top = ((side - self.size) // 2 for side in sides)
        return picture.crop((left, top, left + self.size, top + self.size))


def read_photograph(path: Path, fit: Fit, data: bytes | None = None) -> np.ndarray:
    """Reads a picture.

    A camera's note on how it was held is followed; grey values become colours, of 16 bits the upper
    8; CMYK becomes RGB; transparent parts are white.

    Args:
        path: of the file; names it in errors.
        fit: what it becomes.
        data: the file's content; None: it is read.

    Returns:
        uint8 `[size, size, 3]`, red first, 0 to 255.

    Raises:
        OSError, ValueError: see `rcnn_jax.data.files.images.opened`; also if it has no pixels.
    """
    return opened(path, lambda picture: np.asarray(fit.apply(plain(picture).convert("RGB"))), data)


def batches(
    pool: concurrent.futures.Executor, paths: Sequence[Path], fit: Fit, size: int, ahead: int = 3
) -> Iterator[tuple[np.ndarray, list[Exception | None]]]:
    """Reads pictures in batches, some of them ahead of time.

    Args:
        pool: reads.
        paths: of the files.
        fit: what they become.
        size: pictures of a batch.
        ahead: how many batches are being read at a time.

    Yields:
        Pixels uint8 `[size, side, side, 3]`, and for each picture of the batch what was wrong with
        it, or None. Rows without a picture that could be read are zeros.
    """

    def read(path: Path) -> np.ndarray | Exception:
        try:
            return read_photograph(path, fit)
        except (OSError, ValueError) as error:
            return error

    starts = iter(range(0, len(paths), size))
    waiting: deque[list[concurrent.futures.Future[np.ndarray | Exception]]] = deque()
    while True:
        while len(waiting) < ahead and (start := next(starts, None)) is not None:
            waiting.append([pool.submit(read, path) for path in paths[start : start + size]])
        if not waiting:
            return
        found = [future.result() for future in waiting.popleft()]
        pixels = np.zeros((size, fit.size, fit.size, 3), np.uint8)
        problems: list[Exception | None] = []
        for row, picture in enumerate(found):
            if isinstance(picture, Exception):
                problems.append(picture)
            else:
                problems.append(None)
                pixels[row] = picture
        yield pixels, problems
