"""Classification of images and other inputs by cross-entropy."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from rcnn_jax.metrics.best_class import best_class
from rcnn_jax.metrics.stray_labels import nan_where
from rcnn_jax.tasks.base import Batch, LossOutput, PyTree, wide
from rcnn_jax.tasks.images import ImageTask
from rcnn_jax.tasks.labels import check_class_feature


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification(ImageTask):
    """Classifies images, or the other inputs that `inputs` names.

    A batch has the feature that `inputs` names, `label` `[batch]` integers and `mask` `[batch]` (0
    for padding). The probabilities of several views of an example are averaged; see `ImageTask`.
    With `lengths`, the model is a `SequenceClassifier` or another model whose call takes lengths.

    Attributes:
        label_smoothing: Share of the target's probability that is spread over all classes, in [0,
            1).
        label: Name of the feature that holds the label.
        every_step: Whether an iterating model answers after each of its iterations. The loss is
            then the mean over these answers, the metrics are those of the last one, and
            `error_after_T` and so on are those of the answer after T iterations.
    """

    label_smoothing: float = 0.0
    label: str = "label"
    every_step: bool = False
    answer: ClassVar[str] = "class"

    def __post_init__(self):
        super().__post_init__()
        if "every_step" in {**self.call, **self.train_call}:
            raise ValueError("every_step is set by config.task.every_step, not in a call.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"config.task.label_smoothing={self.label_smoothing} must be in [0, 1)."
            )

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns `lengths` and `every_step`, as far as the config asks for them."""
        return (*super().model_call_arguments(), *self._flags)

    @property
    def _flags(self) -> dict[str, bool]:
        return {"every_step": True} if self.every_step else {}

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are inputs and labels, and as many classes as the model has.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing, or the numbers of classes differ.
        """
        self.require_inputs(features, "classification")
        self.require_features(features, "classification", (self.label,), "; see config.task.label")
        check_class_feature(features, self.label, "classification", "; see config.task.label")
        labels, classes = (
            features[self.label].num_classes,
            getattr(self.model, "classes", None),
        )
        if None not in (labels, classes) and labels != classes:
            raise ValueError(
                f"config.model.classes={classes}, but the data set's {self.label!r} has {labels} "
                "classes."
            )

    def wanted_answers(self, features: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
        """Requires a log-probability for each class of the label; see `BaseTask.wanted_answers`."""
        return {"log_probabilities": (self.label, features[self.label].num_classes)}

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """Returns the cross-entropy with smoothed targets, summed over the examples of a batch.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state, which is returned unchanged.
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.
            key: Random key for the transforms and for dropout.

        Returns:
            The total and count of the loss, the updated model state, and the metric `error`. The
            total is NaN where a label is not a class of the model.
        """
        transform_key, dropout_key = jax.random.split(key)
        batch = self.training_batch(batch, transform_key)
        inputs, arguments = self.model_inputs(batch)
        logits, model_state = self.apply_model_in_training(
            params, model_state, inputs, dropout_key, **arguments, **self._flags
        )
        logits = wide(logits)
        answers = logits if self.every_step else logits[None]
        target = jax.nn.one_hot(batch[self.label], logits.shape[-1], dtype=logits.dtype)
        target = optax.smooth_labels(target, self.label_smoothing)
        mask = batch["mask"].astype(logits.dtype)
        losses = jax.vmap(optax.softmax_cross_entropy, in_axes=(0, None))(answers, target)
        wrong = best_class(answers[-1]) != batch[self.label]
        return LossOutput(
            total=nan_where(self._strays(batch, logits.shape[-1]), (mask * losses.mean(0)).sum()),
            count=mask.sum(),
            model_state=model_state,
            carry=carry,
            metrics={"error": ((mask * wrong).sum(), mask.sum())},
        )

    def _log_probabilities(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> Float[jax.Array, "answers batch classes"]:
        """Returns log-probabilities averaged over views, of one answer or of each iteration's."""
        inputs, arguments, views = self.evaluated_images(batch)
        outputs = self.apply_model(params, model_state, inputs, **arguments, **self._flags)
        logits = wide(outputs)
        answers = logits.shape[0] if self.every_step else 1
        logits = logits.reshape(answers, -1, views, logits.shape[-1])
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=2, b=1.0 / views)

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns the class probabilities of each example; see `BaseTask.predict`.

        Returns:
            `probabilities` `[batch, classes]`, averaged over views where there are several, and
            their logarithms `log_probabilities`.
        """
        log_p = self._log_probabilities(params, model_state, batch)[-1]
        return {"probabilities": jnp.exp(log_p), "log_probabilities": log_p}

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns error, top-5 error and cross-entropy of the averaged prediction.

        With `every_step` they are also returned for each answer, as `error_after_T` and so on. The
        arguments are those of `BaseTask.metrics`.
        """
        answers = self._log_probabilities(params, model_state, batch)
        sums = self.sums(answers[-1], batch)
        if self.every_step:
            for step, answer in enumerate(answers):
                for name, pair in self.sums(answer, batch).items():
                    sums[f"{name}_after_{step}"] = pair
        return sums

    def sums(
        self, log_p: Float[jax.Array, "batch classes"], batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns the sums over a batch in evaluation; a helper for `metrics`.

        Args:
            log_p: Log-probabilities of one answer, averaged over views, `[batch, classes]`.
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.

        Returns:
            A dict from `error`, `loss` and, beyond 10 classes, `top_5_error` to (sum, count).
        """
        label, mask = batch[self.label], batch["mask"].astype(log_p.dtype)
        label_log_p = jnp.take_along_axis(log_p, label[:, None], axis=-1)
        # The rank is the number of classes before the true one; ties go to the lower index, as in
        # argmax.
        earlier = jnp.arange(log_p.shape[-1])[None] < label[:, None]
        rank = jnp.sum((log_p > label_log_p) | ((log_p == label_log_p) & earlier), axis=-1)
        count, loss = mask.sum(), (mask * -label_log_p[:, 0]).sum()
        sums = {
            "error": ((mask * (best_class(log_p) != label)).sum(), count),
            "loss": (nan_where(self._strays(batch, log_p.shape[-1]), loss), count),
        }
        if log_p.shape[-1] > 10:
            # NaN compares false with everything, but must count as an error.
            missed = (rank >= 5) | jnp.isnan(label_log_p[:, 0])
            sums["top_5_error"] = ((mask * missed).sum(), count)
        return sums

    def _strays(self, batch: Batch, classes: int) -> jax.Array:
        """Marks real examples whose label has no logit, `bool[batch]`."""
        label = batch[self.label]
        return (batch["mask"] > 0) & ((label < 0) | (label >= classes))

    def counts(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, Float[jax.Array, "classes *classes"]]:
        """Returns the confusion matrix of a batch; see `BaseTask.counts`.

        Returns:
            `confusion` `[classes, classes]`: how many examples of each true class (row) were
            assigned to each class (column); and `examples` `[classes]`, how many each true class
            has. These are more where probabilities are NaN, which assigns an example to no class.
        """
        log_p = self._log_probabilities(params, model_state, batch)[-1]
        classes = log_p.shape[-1]
        true = jax.nn.one_hot(batch[self.label], classes) * batch["mask"][:, None]
        taken = jax.nn.one_hot(best_class(log_p), classes)
        # A product in reduced precision would round integers of the size of a batch.
        confusion = jnp.matmul(true.T, taken, precision="highest")
        return {"confusion": confusion, "examples": true.sum(axis=0)}

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the error of each class, the worst first, and the confusion matrix.

        Args:
            counts: Totals of `counts` over the split.
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Returns:
            `classes`, a list of `{"class", "n", "error", "taken_for", "times"}`, where `taken_for`
            is the most frequent wrong answer and `times` its count; and `confusion`, a list of
            rows, whose rows are true and whose columns are predicted classes, by index. An example
            that has no answer, because its probabilities are NaN, is wrong and in no column.
        """
        confusion = np.rint(counts["confusion"]).astype(int)
        examples = np.rint(counts.get("examples", confusion.sum(axis=1))).astype(int)
        names = self.class_names(features, len(confusion))
        rows = []
        for number, row in enumerate(confusion):
            wrong = row.copy()
            wrong[number] = 0
            total, most = int(examples[number]), int(wrong.argmax())
            rows.append(
                {
                    "class": names[number],
                    "n": total,
                    "error": float((total - row[number]) / total) if total else None,
                    "taken_for": names[most] if wrong[most] else None,
                    "times": int(wrong[most]),
                }
            )
        rows.sort(key=lambda row: -1.0 if row["error"] is None else row["error"], reverse=True)
        return {"classes": rows, "confusion": confusion.tolist()}
