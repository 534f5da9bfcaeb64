"""Checks that labels are classes of the model: others are rejected or end training."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_class_feature(features: Mapping[str, Any], name: str, what: str, hint: str) -> None:
    """Checks that an example has one integer as its label.

    Args:
        features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.
        name: Name of the feature that holds the label.
        what: Name of what needs the label, which begins the message.
        hint: End of the message, such as `; see config.task.label`.

    Raises:
        ValueError: The feature has another shape or dtype.
    """
    feature = features[name]
    if feature.shape != () or np.dtype(feature.dtype).kind not in "iu":
        raise ValueError(
            f"{what} needs one integer in {name!r}, an example has {feature.dtype}"
            f"{list(feature.shape)}{hint}."
        )


def check_number(answers: int, wanted: int | None, name: str, model: Any) -> None:
    """Checks that a model has an answer for each class of a label.

    Args:
        answers: Number of logits that the model returns.
        wanted: Number of classes of the label; None where it is unknown, which passes.
        name: Name of the feature that holds the label, for the message.
        model: The model, whose type appears in the message.

    Raises:
        ValueError: The model returns fewer logits than there are classes.
    """
    if wanted is not None and answers < wanted:
        raise ValueError(
            f"{type(model).__name__} answers with {answers} {'logits' if answers > 1 else 'logit'},"
            f" but the data set's {name!r} has {wanted} classes."
        )
