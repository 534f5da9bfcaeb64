"""One sequence for another: cross-entropy with teacher forcing, and greedy decoding."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rcnn_jax.data.encoders.sequence_pairs import MADE
from rcnn_jax.data.text.vocabulary import PAD
from rcnn_jax.layers.masks import live_steps
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.models.encoder_decoder import greedy
from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.summed import SummedTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceToSequence(SummedTask):
    """Writes the target of each source.

    A batch has `source` `[batch, time]`, `source_length` `[batch]`, `target` `[batch, steps]` with
    `EOS` as its last id, `target_length` `[batch]` and `mask` `[batch]` (0 for padding), ids as
    `rcnn_jax.data.encoders.sequence_pairs` makes them. The model is an `EncoderDecoder`.

    An id that is none of the model's classes stands for a token that training has not: it is in no
    loss, and can never be written.
    """

    unit: str = "sequences"

    def model_call_arguments(self) -> tuple[str, ...]:
        """`lengths` and `targets`."""
        return ("lengths", "targets")

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are pairs of sequences.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.

        Raises:
            ValueError: A feature is missing.
        """
        self.require_features(features, "sequence to sequence", MADE, "; see config.encoder")

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The sources with their lengths, and the targets, for teacher forcing."""
        return batch["source"], {"lengths": batch["source_length"], "targets": batch["target"]}

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """See `SummedTask.sums`: `loss` and `error`, by token of the targets."""
        steps = live_steps(batch["target_length"], batch["target"].shape[1])
        return token_sums(logits, batch["target"], steps & (batch["mask"] > 0)[:, None])

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """What is written without being told what is right.

        Returns:
            `target` int32 `[batch, steps]`, as many as the batch's targets have; -1 behind the
            first `EOS`.
        """
        return {"target": self._write(params, model_state, self.evaluation_transform(batch, None))}

    def _write(self, params: PyTree, model_state: PyTree, batch: Batch) -> jax.Array:
        variables = {"params": params, **model_state}
        model: Any = self.model
        steps = batch["target"].shape[1]
        return greedy(model, variables, batch["source"], batch["source_length"], steps)

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Share of sequences that are not written whole, and of wrong ids after the right ones."""
        logits, batch = self.logits(params, model_state, batch)
        steps = live_steps(batch["target_length"], batch["target"].shape[1])
        right = jnp.where(steps, batch["target"], PAD)
        wrong = (self._write(params, model_state, batch) != right).any(axis=1)
        mask = batch["mask"]
        return {
            "sequence_error": ((mask * wrong).sum(), mask.sum()),
            **self.sums(logits, batch),
        }
