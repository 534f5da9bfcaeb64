"""Tasks whose model reads one feature, which `config.task` names."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rcnn_jax.tasks.base import BaseTask, Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputTask(BaseTask):
    """Task whose model reads the feature that `inputs` names.

    Attributes:
        inputs: Name of the feature that the model reads, `[batch, ...]`.
        lengths: Name of the feature that holds the number of valid steps of each input, integers
            `[batch]`, which the model's call takes as `lengths`. Empty: the call has no lengths.
    """

    inputs: str = "inputs"
    lengths: str = ""

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns `lengths` where the config names a feature that holds them."""
        return (*super().model_call_arguments(), *(["lengths"] if self.lengths else []))

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        """Returns the input of the model and, where the config names them, its `lengths`.

        Args:
            batch: Dict of arrays `[batch, ...]` after the transforms.

        Returns:
            A pair of the model's input and a dict of further arguments of its call.

        Raises:
            ValueError: The batch has no lengths, because no encoder adds them to predicted files.
        """
        if not self.lengths:
            return batch[self.inputs], {}
        if self.lengths not in batch:
            raise ValueError(
                f"the model reads the lengths {self.lengths!r}, see config.task.lengths, and the "
                f"examples have {', '.join(map(repr, batch))}: an encoder adds them, such as "
                "rcnn_jax.data.encoders.padding:Padded, or the data set's read_file."
            )
        return batch[self.inputs], {"lengths": batch[self.lengths]}

    def require_inputs(self, features: Mapping[str, Any], what: str) -> None:
        """Checks that the data set has the features that the model reads; a helper for `check`.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.
            what: Name of what needs the features, which begins the message.

        Raises:
            ValueError: A feature is missing, or the lengths are not integers.
        """
        self.require_features(features, what, (self.inputs,), "; see config.task.inputs")
        if self.lengths:
            self.require_features(features, what, (self.lengths,), "; see config.task.lengths")
            self.require_integers(features, what, self.lengths, 0, "one integer")

    def require_integers(
        self, features: Mapping[str, Any], what: str, name: str, axes: int, wanted: str
    ) -> None:
        """Checks that a feature holds integers; a helper for `check`.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.
            what: Name of what needs the feature, which begins the message.
            name: Name of the feature to check.
            axes: Number of axes that one example of the feature must have.
            wanted: Description of the expected value for the message, such as "one integer".

        Raises:
            ValueError: The feature has another dtype or another number of axes.
        """
        feature = features[name]
        if len(feature.shape) != axes or not np.issubdtype(np.dtype(feature.dtype), np.integer):
            raise ValueError(
                f"{what} needs {wanted} in {name!r}, an example has {feature.dtype} of the shape "
                f"{feature.shape}."
            )
