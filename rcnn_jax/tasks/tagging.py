"""A tag for each word of a sentence: cross-entropy, chunk F1 and predictions."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rcnn_jax.data.encoders.word_tags import MADE
from rcnn_jax.layers.masks import live_steps
from rcnn_jax.metrics.chunk_counts import TagKinds, chunk_counts
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.labels import check_number
from rcnn_jax.tasks.summed import SummedTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging(SummedTask):
    """Tags words.

    A batch has `words` `[batch, time]` (or `[batch, time, trigrams]`) and `tags` `[batch, time]`,
    ids as `rcnn_jax.data.text.vocabulary` makes them, `length` `[batch]` and `mask` `[batch]` (0
    for padding). The model is called with `lengths`.

    A tag that the training split has not may occur in another one. Its id is not among the
    model's classes: it is in no loss, it counts as an error, its chunks count as missed ones, and
    `unknown_tags` is the share of such tokens.

    Attributes:
        tags: What each id means; the first of them are the model's classes.
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
        TagKinds.of(self.tags)  # refuses what is no tag

    def model_call_arguments(self) -> tuple[str, ...]:
        """`lengths`."""
        return ("lengths",)

    @functools.cached_property
    def _kinds(self) -> TagKinds:
        return TagKinds.of(self.tags)

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are sentences with tags.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.

        Raises:
            ValueError: A feature is missing.
        """
        self.require_features(features, "tagging", MADE, "; see config.encoder")

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The words, and how many of them each sentence has."""
        return batch["words"], {"lengths": batch["length"]}

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """See `SummedTask.sums`: `loss` and `error`, by word."""
        check_number(logits.shape[-1], getattr(self.model, "classes", None), "tags", self.model)
        return token_sums(logits, batch["tags"], _live(batch))

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """The most probable tag of each word.

        Returns:
            `tags` int32 `[batch, time]`, -1 beyond the length; and `probabilities`
            `[batch, time]`, that of each of these tags, 0 beyond the length.
        """
        logits, batch = self.logits(params, model_state, batch)
        live = _live(batch)
        best = jax.nn.softmax(logits).max(axis=-1)
        return {
            "tags": jnp.where(live, jnp.argmax(logits, axis=-1), -1).astype(jnp.int32),
            "probabilities": jnp.where(live, best, 0.0),
        }

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Share of wrong tags, cross-entropy, and F1, precision and recall of chunks in percent.

        All are sums and counts, F1 too: it is twice the number of correct chunks, divided by the
        number of gold and predicted ones. So they are those of the `conlleval` script over the
        whole split, however it is batched. A ratio without a denominator is NaN here, 0 there.
        """
        logits, batch = self.logits(params, model_state, batch)
        found = {name: n.sum() for name, n in self._chunks(logits, batch).items()}
        gold, predicted, correct = found["gold"], found["predicted"], found["correct"]
        sums = self.sums(logits, batch)
        tokens, known = sums["error"][1], sums["loss"][1]
        return {
            **sums,
            "unknown_tags": (tokens - known, tokens),
            "f1": (200.0 * correct, gold + predicted),
            "precision": (100.0 * correct, predicted),
            "recall": (100.0 * correct, gold),
        }

    def _chunks(self, logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        answers = jnp.argmax(logits, axis=-1)
        return chunk_counts(batch["tags"], answers, _live(batch), self._kinds)

    def counts(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, Float[jax.Array, "kinds"]]:
        """How often each tag occurs, and how many chunks of each type are there, and found.

        Returns:
            `gold`, `predicted` and `correct` `[types]`, and `tokens` `[tags]`.
        """
        logits, batch = self.logits(params, model_state, batch)
        tokens = jax.nn.one_hot(batch["tags"], len(self.tags)) * _live(batch)[..., None]
        return {**self._chunks(logits, batch), "tokens": tokens.sum(axis=(0, 1))}

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Precision, recall and F1 of each type of slot, the most frequent first.

        Args:
            counts: Totals of `counts`.
            features: Not used.

        Returns:
            `slots`: a list of `{"slot", "gold", "predicted", "correct", "precision", "recall",
            "f1"}`, percentages None where nothing was counted; and `unknown_tags`: a list of
            `{"tag", "tokens"}` of tags in the split that the model does not know.
        """
        del features
        rows = []
        for number, kind in enumerate(self._kinds.kinds):
            own = {
                name: round(float(counts[name][number]))
                for name in ("gold", "predicted", "correct")
            }
            correct, gold, predicted = own["correct"], own["gold"], own["predicted"]
            rows.append(
                {
                    "slot": kind,
                    **own,
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


def _live(batch: Batch) -> jax.Array:
    """The tokens that count, bool `[batch, time]`."""
    return live_steps(batch["length"], batch["words"].shape[1]) & (batch["mask"] > 0)[:, None]
