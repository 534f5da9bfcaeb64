"""Metrics that are ratios of sums over a whole split, and not means over its examples.

Each is named in a config, `config.metrics.mean_iou.name="rcnn_jax.metrics.ratios:MeanIoU"` with its
arguments, is counted batch by batch on the device, and may rank checkpoints
(`config.best_metric=mean_iou`).
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class _OfConfusion(abc.ABC):
    """A number read from the confusion matrix of a split.

    Attributes:
        classes: Number of classes C.
        label: Name of the feature with the true classes, integers `[batch, ...]`.
        prediction: Name of the prediction: classes like `label`, or scores with one axis more,
            `[batch, ..., classes]`, of which the greatest counts.
        void: A value of `label` that stands for no class and is left out; every other value
            outside [0, C) is left out likewise.
    """

    classes: int
    label: str = "label"
    prediction: str = "probabilities"
    void: int = 255

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes={self.classes} must be at least 1")

    def sums(self, predictions: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Any:
        """The confusion matrix of a batch.

        Returns:
            int32 `[classes, classes]`: true classes in rows, predicted ones in columns.

        Raises:
            ValueError: A name is unknown, or the shapes do not belong together.
        """
        for name, there, key in (
            (self.label, batch, "label"),
            (self.prediction, predictions, "prediction"),
        ):
            if name not in there:
                raise ValueError(
                    f"{type(self).__name__} needs {key}={name!r}, there are {', '.join(there)}"
                )
        true, predicted = batch[self.label], predictions[self.prediction]
        if not jnp.issubdtype(true.dtype, jnp.integer):
            raise ValueError(
                f"{type(self).__name__} counts classes, and {self.label!r} is {true.dtype}"
            )
        if predicted.ndim == true.ndim + 1:
            predicted = jnp.argmax(predicted, axis=-1)
        if predicted.shape != true.shape:
            raise ValueError(
                f"{type(self).__name__} compares {self.prediction!r} {list(predicted.shape)} with "
                f"{self.label!r} {list(true.shape)}: they must have one shape, or scores one axis "
                "more"
            )
        mask = batch["mask"].reshape(-1, *[1] * (true.ndim - 1)) > 0
        known = mask & (true != self.void) & (true >= 0) & (true < self.classes)
        # One bin more for what is left out.
        pairs = jnp.where(known, true * self.classes + predicted, self.classes**2)
        counted = jnp.bincount(pairs.reshape(-1), length=self.classes**2 + 1)
        return counted[:-1].reshape(self.classes, self.classes)

    @abc.abstractmethod
    def value(self, totals: np.ndarray) -> float:
        """The metric, from the confusion matrix of a split."""


@dataclasses.dataclass(frozen=True)
class MeanIoU(_OfConfusion):
    """Mean over classes of intersection over union, of one confusion matrix over the split.

    A class that occurs neither in truth nor in predictions has no IoU and does not count. This is
    the measure of scene labelling; a mean over images is another one.

    Reference:
        Everingham et al., The PASCAL visual object classes challenge, IJCV 2015, section 3.
    """

    def value(self, totals: np.ndarray) -> float:
        """The mean, in [0, 1]; NaN where no class occurs."""
        both = np.diagonal(totals)
        union = totals.sum(0) + totals.sum(1) - both
        there = union > 0
        return float(np.mean(both[there] / union[there])) if there.any() else math.nan


@dataclasses.dataclass(frozen=True)
class MeanClassAccuracy(_OfConfusion):
    """Mean over the classes that occur of the share of their examples (or pixels) that is right."""

    def value(self, totals: np.ndarray) -> float:
        """The mean, in [0, 1]; NaN where no class occurs."""
        there = totals.sum(1) > 0
        right = np.diagonal(totals)[there] / totals.sum(1)[there]
        return float(np.mean(right)) if there.any() else math.nan


@dataclasses.dataclass(frozen=True)
class MacroF1(_OfConfusion):
    """Mean over classes of F1, twice the right ones over true and predicted ones.

    A class that occurs neither in truth nor in predictions does not count.
    """

    def value(self, totals: np.ndarray) -> float:
        """The mean, in [0, 1]; NaN where no class occurs."""
        counted = totals.sum(0) + totals.sum(1)
        there = counted > 0
        f1 = 2 * np.diagonal(totals)[there] / counted[there]
        return float(np.mean(f1)) if there.any() else math.nan
