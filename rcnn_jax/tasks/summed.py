"""Tasks that call the model once and add up over its answers."""

import abc
import dataclasses
from typing import Any

import jax

from rcnn_jax.tasks.base import BaseTask, Batch, LossOutput, PyTree, wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class SummedTask(BaseTask, abc.ABC):
    """What is the same where loss and metrics are sums over the logits of one call.

    A subclass says what the model reads, `model_inputs`, and what is added up, `sums`.
    """

    @abc.abstractmethod
    def model_inputs(self, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """What the model is called with. Pure, inside jit, in training and in evaluation.

        Args:
            batch: Leaves `[batch, ...]` behind the transforms, with a `mask`.

        Returns:
            The input of the model, and further arguments of its call by name.
        """

    @abc.abstractmethod
    def sums(self, logits: Any, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """What is added up over a batch. Pure, inside jit, in training and in evaluation.

        Args:
            logits: What the model returns, `[batch, ...]`, in float32 or wider.
            batch: The batch that the model saw; rows whose `mask` is 0 are in no sum.

        Returns:
            name -> (sum, count), both `[]`. `loss` is minimised, the others are metrics.
        """

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model for a batch as the training transforms make it."""
        inputs, arguments = self.model_inputs(self.training_batch(batch, key))
        return self.init_model(key, inputs, **arguments)

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """The sum and the count called `loss`; the other sums are logged beside it."""
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
        """Calls the model in evaluation; for `metrics`, `predict` and `counts`.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            batch: Leaves `[batch, ...]`, as the data set stores them.

        Returns:
            What the model returns, in float32 or wider, and the batch behind the transforms.
        """
        batch = self.evaluation_transform(batch, None)
        inputs, arguments = self.model_inputs(batch)
        return wide(self.apply_model(params, model_state, inputs, **arguments)), batch

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The same sums in evaluation."""
        return self.sums(*self.logits(params, model_state, batch))
