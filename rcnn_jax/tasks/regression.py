"""Regression: predicts numbers for each example by mean squared error."""

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
    where the target is `[batch]` or `[batch, numbers]`. The model returns `[batch, numbers]`.

    Attributes:
        target: Name of the feature that is predicted.
    """

    target: str = "target"

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that there are both features, and as many numbers as the model has outputs.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A feature is missing, or the numbers of targets and outputs differ.
        """
        self.require_inputs(features, "regression")
        self.require_features(features, "regression", (self.target,), "; see config.task.target")
        numbers = (*features[self.target].shape, 1)[0]
        outputs = getattr(self.model, "classes", numbers)
        if len(features[self.target].shape) > 1 or outputs != numbers:
            raise ValueError(
                f"config.model.classes={outputs}, but an example of {self.target!r} has the shape "
                f"{features[self.target].shape}."
            )

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for inputs of the shape that the training transforms produce.

        Args:
            key: Random key for the transforms and the initial parameters.
            batch: Dict of arrays `[batch, ...]` as the data set stores them.

        Returns:
            A pair (params, model_state).
        """
        inputs, arguments = self.model_inputs(self.training_batch(batch, key))
        return self.init_model(key, inputs, **arguments)

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """Returns the mean squared error over the numbers of an example, summed over the batch.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state, which is returned unchanged.
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.
            key: Random key for the transforms and for dropout.

        Returns:
            The total and count of the loss, and the updated model state.
        """
        transform_key, dropout_key = jax.random.split(key)
        batch = self.training_batch(batch, transform_key)
        inputs, arguments = self.model_inputs(batch)
        answers, model_state = self.apply_model_in_training(
            params, model_state, inputs, dropout_key, **arguments
        )
        total, count = self.sums(answers, batch)["mse"]
        return LossOutput(total=total, count=count, model_state=model_state, carry=carry)

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns the predicted numbers; see `BaseTask.predict`.

        Returns:
            `numbers` `[batch, numbers]`.
        """
        inputs, arguments = self.model_inputs(self.evaluation_transform(batch, None))
        return {"numbers": self.apply_model(params, model_state, inputs, **arguments)}

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns the mean squared and mean absolute error; see `BaseTask.metrics`.

        Returns:
            `mse` and `mae`, each as (sum, count).
        """
        answers = self.predict(params, model_state, batch)["numbers"]
        return self.sums(answers, self.evaluation_transform(batch, None))

    def sums(self, answers: jax.Array, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns the sums over a batch, in training and in evaluation.

        Args:
            answers: Predicted numbers, `[batch, numbers]`.
            batch: Dict of arrays `[batch, ...]` after the transforms, with `mask` and the feature
                that `target` names.

        Returns:
            A dict from `mse`, which is minimised, and `mae` to (sum, count), both `[]`.
        """
        target = batch[self.target].astype(answers.dtype)
        difference = answers - target.reshape(answers.shape)
        mask = batch["mask"].astype(answers.dtype)
        return {
            name: (jnp.sum(mask * values.mean(axis=-1)), mask.sum())
            for name, values in (("mse", difference**2), ("mae", jnp.abs(difference)))
        }
