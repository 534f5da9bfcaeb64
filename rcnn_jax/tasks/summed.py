"""Tasks that call the model once and add up losses and metrics over its outputs."""

import abc
import dataclasses
from typing import Any

import jax

from rcnn_jax.tasks.base import BaseTask, Batch, LossOutput, PyTree, wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class SummedTask(BaseTask, abc.ABC):
    """Implements tasks whose loss and metrics are sums over the logits of one call.

    A subclass defines `model_inputs`, the arguments of the model's call, and `sums`, the quantities
    that are added up.
    """

    @abc.abstractmethod
    def model_inputs(self, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """Returns the arguments of the model's call, in training and evaluation. Pure, inside jit.

        Args:
            batch: Dict of arrays `[batch, ...]` after the transforms, with a `mask`.

        Returns:
            A pair of the model's input and a dict of further arguments of its call.
        """

    @abc.abstractmethod
    def sums(self, logits: Any, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns the sums over a batch. Pure, inside jit, in training and in evaluation.

        Args:
            logits: Output of the model, `[batch, ...]`, in float32 or wider.
            batch: The batch that the model saw; rows whose `mask` is 0 enter no sum.

        Returns:
            A dict from names to (sum, count), both `[]`. `loss` is minimised, the others are
            metrics.
        """

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for a batch as the training transforms produce it.

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
        """Returns the sum and count named `loss`, and the other sums as metrics for the log.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state, which is returned unchanged.
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.
            key: Random key for the transforms and for dropout.

        Returns:
            The total and count of the loss, the updated model state, and the metrics.
        """
        transform_key, dropout_key = jax.random.split(key)
        batch = self.training_batch(batch, transform_key)
        inputs, arguments = self.model_inputs(batch)
        logits, model_state = self.apply_model_in_training(
            params, model_state, inputs, dropout_key, **arguments
        )
        sums = self.sums(wide(logits), batch)
        total, count = sums.pop("loss")
        return LossOutput(
            total=total, count=count, model_state=model_state, carry=carry, metrics=sums
        )

    def logits(self, params: PyTree, model_state: PyTree, batch: Batch) -> tuple[Any, Batch]:
        """Calls the model in evaluation; a helper for `metrics`, `predict` and `counts`.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            batch: Dict of arrays `[batch, ...]` as the data set stores them.

        Returns:
            The model's output in float32 or wider, and the batch after the transforms.
        """
        batch = self.evaluation_transform(batch, None)
        inputs, arguments = self.model_inputs(batch)
        return wide(self.apply_model(params, model_state, inputs, **arguments)), batch

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns `sums` of the model's logits in evaluation; see `BaseTask.metrics`."""
        return self.sums(*self.logits(params, model_state, batch))
