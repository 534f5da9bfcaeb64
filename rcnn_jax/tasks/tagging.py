"""Tagging of the words of a sentence: cross-entropy and chunk F1."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rcnn_jax.data.encoders.word_tags import MADE
from rcnn_jax.layers.masks import time_mask
from rcnn_jax.metrics import chunks
from rcnn_jax.metrics.best_class import best_class
from rcnn_jax.metrics.chunk_counts import TagKinds, chunk_counts
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.labels import check_number
from rcnn_jax.tasks.summed import SummedTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging(SummedTask):
    """Assigns a tag to each word of a sentence.

    A batch has `words` `[batch, time]` (or `[batch, time, trigrams]`) and `tags` `[batch, time]`,
    ids of `rcnn_jax.data.text.vocabulary`, `length` `[batch]` and `mask` `[batch]` (0 for padding).
    The model's call takes `lengths`.

    Another split may have tags that do not occur in the training split. Their ids are beyond the
    model's classes: such a tag enters no loss and counts as an error, its chunks count as missed,
    and `unknown_tags` is the share of such tokens.

    Attributes:
        tags: Tag of each id; the first of them are the model's classes.
    """

    tags: Sequence[str]
    unit: str = "sentences"

    def __post_init__(self):
        super().__post_init__()
        classes = getattr(self.model, "classes", None)
        if classes is not None and classes > len(self.tags):
            raise ValueError(
                f"config.model.classes={classes}, but there are only {len(self.tags)} tags."
            )
        TagKinds.of(self.tags)  # raises where a string is not a tag

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns `lengths`."""
        return ("lengths",)

    @functools.cached_property
    def _kinds(self) -> TagKinds:
        return TagKinds.of(self.tags)

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that the data set has sentences with tags.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing.
        """
        self.require_features(features, "tagging", MADE, "; see config.encoder")

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns the words, and the number of words of each sentence as `lengths`.

        Args:
            batch: Dict of arrays `[batch, ...]` after the transforms.

        Returns:
            A pair of `words` and a dict with `lengths`.
        """
        return batch["words"], {"lengths": batch["length"]}

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns `loss` and `error`, counted by word; see `SummedTask.sums`.

        Args:
            logits: Output of the model, `[batch, time, classes]`, in float32 or wider.
            batch: The batch that the model saw; rows whose `mask` is 0 enter no sum.

        Returns:
            A dict from `loss` and `error` to (sum, count), both `[]`.

        Raises:
            ValueError: The model returns fewer logits than it has classes.
        """
        check_number(logits.shape[-1], getattr(self.model, "classes", None), "tags", self.model)
        return token_sums(logits, batch["tags"], _mask_of(batch))

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns the most probable tag of each word; see `BaseTask.predict`.

        Returns:
            `tags` `int32[batch, time]`, ids of tags, -1 beyond the length of a sentence and -2
            where the logits have NaN; and `probabilities` `[batch, time]` of these tags, 0 beyond
            the length and NaN where the logits have NaN.
        """
        logits, batch = self.logits(params, model_state, batch)
        mask = _mask_of(batch)
        best = jax.nn.softmax(logits).max(axis=-1)
        return {
            "tags": jnp.where(mask, best_class(logits), -1),
            "probabilities": jnp.where(mask, best, 0.0),
        }

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns tag error and cross-entropy; see `BaseTask.metrics`.

        Returns:
            `error`, the share of wrong tags; `loss`; and `unknown_tags`, the share of the words
            whose tag the model does not know; each as (sum, count).
        """
        logits, batch = self.logits(params, model_state, batch)
        sums = self.sums(logits, batch)
        tokens, known = sums["error"][1], sums["loss"][1]
        return {**sums, "unknown_tags": (tokens - known, tokens)}

    def ratios(self, counts: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns F1, precision and recall of the chunks of a split in percent.

        They equal those of the `conlleval` script: a ratio without a denominator is 0, as the
        precision of a tagger that only says `O`.

        Args:
            counts: Totals of `counts` over the split.

        Returns:
            A dict of `f1`, `precision` and `recall`.
        """
        totals = {
            name: float(counts[name].sum(dtype=np.float64))
            for name in ("gold", "predicted", "correct")
        }
        scores = chunks.ratios(**totals)
        chunks_of_both = totals["gold"] + totals["predicted"]
        # The script's formula rounds otherwise: runs keep the last bit of their figures.
        scores["f1"] = 200.0 * totals["correct"] / chunks_of_both if chunks_of_both else 0.0
        return {name: scores[name] for name in ("f1", "precision", "recall")}

    def _chunks(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """Counts gold, predicted and correct chunks of a batch by type."""
        answers = best_class(logits)
        return chunk_counts(batch["tags"], answers, _mask_of(batch), self._kinds)

    def counts(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, Float[jax.Array, "kinds"]]:
        """Returns the numbers of tokens of each tag and of chunks of each type.

        Returns:
            `gold`, `predicted` and `correct` chunks `[types]`, and `tokens` `[tags]`; see
            `BaseTask.counts`.
        """
        logits, batch = self.logits(params, model_state, batch)
        tokens = jax.nn.one_hot(batch["tags"], len(self.tags)) * _mask_of(batch)[..., None]
        return {**self._chunks(logits, batch), "tokens": tokens.sum(axis=(0, 1))}

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns precision, recall and F1 of each type of slot, the most frequent first.

        Args:
            counts: Totals of `counts` over the split.
            features: Not used.

        Returns:
            `slots`, a list of `{"slot", "gold", "predicted", "correct", "precision", "recall",
            "f1"}`, whose percentages are None without a denominator; and `unknown_tags`, a list of
            `{"tag", "tokens"}` of the tags of the split that the model does not know.
        """
        del features
        rows = []
        for number, kind in enumerate(self._kinds.kinds):
            slot_counts = {
                name: round(float(counts[name][number]))
                for name in ("gold", "predicted", "correct")
            }
            correct, gold, predicted = (
                slot_counts["correct"],
                slot_counts["gold"],
                slot_counts["predicted"],
            )
            rows.append(
                {
                    "slot": kind,
                    **slot_counts,
                    "precision": 100.0 * correct / predicted if predicted else None,
                    "recall": 100.0 * correct / gold if gold else None,
                    "f1": 200.0 * correct / (gold + predicted) if gold + predicted else None,
                }
            )
        rows.sort(key=lambda row: (-row["gold"], row["slot"]))
        unknown = [
            {"tag": tag, "tokens": round(float(tokens))}
            for tag, tokens in zip(self.tags, counts["tokens"], strict=True)
        ]
        known = getattr(self.model, "classes", len(self.tags))
        return {"slots": rows, "unknown_tags": [row for row in unknown[known:] if row["tokens"]]}


def _mask_of(batch: Batch) -> jax.Array:
    """Marks the words of real sentences, `bool[batch, time]`."""
    return time_mask(batch["length"], batch["words"].shape[1]) & (batch["mask"] > 0)[:, None]
