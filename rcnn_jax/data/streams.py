"""Contiguous streams: each row of a batch goes on where the same row of the batch before ended.

Truncated backpropagation through time needs them: the recurrent state after a batch is that before
the next one (the carry of the training state), so that what is longer than a chunk is still read
in one go.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from rcnn_jax.data.samplers import PADDING


@dataclasses.dataclass(frozen=True)
class Contiguous:
    """All examples in their order, as `batch_size` streams side by side.

    The examples, chunks of one long text or recording, are cut into `batch_size` streams of equal
    length. Batch `t` of an epoch holds chunk `t` of each stream. Where the number of chunks is no
    multiple of `batch_size`, the last streams end in empty rows. Every epoch begins all streams
    anew, which the column `fresh` says of each row: a task sets the carry of such a row to zero.

    Attributes:
        size: number of examples.
        batch_size: rows of the global batch: the number of streams.
        columns: what a batch gets besides: `fresh`, true where a row begins its stream.
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
        """Examples of a stream."""
        return -(-self.size // self.batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass over all streams."""
        return float(self._length)

    def indices(self, step: int) -> np.ndarray:
        """The rows of batch `step` >= 0, int64 [batch_size]; `PADDING` marks an empty row."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        rows = np.arange(self.batch_size, dtype=np.int64) * self._length + step % self._length
        return np.where(rows < self.size, rows, PADDING)

    def column_values(self, step: int) -> dict[str, np.ndarray]:
        """The columns of batch `step`, each [batch_size]."""
        return {"fresh": np.full(self.batch_size, step % self._length == 0)}

    def epoch(self, step: int) -> float:
        """How many times the data have been seen before batch `step`."""
        return step / self._length
