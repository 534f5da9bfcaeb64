"""Metrics that are ratios of sums over a whole split instead of means over its examples.

A config adds one by `config.metrics.mean_iou.name="rcnn_jax.metrics.ratios:MeanIoU"` and its
arguments. It is counted batch by batch on the device, and may rank checkpoints
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

from rcnn_jax.metrics.best_class import best_class


@dataclasses.dataclass(frozen=True)
class _OfConfusion(abc.ABC):
    """Base class of metrics that are computed from the confusion matrix of a split.

    Attributes:
        classes: Number of classes C.
        label: Name of the feature that holds the true classes, integers `[batch, ...]`.
        prediction: Name of the prediction: classes of the same shape as `label`, or scores with one
            more axis, `[batch, ..., classes]`, of which the greatest counts. A place with the class
            -1, as behind the end of a sequence, is left out; any other number outside [0, C), and
            NaN among scores, is a wrong answer.
        void: Value of `label` that marks the absence of a class and is left out, as is every other
            value outside [0, C).
    """

    classes: int
    label: str = "label"
    prediction: str = "probabilities"
    void: int = 255

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes={self.classes} must be at least 1")

    def sums(self, predictions: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> Any:
        """Computes the confusion matrix of a batch.

        Args:
            predictions: Dict of predictions `[batch, ...]`, with the one that `prediction` names.
            batch: Dict of arrays `[batch, ...]` with a `mask` and the feature that `label` names.

        Returns:
            `int32[classes, classes + 1]` with true classes in rows and predicted ones in columns,
            of which the last counts answers that are no class.

        Raises:
            ValueError: A name is unknown, the labels are not integers, or the shapes do not match.
        """
        for name, available, key in (
            (self.label, batch, "label"),
            (self.prediction, predictions, "prediction"),
        ):
            if name not in available:
                raise ValueError(
                    f"{type(self).__name__} needs {key}={name!r}, there are {', '.join(available)}"
                )
        true, predicted = batch[self.label], predictions[self.prediction]
        if not jnp.issubdtype(true.dtype, jnp.integer):
            raise ValueError(
                f"{type(self).__name__} counts classes, and {self.label!r} is {true.dtype}"
            )
        if predicted.ndim == true.ndim + 1:
            predicted = best_class(predicted)
        if predicted.shape != true.shape:
            raise ValueError(
                f"{type(self).__name__} compares {self.prediction!r} {list(predicted.shape)} with "
                f"{self.label!r} {list(true.shape)}: they must have one shape, or scores one axis "
                "more"
            )
        mask = batch["mask"].reshape(-1, *[1] * (true.ndim - 1)) > 0
        known = mask & (true != self.void) & (true >= 0) & (true < self.classes)
        known &= predicted != -1
        columns, size = self.classes + 1, self.classes * (self.classes + 1)
        is_class = (predicted >= 0) & (predicted < self.classes)
        column = jnp.where(is_class, predicted, self.classes).astype(jnp.int32)
        # An additional last bin collects the examples that do not count.
        pairs = jnp.where(known, true.astype(jnp.int32) * columns + column, size)
        counted = jnp.bincount(pairs.reshape(-1), length=size + 1)
        return counted[:-1].reshape(self.classes, columns)

    @abc.abstractmethod
    def value(self, totals: np.ndarray) -> float:
        """Computes the metric from the confusion matrix of a split.

        Args:
            totals: Sum of the confusion matrices of all batches, `[classes, classes + 1]`.

        Returns:
            The value of the metric.
        """


@dataclasses.dataclass(frozen=True)
class MeanIoU(_OfConfusion):
    """Mean over classes of intersection over union, from one confusion matrix over the split.

    A class that occurs neither in the labels nor in the predictions has no IoU and is left out.
    This is the measure of scene labelling, which differs from a mean over images.

    References:
        Everingham et al., The PASCAL visual object classes challenge, IJCV 2015, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np

    from rcnn_jax.metrics.best_class import best_class
        >>> from rcnn_jax.metrics.ratios import MeanIoU
        >>> metric = MeanIoU(classes=2, prediction="labels")
        >>> batch = {"label": jnp.array([0, 0, 1, 1]), "mask": jnp.ones(4)}
        >>> confusion = metric.sums({"labels": jnp.array([0, 1, 1, 1])}, batch)
        >>> confusion.tolist(), round(metric.value(np.asarray(confusion)), 3)
        ([[1, 1, 0], [0, 2, 0]], 0.583)
    """

    def value(self, totals: np.ndarray) -> float:
        """Returns the mean IoU in [0, 1]; NaN where no class occurs.

        Args:
            totals: Confusion matrix of the split, `[classes, classes + 1]`.
        """
        both = np.diagonal(totals)
        union = totals.sum(0)[: len(both)] + totals.sum(1) - both
        present = union > 0
        return float(np.mean(both[present] / union[present])) if present.any() else math.nan


@dataclasses.dataclass(frozen=True)
class MeanClassAccuracy(_OfConfusion):
    """Mean over classes of the share of their examples (or pixels) that is correct.

    A class that does not occur in the labels is left out.
    """

    def value(self, totals: np.ndarray) -> float:
        """Returns the mean accuracy in [0, 1]; NaN where no class occurs.

        Args:
            totals: Confusion matrix of the split, `[classes, classes + 1]`.
        """
        present = totals.sum(1) > 0
        right = np.diagonal(totals)[present] / totals.sum(1)[present]
        return float(np.mean(right)) if present.any() else math.nan


@dataclasses.dataclass(frozen=True)
class MacroF1(_OfConfusion):
    """Mean over classes of F1, twice the correct examples over true plus predicted examples.

    A class that occurs neither in the labels nor in the predictions is left out.
    """

    def value(self, totals: np.ndarray) -> float:
        """Returns the mean F1 in [0, 1]; NaN where no class occurs.

        Args:
            totals: Confusion matrix of the split, `[classes, classes + 1]`.
        """
        counted = totals.sum(0)[: len(totals)] + totals.sum(1)
        present = counted > 0
        f1 = 2 * np.diagonal(totals)[present] / counted[present]
        return float(np.mean(f1)) if present.any() else math.nan
