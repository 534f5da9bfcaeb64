"""Labels that are no class of the model: refused, or the end of training, never left out."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_class_feature(features: Mapping[str, Any], name: str, what: str, hint: str) -> None:
    """Checks that an example has one integer as its label.

    Args:
        features: `rcnn_jax.data.spec.Feature` by name.
        name: The feature.
        what: What needs it, the beginning of the message.
        hint: The end of the message.

    Raises:
        ValueError: It has another shape or type.
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
        answers: How many logits it gives.
        wanted: How many classes the label has; None: not known.
        name: The feature that holds the label.
        model: The model, for the message.

    Raises:
        ValueError: There are too few.
    """
    if wanted is not None and answers < wanted:
        raise ValueError(
            f"{type(model).__name__} answers with {answers} {'logits' if answers > 1 else 'logit'},"
            f" but the data set's {name!r} has {wanted} classes."
        )
