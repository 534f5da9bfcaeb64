"""Tasks that read one long stream, chunk by chunk, with a recurrent state handed on."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rcnn_jax.tasks.base import BaseTask, Batch, EvaluatedBatch, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamTask(BaseTask, abc.ABC):
    """Evaluates a split as one unbroken stream, whatever the batch size of evaluation.

    The examples of a split are consecutive chunks of one stream (a text, a recording). Training
    reads several streams side by side (`rcnn_jax.data.streams:Contiguous`), each row of a batch
    with a carry of its own. Evaluation reads the chunks of a batch one after the other with a
    single carry, so that its loss is that of one pass over the whole split.

    A subclass has `initial_carry`, `loss`, and `evaluate_chunks` in place of `metrics` and
    `predict`.

    Attributes:
        side_by_side: Evaluate several streams side by side instead, as many as a batch has rows;
            faster, and each begins without a past. The config names
            `config.evaluation_sampler.name="rcnn_jax.data.streams:Contiguous"` with it.
    """

    side_by_side: bool = False

    @abc.abstractmethod
    def evaluate_chunks(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch
    ) -> EvaluatedBatch:
        """Evaluates a chunk of each of several streams.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            carry: Leaves `[streams, ...]`, after the chunks before.
            batch: Leaves `[streams, ...]`, with a `mask`.

        Returns:
            Sums, predictions `[streams, ...]`, counts and the carry after the chunks.
        """

    def evaluation_carry(self, batch_size: int) -> PyTree:
        """The carry of a single stream, or of as many as a batch has rows."""
        return self.initial_carry(batch_size if self.side_by_side else 1)

    def evaluate_batch(
        self,
        params: PyTree,
        model_state: PyTree,
        carry: PyTree,
        batch: Batch,
        *,
        predictions: bool,
        counts: bool,
    ) -> EvaluatedBatch:
        """Evaluates the chunks of a batch; see `BaseTask.evaluate_batch`.

        Raises:
            ValueError: The order of the split does not go with `side_by_side`.
        """
        del predictions, counts  # what is not wanted is not computed: nothing reads it
        if ("fresh" in batch) != self.side_by_side:
            order = "rcnn_jax.data.streams:Contiguous" if self.side_by_side else "the default one"
            raise ValueError(
                f"config.task.side_by_side={self.side_by_side} needs another order of the "
                f"evaluated split: set config.evaluation_sampler.name to {order}"
            )
        batch = self.evaluation_transform(batch, None)
        if self.side_by_side:
            return self.evaluate_chunks(params, model_state, carry, batch)

        def one_chunk(carry: PyTree, chunk: Batch) -> tuple[PyTree, Any]:
            chunk = {name: value[None] for name, value in chunk.items()}
            out = self.evaluate_chunks(params, model_state, carry, chunk)
            # Padding at the end of the split, and what could not be read, leave the carry alone.
            real = chunk["mask"][0] > 0
            kept = jax.tree.map(lambda new, old: jnp.where(real, new, old), out.carry, carry)
            rows = jax.tree.map(lambda x: x[0], out.predictions)
            return kept, (out.sums, rows, out.counts)

        carry, (sums, rows, counted) = jax.lax.scan(one_chunk, carry, batch)
        sums, counted = jax.tree.map(lambda x: x.sum(0), (sums, counted))
        return EvaluatedBatch(sums=sums, predictions=rows, counts=counted, carry=carry)

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The metrics of a batch that nothing comes before, its chunks as one stream."""
        return self._alone(params, model_state, batch).sums

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """The predictions for a batch that nothing comes before, its chunks as one stream."""
        return self._alone(params, model_state, batch).predictions

    def _alone(self, params: PyTree, model_state: PyTree, batch: Batch) -> EvaluatedBatch:
        carry = self.evaluation_carry(batch["mask"].shape[0])
        return self.evaluate_batch(
            params, model_state, carry, batch, predictions=True, counts=False
        )
