"""Numbers for each example: mean squared error and predictions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rcnn_jax.tasks.base import Batch, LossOutput, PyTree
from rcnn_jax.tasks.inputs import InputTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(InputTask):
    """Predicts the numbers of a feature.

    A batch has `mask` `[batch]` (0 for padding) and the features that `inputs` and `target` name,
    the target `[batch]` or `[batch, numbers]`. The model answers `[batch, numbers]`.

    Attributes:
        target: Name of the feature that is to be predicted.
    """

    target: str = "target"

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are both features, and as many numbers as the model answers with.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.

        Raises:
            ValueError: A feature is missing, or the numbers differ.
        """
        self.require_inputs(features, "regression")
        self.require_features(features, "regression", (self.target,), "; see config.task.target")
        numbers = (*features[self.target].shape, 1)[0]
        own = getattr(self.model, "classes", numbers)
        if len(features[self.target].shape) > 1 or own != numbers:
            raise ValueError(
                f"config.model.classes={own}, but an example of {self.target!r} has the shape "
                f"{features[self.target].shape}."
            )

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for inputs of the shape that the transforms give."""
        inputs, arguments = self.model_inputs(self.training_batch(batch, key))
        return self.init_model(key, inputs, **arguments)

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """Mean squared error over the numbers of an example, summed over the batch."""
        transform_key, dropout_key = jax.random.split(key)
        batch = self.training_batch(batch, transform_key)
        inputs, arguments = self.model_inputs(batch)
        answers, model_state = self.apply_model_in_training(
            params, model_state, inputs, dropout_key, **arguments
        )
        total, count = self.sums(answers, batch)["mse"]
        return LossOutput(total=total, count=count, model_state=model_state, carry=carry)

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """The predicted numbers.

        Returns:
            `numbers` `[batch, numbers]`.
        """
        inputs, arguments = self.model_inputs(self.evaluation_transform(batch, None))
        return {"numbers": self.apply_model(params, model_state, inputs, **arguments)}

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Mean squared and mean absolute error."""
        answers = self.predict(params, model_state, batch)["numbers"]
        return self.sums(answers, self.evaluation_transform(batch, None))

    def sums(self, answers: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """What is added up over a batch, in training and in evaluation.

        Args:
            answers: `[batch, numbers]`.
            batch: Behind the transforms, with `target` and `mask`.

        Returns:
            `mse`, which is minimised, and `mae`: (sum, count).
        """
        target = batch[self.target].astype(answers.dtype)
        away = answers - target.reshape(answers.shape)
        mask = batch["mask"].astype(answers.dtype)
        return {
            name: (jnp.sum(mask * values.mean(axis=-1)), mask.sum())
            for name, values in (("mse", away**2), ("mae", jnp.abs(away)))
        }
