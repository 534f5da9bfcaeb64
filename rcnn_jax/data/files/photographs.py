"""Photographs of any size and mode as RGB pictures of one size."""

import concurrent.futures
import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.files.images import opened

FILTERS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Fit:
    """Converts a picture of any size to a square.

    Attributes:
        size: Side of the square in pixels, at least 1.
        shorter: Length to which the shorter side is resized before the square is cut from the
            centre; proportions are kept, and it is at least `size`. 0 to resize both sides to
            `size`.
        filter: Resampling filter, `bilinear` or `bicubic`; both widen when a picture shrinks.

    Raises:
        ValueError: If an argument lies outside its range.
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
        """Resizes and crops a picture.

        Args:
            picture: A `PIL.Image` of any size.

        Returns:
            A `PIL.Image` of `size` by `size` pixels.
        """
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

    Grey values become colours, and CMYK becomes RGB. See `rcnn_jax.data.files.images.opened` for
    orientation, transparency, pages and values of more than 8 bits.

    Args:
        path: Path of the file; messages name it.
        fit: Conversion to a square.
        data: Content of the file; None to read it from `path`.

    Returns:
        Pixels `uint8[size, size, 3]` in RGB order.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a picture, see `rcnn_jax.data.files.images.opened`.
    """
    return opened(path, lambda picture: np.asarray(fit.apply(picture.convert("RGB"))), data)


def batches(
    pool: concurrent.futures.Executor, paths: Sequence[Path], fit: Fit, size: int, ahead: int = 3
) -> Iterator[tuple[np.ndarray, list[Exception | None]]]:
    """Reads pictures in batches, some of them ahead of time.

    Args:
        pool: Executor that reads the pictures.
        paths: Paths of the files.
        fit: Conversion to a square.
        size: Number of pictures of a batch.
        ahead: Number of batches that are being read at a time.

    Yields:
        Pixels `uint8[size, side, side, 3]`, and a list with one entry per picture of the batch: the
        error that reading it raised, or None. Rows without a readable picture are zeros.
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
        pictures = [future.result() for future in waiting.popleft()]
        pixels = np.zeros((size, fit.size, fit.size, 3), np.uint8)
        problems: list[Exception | None] = []
        for row, picture in enumerate(pictures):
            if isinstance(picture, Exception):
                problems.append(picture)
            else:
                problems.append(None)
                pixels[row] = picture
        yield pixels, problems
