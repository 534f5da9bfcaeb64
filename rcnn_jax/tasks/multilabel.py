"""Multi-label classification: sigmoid cross-entropy and F1 of labels that hold or do not."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from rcnn_jax.metrics.stray_labels import nan_where
from rcnn_jax.tasks.base import Batch, LossOutput, PyTree, wide
from rcnn_jax.tasks.images import ImageTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiLabel(ImageTask):
    """Decides for each label whether it holds of an image, or of another input.

    A batch has the feature that `inputs` names, `mask` `[batch]` (0 for padding) and the labels
    `[batch, labels]`, 0 or 1. The model returns logits `[batch, labels]`; a label is predicted from
    a probability of one half on. The probabilities of several views of an example are averaged; see
    `ImageTask`.

    Attributes:
        label: Name of the feature that holds the labels.
    """

    label: str = "labels"
    answer: ClassVar[str] = "label"

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are inputs, and as many labels as the model has outputs.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing, the labels are not a vector of integers, or the
                numbers of labels and outputs differ.
        """
        what = "multi-label classification"
        self.require_inputs(features, what)
        self.require_features(features, what, (self.label,), "; see config.task.label")
        labels, classes = features[self.label], getattr(self.model, "classes", None)
        if len(labels.shape) != 1 or np.dtype(labels.dtype).kind not in "iub":
            raise ValueError(
                f"{self.label!r} is {labels.dtype}{list(labels.shape)}, but the labels of an image "
                "are one vector of whole numbers, 0 or 1; see config.task.label."
            )
        if None not in (labels.shape[0], classes) and labels.shape[0] != classes:
            raise ValueError(
                f"config.model.classes={classes}, but the data set's {self.label!r} are "
                f"{labels.shape[0]} labels."
            )

    def wanted_answers(self, features: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
        """Requires a probability for each label; see `BaseTask.wanted_answers`."""
        return {"probabilities": (self.label, features[self.label].shape[0])}

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """Returns the cross-entropy summed over the labels of an image and over the batch.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state, which is returned unchanged.
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.
            key: Random key for the transforms and for dropout.

        Returns:
            The total and count of the loss, the updated model state, and the metric `error`. The
            total is NaN where a label is neither 0 nor 1.
        """
        transform_key, dropout_key = jax.random.split(key)
        batch = self.training_batch(batch, transform_key)
        inputs, arguments = self.model_inputs(batch)
        logits, model_state = self.apply_model_in_training(
            params, model_state, inputs, dropout_key, **arguments
        )
        logits = wide(logits)
        labels, mask = batch[self.label], batch["mask"].astype(logits.dtype)
        losses = optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
        wrong = jnp.where(labels > 0, ~(logits >= 0), ~(logits < 0))  # NaN is always wrong
        return LossOutput(
            total=nan_where(self._strays(batch), (mask * losses.sum(-1)).sum()),
            count=mask.sum(),
            model_state=model_state,
            carry=carry,
            metrics={"error": ((mask * wrong.mean(-1)).sum(), mask.sum())},
        )

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns the probability of each label; see `BaseTask.predict`.

        Returns:
            `probabilities` p `[batch, labels]`, averaged over views where there are several;
            `log_probabilities`, log(p); and `log_complements`, log(1 - p).
        """
        inputs, arguments, views = self.evaluated_images(batch)
        logits = wide(self.apply_model(params, model_state, inputs, **arguments))
        logits = logits.reshape(-1, views, logits.shape[-1])

        def averaged(log_p: jax.Array) -> jax.Array:
            return jax.nn.logsumexp(log_p, axis=1, b=1.0 / views)

        log_p = averaged(jax.nn.log_sigmoid(logits))
        return {
            "probabilities": jnp.exp(log_p),
            "log_probabilities": log_p,
            "log_complements": averaged(jax.nn.log_sigmoid(-logits)),
        }

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns label error, image error, F1 and cross-entropy; see `BaseTask.metrics`.

        Returns:
            `error`, the share of wrong labels; `image_error`, the share of images with a wrong
            label; `f1` over all labels of the split; and `loss`; each as (sum, count).
        """
        predicted = self.predict(params, model_state, batch)
        hit, missed, invented = self._decided(predicted, batch)
        labels, mask = batch[self.label], batch["mask"].astype(hit.dtype)
        wrong = missed + invented
        losses = -jnp.where(
            labels > 0, predicted["log_probabilities"], predicted["log_complements"]
        )
        images = mask.sum()
        return {
            "error": (wrong.mean(-1).sum(), images),
            "image_error": ((mask * (wrong.sum(-1) > 0)).sum(), images),
            "f1": (2 * hit.sum(), (2 * hit + wrong).sum()),
            "loss": (nan_where(self._strays(batch), (mask * losses.sum(-1)).sum()), images),
        }

    def _strays(self, batch: Batch) -> jax.Array:
        """Marks labels of real images that are neither 0 nor 1, `bool[batch, labels]`."""
        labels = batch[self.label].astype(jnp.int32)
        return (batch["mask"][:, None] > 0) & (labels != 0) & (labels != 1)

    def _decided(
        self, predicted: Mapping[str, jax.Array], batch: Batch
    ) -> tuple[Float[jax.Array, "batch labels"], ...]:
        """Returns true positives, false negatives and false positives, 0 or 1 `[batch, labels]`.

        A probability that is NaN is a wrong answer, whether the label holds or not.
        """
        probabilities, holds = predicted["probabilities"], batch[self.label] > 0
        positive, negative = probabilities >= 0.5, probabilities < 0.5
        mask = batch["mask"].astype(probabilities.dtype)[:, None]
        return mask * (positive & holds), mask * (~positive & holds), mask * (~negative & ~holds)

    def counts(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, Float[jax.Array, " labels"]]:
        """Returns how often each label was `hit`, `missed` and `invented`; see `BaseTask.counts`.

        Returns:
            True positives `hit`, false negatives `missed` and false positives `invented`,
            `[labels]` each.
        """
        outcomes = self._decided(self.predict(params, model_state, batch), batch)
        return {
            name: values.sum(0)
            for name, values in zip(("hit", "missed", "invented"), outcomes, strict=True)
        }

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns precision, recall and F1 of each label, the lowest F1 first.

        Args:
            counts: Totals of `counts` over the split.
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Returns:
            `labels`, a list of `{"label", "n", "precision", "recall", "f1"}`, where `n` is the
            number of images of which the label holds. A ratio without a denominator, such as the
            precision of a label that was never predicted, is None. A label that neither holds of
            nor is predicted for any image comes last.
        """
        names = self.class_names(features, len(counts["hit"]))
        rows = []
        for number, name in enumerate(names):
            hit, missed, invented = (
                int(np.rint(counts[kind][number])) for kind in ("hit", "missed", "invented")
            )
            rows.append(
                {
                    "label": name,
                    "n": hit + missed,
                    "precision": _share(hit, hit + invented),
                    "recall": _share(hit, hit + missed),
                    "f1": _share(2 * hit, 2 * hit + missed + invented),
                }
            )
        rows.sort(key=lambda row: 2.0 if row["f1"] is None else row["f1"])
        return {"labels": rows}


def _share(part: int, whole: int) -> float | None:
    """Returns a ratio, or None where its denominator is 0."""
    return part / whole if whole else None
