"""Contiguous streams: each row of a batch continues where the same row of the previous batch ended.

Truncated backpropagation through time needs them: the recurrent state after a batch is the state
before the next one (the carry of the training state), so that a sequence longer than a chunk is
still read without interruption.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from rcnn_jax.data.samplers import PADDING


@dataclasses.dataclass(frozen=True)
class Contiguous:
    """All examples in their order, as `batch_size` streams side by side.

    The examples, chunks of one long text or recording, are cut into `batch_size` streams of equal
    length. Batch `t` of an epoch holds chunk `t` of each stream. If the number of chunks is not a
    multiple of `batch_size`, the last streams end in empty rows. Every epoch starts all streams
    anew, which the column `fresh` marks for each row: a task sets the carry of such a row to zero.

    Attributes:
        size: Number of examples.
        batch_size: Number of rows of the global batch, which is the number of streams.
            It is in `[1, size]`.
        columns: Columns added to each batch: `fresh`, true where a row starts its stream.

    Raises:
        ValueError: If `batch_size` lies outside its range.

    Example:
        >>> from rcnn_jax.data.streams import Contiguous
        >>> sampler = Contiguous(size=6, batch_size=2)
        >>> [sampler.indices(step).tolist() for step in range(3)]
        [[0, 3], [1, 4], [2, 5]]
        >>> sampler.column_values(3)["fresh"].tolist()
        [True, True]
    """

    size: int
    batch_size: int
    columns: ClassVar[dict[str, str]] = {"fresh": "bool"}

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.size:
            raise ValueError(
                f"contiguous streams need at least one example each: {self.batch_size} streams "
                f"(the batch size) and {self.size} examples"
            )

    @property
    def pads(self) -> bool:
        """Whether some rows are empty."""
        return self._length * self.batch_size != self.size

    @property
    def _length(self) -> int:
        """Number of examples of a stream."""
        return -(-self.size // self.batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Number of batches in one pass over all streams."""
        return float(self._length)

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of one batch.

        Args:
            step: Number of the batch, at least 0.

        Returns:
            Indices `int64[batch_size]`; `PADDING` marks an empty row.

        Raises:
            ValueError: If `step` is negative.
        """
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        rows = np.arange(self.batch_size, dtype=np.int64) * self._length + step % self._length
        return np.where(rows < self.size, rows, PADDING)

    def column_values(self, step: int) -> dict[str, np.ndarray]:
        """Returns the added columns of a batch.

        Args:
            step: Number of the batch, from 0.

        Returns:
            `fresh` `bool[batch_size]`, true in the first batch of an epoch.
        """
        return {"fresh": np.full(self.batch_size, step % self._length == 0)}

    def epoch(self, step: int) -> float:
        """Returns how many times the data have been read before a batch.

        Args:
            step: Number of the batch, from 0.
        """
        return step / self._length
