"""Tasks that read one long stream chunk by chunk and pass on a recurrent state."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rcnn_jax.tasks.base import BaseTask, Batch, EvaluatedBatch, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamTask(BaseTask, abc.ABC):
    """Evaluates a split as one unbroken stream, whatever the batch size of evaluation.

    The examples of a split are consecutive chunks of one stream, such as a text or a recording.
    Training reads several streams side by side (`rcnn_jax.data.streams:Contiguous`), and each row
    of a batch has its own carry. Evaluation reads the chunks of a batch one after the other with a
    single carry, so that its loss is that of one pass over the whole split.

    A subclass defines `initial_carry`, `loss`, and `evaluate_chunks` in place of `metrics` and
    `predict`.

    Attributes:
        side_by_side: Whether evaluation reads as many streams side by side as a batch has rows,
            which is faster, but starts each of them without a past. It requires
            `config.evaluation_sampler.name="rcnn_jax.data.streams:Contiguous"`.
    """

    side_by_side: bool = False

    @abc.abstractmethod
    def evaluate_chunks(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch
    ) -> EvaluatedBatch:
        """Evaluates one chunk of each of several streams.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state after the previous chunks, with leaves `[streams, ...]`.
            batch: Dict of arrays `[streams, ...]` with a `mask`.

        Returns:
            Sums, predictions `[streams, ...]`, counts, and the carry after these chunks.
        """

    def evaluation_carry(self, batch_size: int) -> PyTree:
        """Returns the carry of a single stream, or of one stream for each row of a batch.

        Args:
            batch_size: Number of rows of a batch, which is the number of streams if `side_by_side`.

        Returns:
            A pytree with leaves `[streams, ...]`.
        """
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

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state after the previous batch, with leaves `[streams, ...]`.
            batch: Dict of arrays `[batch, ...]` with a `mask`.
            predictions: Not used, because predictions are always returned.
            counts: Not used, because counts are always returned.

        Returns:
            Sums, predictions `[batch, ...]` and counts of the chunks, and the carry after them.

        Raises:
            ValueError: The order of the split does not match `side_by_side`.
        """
        del predictions, counts  # XLA removes the computation of results that are not read
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
            # Padding at the end of the split and unreadable chunks leave the carry unchanged.
            real = chunk["mask"][0] > 0
            new_carry = jax.tree.map(lambda new, old: jnp.where(real, new, old), out.carry, carry)
            rows = jax.tree.map(lambda x: x[0], out.predictions)
            return new_carry, (out.sums, rows, out.counts)

        carry, (sums, rows, counted) = jax.lax.scan(one_chunk, carry, batch)
        sums, counted = jax.tree.map(lambda x: x.sum(0), (sums, counted))
        return EvaluatedBatch(sums=sums, predictions=rows, counts=counted, carry=carry)

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns the metrics of a batch that starts a stream, from an initial carry."""
        return self._alone(params, model_state, batch).sums

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns predictions for a batch that starts a stream, from an initial carry."""
        return self._alone(params, model_state, batch).predictions

    def _alone(self, params: PyTree, model_state: PyTree, batch: Batch) -> EvaluatedBatch:
        """Evaluates a batch that no other batch precedes."""
        carry = self.evaluation_carry(batch["mask"].shape[0])
        return self.evaluate_batch(
            params, model_state, carry, batch, predictions=True, counts=False
        )
