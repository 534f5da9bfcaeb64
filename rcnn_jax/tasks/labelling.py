"""Sequence labelling: a label for each step, by cross-entropy."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rcnn_jax.layers.masks import time_mask
from rcnn_jax.metrics.best_class import best_class
from rcnn_jax.metrics.stray_labels import nan_where
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.tasks.base import Batch, PyTree
from rcnn_jax.tasks.inputs import InputTask
from rcnn_jax.tasks.summed import SummedTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceLabelling(InputTask, SummedTask):
    """Labels every step of a sequence.

    A batch has `mask` `[batch]` (0 for padding) and the features that `inputs` `[batch, time, ...]`
    and `targets` `[batch, time]` name, where targets are integers below the model's number of
    classes. A step with a negative target enters neither the loss nor the metrics. A target beyond
    the classes turns the loss into NaN, which ends the run. The model returns logits
    `[batch, time, classes]`.

    Attributes:
        targets: Name of the feature that holds the labels.
        blank: Label of a step at which there is nothing to report. `recall_error` is the error over
            the steps that have another label. None: there is neither such a label nor this metric.
    """

    targets: str = "targets"
    blank: int | None = None
    unit: str = "sequences"

    def __post_init__(self):
        super().__post_init__()
        classes = getattr(self.model, "classes", None)
        if self.blank is not None and not 0 <= self.blank < (classes or self.blank + 1):
            few = "" if classes is None else f" of {classes}"
            raise ValueError(
                f"config.task.blank={self.blank} must be the number of a class{few}, from 0 on."
            )

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that each step has a label, and that the model has as many classes as there are.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing or has another shape or dtype, or the numbers of
                classes differ.
        """
        what = "sequence labelling"
        self.require_inputs(features, what)
        self.require_features(features, what, (self.targets,), "; see config.task.targets")
        targets = features[self.targets]
        wanted = "a label for each step, integers [time]"
        self.require_integers(features, what, self.targets, 1, wanted)
        time = features[self.inputs].shape[:1]
        if time != targets.shape:
            raise ValueError(
                f"an example of {self.targets!r} has the shape {targets.shape}, but one of "
                f"{self.inputs!r} has {features[self.inputs].shape}: both have one entry a step."
            )
        labels, classes = targets.num_classes, getattr(self.model, "classes", None)
        if None not in (labels, classes) and labels != classes:
            raise ValueError(
                f"config.model.classes={classes}, but the data set's {self.targets!r} has {labels} "
                "classes."
            )

    def wanted_answers(self, features: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
        """Requires a log-probability for each class; see `BaseTask.wanted_answers`."""
        return {"log_probabilities": (self.targets, features[self.targets].num_classes)}

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns the most probable label of each step; see `BaseTask.predict`.

        Returns:
            `labels` `int32[batch, time]`, the most probable labels, -1 beyond the length of a
            sequence and -2 where the logits have NaN; and `log_probabilities`
            `[batch, time, classes]`.
        """
        logits, batch = self.logits(params, model_state, batch)
        return {
            "labels": jnp.where(self._mask_of(batch), best_class(logits), -1),
            "log_probabilities": jax.nn.log_softmax(logits),
        }

    def _mask_of(self, batch: Batch) -> jax.Array:
        """Marks the valid steps of real sequences, `bool[batch, time]`."""
        time = batch[self.targets].shape[1]
        mask = jnp.broadcast_to(batch["mask"][:, None] > 0, (batch["mask"].shape[0], time))
        return mask & time_mask(batch[self.lengths], time) if self.lengths else mask

    def sums(self, logits: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns `loss`, `error` and, with a `blank`, `recall_error`, all counted by step.

        Args:
            logits: Output of the model, `[batch, time, classes]`, in float32 or wider.
            batch: The batch that the model saw, with `mask` and the feature that `targets` names.

        Returns:
            A dict from names to (sum, count), both `[]`; see `SummedTask.sums`.

        Raises:
            ValueError: The logits have another shape.
        """
        targets = batch[self.targets]
        if logits.ndim != 3 or logits.shape[:2] != targets.shape:
            raise ValueError(
                "sequence labelling needs answers for each step, [batch, time, classes], "
                f"{type(self.model).__name__} answers {targets.shape[1]} steps of "
                f"{targets.shape[0]} sequences with the shape {logits.shape}."
            )
        asked = self._mask_of(batch) & (targets >= 0)
        sums = token_sums(logits, targets, asked)
        total, known = sums["loss"]
        # A model with too few classes must not silently skip the labels beyond them.
        sums["loss"] = (nan_where(known != sums["error"][1], total), known)
        if self.blank is not None:
            non_blank = token_sums(logits, targets, asked & (targets != self.blank))
            sums["recall_error"] = non_blank["error"]
        return sums
