"""Tasks that call the model once and add up over its answers."""

import abc
import dataclasses
from typing import Any

import jax

from rcnn_jax.tasks.base import BaseTask, Batch, LossOutput, PyTree, wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class SummedTask(BaseTask, abc.ABC):
    """What is the same where loss and metrics are sums over the logits of one call.

    A subclass says what the model is asked, `_question`, and what is added up, `_sums`.
    """

    @abc.abstractmethod
    def _question(self, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """What the model reads, and further arguments of its call."""

    @abc.abstractmethod
    def _sums(self, logits: Any, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Name -> (sum, count); `loss` is what is minimised."""

    def init(self, key: jax.Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Initialises the model."""
        inputs, told = self._question(self._training_batch(batch, key))
        return self._initial(key, inputs, **told)

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: Batch, key: jax.Array
    ) -> LossOutput:
        """The sum and the count called `loss`; the other sums are logged beside it."""
        transform_key, dropout_key = jax.random.split(key)
        batch = self._training_batch(batch, transform_key)
        inputs, told = self._question(batch)
        logits, model_state = self._answers_in_training(
            params, model_state, inputs, dropout_key, **told
        )
        sums = self._sums(wide(logits), batch)
        total, count = sums.pop("loss")
        return LossOutput(
            total=total, count=count, model_state=model_state, carry=carry, metrics=sums
        )

    def _logits(self, params: PyTree, model_state: PyTree, batch: Batch) -> tuple[Any, Batch]:
        """The model's answers in evaluation, and the batch as its transform made it."""
        batch = self.evaluation_transform(batch, None)
        inputs, told = self._question(batch)
        return wide(self._answers(params, model_state, inputs, **told)), batch

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """The same sums in evaluation."""
        return self._sums(*self._logits(params, model_state, batch))
