"""Sequence to sequence: cross-entropy with teacher forcing, and greedy decoding."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rcnn_jax.data.encoders.sequence_pairs import MADE
from rcnn_jax.data.text.vocabulary import PAD
from rcnn_jax.decoding.sampling import Written
from rcnn_jax.layers.masks import time_mask
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.models.encoder_decoder import written
from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.summed import SummedTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceToSequence(SummedTask):
    """Generates the target sequence of each source sequence.

    A batch has `source` `[batch, time]`, `source_length` `[batch]`, `target` `[batch, steps]` with
    `EOS` as its last id, `target_length` `[batch]` and `mask` `[batch]` (0 for padding). The ids
    are those of `rcnn_jax.data.encoders.sequence_pairs`. The model is an `EncoderDecoder`.

    An id beyond the model's classes is a token that does not occur in the training split: it enters
    no loss, and can never be generated.
    """

    unit: str = "sequences"

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns `lengths` and `targets`."""
        return ("lengths", "targets")

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that the data set has pairs of sequences.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing.
        """
        self.require_features(features, "sequence to sequence", MADE, "; see config.encoder")

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the sources with their lengths, and the targets for teacher forcing.

        Args:
            batch: Dict of arrays `[batch, ...]` after the transforms.

        Returns:
            A pair of `source` and a dict of `lengths` and `targets`.
        """
        return batch["source"], {"lengths": batch["source_length"], "targets": batch["target"]}

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns `loss` and `error`, counted by token of the targets; see `SummedTask.sums`.

        Args:
            logits: Output of the model, `[batch, steps, classes]`, in float32 or wider.
            batch: The batch that the model saw; rows whose `mask` is 0 enter no sum.

        Returns:
            A dict from `loss` and `error` to (sum, count), both `[]`.
        """
        steps = time_mask(batch["target_length"], batch["target"].shape[1])
        return token_sums(logits, batch["target"], steps & (batch["mask"] > 0)[:, None])

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns sequences that are generated without teacher forcing; see `BaseTask.predict`.

        Returns:
            `target` `int32[batch, steps]`, with as many steps as the batch's targets have, and -1
            after the first `EOS`; and `log_probs` `[batch]`, the natural logarithms of their
            probabilities. Where an id has no distribution, because a logit is NaN or inf, the
            logarithm is NaN and there is no id.
        """
        found = self._write(params, model_state, self.evaluation_transform(batch, None))
        return {"target": found.ids, "log_probs": found.log_probs}

    def _write(self, params: PyTree, model_state: PyTree, batch: Batch) -> Written:
        """Decodes greedily a batch that the transforms have been applied to."""
        variables = {"params": params, **model_state}
        model: Any = self.model
        steps = batch["target"].shape[1]
        return written(model, variables, batch["source"], batch["source_length"], steps)

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns sequence error without teacher forcing, and token error and loss with it.

        `sequence_error` is the share of sequences that are not generated without any error; `error`
        is the share of wrong ids, each predicted after the correct previous ids. The arguments are
        those of `BaseTask.metrics`.
        """
        logits, batch = self.logits(params, model_state, batch)
        steps = time_mask(batch["target_length"], batch["target"].shape[1])
        right = jnp.where(steps, batch["target"], PAD)
        wrong = (self._write(params, model_state, batch).ids != right).any(axis=1)
        mask = batch["mask"]
        return {
            "sequence_error": ((mask * wrong).sum(), mask.sum()),
            **self.sums(logits, batch),
        }
