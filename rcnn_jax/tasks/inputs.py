"""What the tasks share whose model reads one feature, as `config.task` names it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rcnn_jax.tasks.base import BaseTask, Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputTask(BaseTask):
    """A task whose model reads the feature that `inputs` names.

    Attributes:
        inputs: Name of the feature that the model reads, `[batch, ...]`.
        lengths: Name of the feature that holds how many steps of each input count, `[batch]`
            integers; the model is called with it as `lengths`. Empty: the model is called without.
    """

    inputs: str = "inputs"
    lengths: str = ""

    def model_call_arguments(self) -> tuple[str, ...]:
        """`lengths`, where the config names a feature that holds them."""
        return (*super().model_call_arguments(), *(["lengths"] if self.lengths else []))

    def model_inputs(self, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        """The input of the model and, where the config names them, its `lengths`.

        Raises:
            ValueError: What is predicted has no lengths, and no encoder adds them.
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
        """Checks that the data set has what the model reads; for `check`.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.
            what: What needs them, the beginning of the sentence.

        Raises:
            ValueError: A feature is missing, or the lengths are no integers.
        """
        self.require_features(features, what, (self.inputs,), "; see config.task.inputs")
        if self.lengths:
            self.require_features(features, what, (self.lengths,), "; see config.task.lengths")
            self.require_integers(features, what, self.lengths, 0, "one integer")

    def require_integers(
        self, features: Mapping[str, Any], what: str, name: str, axes: int, wanted: str
    ) -> None:
        """Checks that a feature holds integers; for `check`.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.
            what: What needs them, the beginning of the sentence.
            name: Of the feature.
            axes: How many axes an example of it has.
            wanted: The same in words.

        Raises:
            ValueError: It has another type, or another number of axes.
        """
        feature = features[name]
        if len(feature.shape) != axes or not np.issubdtype(np.dtype(feature.dtype), np.integer):
            raise ValueError(
                f"{what} needs {wanted} in {name!r}, an example has {feature.dtype} of the shape "
                f"{feature.shape}."
            )
