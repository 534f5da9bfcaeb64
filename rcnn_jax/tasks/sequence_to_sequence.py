"""One sequence for another: cross-entropy with teacher forcing, and greedy decoding."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.data.vocabulary import NOTHING
from rcnn_jax.layers.randomness import example_keys
from rcnn_jax.layers.recurrent.lengths import live_steps
from rcnn_jax.models.encoder_decoder import greedy
from rcnn_jax.tasks.base import BaseTask, LossOutput

PyTree = Any
Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceToSequence(BaseTask):
    """Writes the target of each source.

    A batch has `source` `[batch, time]`, `source_length` `[batch]`, `target` `[batch, steps]` with
    `END` as its last id, `target_length` `[batch]` and `mask` `[batch]` (0 for padding), ids as
    `rcnn_jax.data.sequence_pairs` makes them. The model is an `EncoderDecoder`.

    An id that is none of the model's classes stands for a token that training has not: it is in no
    loss, and can never be written.
    """

    unit: str = "sequences"

    def _asked_of_model(self) -> tuple[str, ...]:
        return ("lengths", "targets")

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are pairs of sequences.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.

        Raises:
            ValueError: A feature is missing.
        """
        for name in ("source", "source_length", "target", "target_length"):
            if name not in features:
                raise ValueError(
                    f"sequence to sequence needs a feature {name!r}, the data set has "
                    f"{', '.join(map(repr, features))}."
                )

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model."""
        batch = self.train_transform(batch, example_keys(key, batch["mask"].shape[0]))
        lengths, targets = batch["source_length"], batch["target"]
        variables = dict(
            self.model.init(key, batch["source"], train=False, lengths=lengths, targets=targets)
        )
        return variables.pop("params"), variables

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """Cross-entropy of each id after the right ones, summed over the batch."""
        transform_key, dropout_key = jax.random.split(key)
        batch = self.train_transform(batch, example_keys(transform_key, batch["mask"].shape[0]))
        logits, model_state = self.model.apply(
            {"params": params, **model_state},
            batch["source"],
            train=True,
            lengths=batch["source_length"],
            targets=batch["target"],
            rngs={"dropout": dropout_key},
            mutable=list(model_state),
            **self.train_call,
        )
        sums = _sums(logits, batch)
        return LossOutput(
            total=sums["loss"][0],
            count=sums["loss"][1],
            model_state=model_state,
            carry=carry,
            metrics={"error": sums["error"]},
        )

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """What is written without being told what is right.

        Returns:
            `target` int32 `[batch, steps]`, as many as the batch's targets have; -1 behind the
            first `END`.
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
        batch = self.evaluation_transform(batch, None)
        logits: Any = self.model.apply(
            {"params": params, **model_state},
            batch["source"],
            train=False,
            lengths=batch["source_length"],
            targets=batch["target"],
            **self.call,
        )
        steps = live_steps(batch["target_length"], batch["target"].shape[1])
        right = jnp.where(steps, batch["target"], NOTHING)
        wrong = (self._write(params, model_state, batch) != right).any(axis=1)
        mask = batch["mask"]
        return {
            "sequence_error": ((mask * wrong).sum(), mask.sum()),
            **_sums(logits, batch),
        }


def _sums(logits: Any, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
    target, classes = batch["target"], logits.shape[-1]
    live = live_steps(batch["target_length"], target.shape[1]) & (batch["mask"] > 0)[:, None]
    known = live & (target < classes)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, target, 0))
    wrong = live & (jnp.argmax(logits, axis=-1) != target)
    ids, counted = (mask.sum().astype(logits.dtype) for mask in (live, known))
    return {
        "error": (wrong.sum().astype(logits.dtype), ids),
        "loss": (jnp.where(known, losses, 0.0).sum(), counted),
    }
