"""What `training` expects of a task: it imports no task and no model, it is handed them."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

PyTree = Any
# An `ml_collections.ConfigDict`, or anything else with a config's keys as attributes.
Config = Any
# {name: (sum, count)}: sums over examples add up over batches and devices, means do not.
Sums = Mapping[str, tuple[jax.Array, jax.Array]]


class LossOutput(Protocol):
    """What `Task.loss` returns: a pytree."""

    total: jax.Array  # [] sum over the batch of what is minimised
    count: jax.Array  # [] what it is divided by: examples, or tokens
    model_state: PyTree  # batch statistics after this batch
    carry: PyTree  # recurrent state handed to the next batch
    metrics: Sums


class EvaluatedBatch(Protocol):
    """What `Task.evaluate_batch` returns: a pytree."""

    sums: Sums
    predictions: Mapping[str, jax.Array]  # `[batch, ...]`, empty unless wanted
    counts: Mapping[str, jax.Array]  # sums over the batch, of any shape, empty unless wanted
    carry: PyTree  # recurrent state handed to the next batch of the split


class Metric(Protocol):
    """A metric that the config adds to a task, as `config.metrics.NAME` names its class."""

    def sums(self, predictions: Mapping[str, jax.Array], batch: PyTree) -> PyTree:
        """Returns sums over the examples of a batch whose `mask` is not 0; pure, inside jit."""
        ...

    def value(self, totals: PyTree) -> float:
        """Returns the metric from the sums of a whole split, float64 arrays on the host."""
        ...


class Task(Protocol):
    """What a batch means. All methods but `evaluate` and `details` are pure and run inside jit."""

    unit: str  # what is counted in a second: "images", "sentences"

    def init(self, key: jax.Array, batch: PyTree) -> tuple[PyTree, PyTree]:
        """Returns the initial (params, model_state) for batches like `batch`."""
        ...

    def check(self, features: Mapping[str, Any]) -> None:
        """Raises a `ValueError` where a data set with these features cannot be used."""
        ...

    def initial_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first batch, `()` where there is none."""
        ...

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree, key: jax.Array
    ) -> LossOutput:
        """Returns the training loss of a batch, summed over its examples."""
        ...

    def evaluation_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first batch of an evaluated split."""
        ...

    def evaluate_batch(
        self,
        params: PyTree,
        model_state: PyTree,
        carry: PyTree,
        batch: PyTree,
        *,
        predictions: bool,
        counts: bool,
    ) -> EvaluatedBatch:
        """Returns metrics, and predictions and counts where wanted, and the carry after a batch."""
        ...

    def predict(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Returns predictions `[batch, ...]`."""
        ...

    @property
    def evaluates_on_host(self) -> bool:
        """Whether `evaluate` is to be called with the predictions of a whole split."""
        ...

    @property
    def keeps(self) -> tuple[str, ...]:
        """Features of a batch, besides `mask`, that `evaluate` and `tables` read on the host."""
        ...

    @property
    def has_ratios(self) -> bool:
        """Whether `ratios` is to be called with the counts of a whole split."""
        ...

    def ratios(self, counts: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns metrics that are no means over examples, from the totals of the counts."""
        ...

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Returns metrics that cannot be compiled, from pairs (predictions, batch)."""
        ...

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Returns tables that say more than `evaluate`, from the same pairs."""
        ...

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns tables that say more than the metrics: lists of dicts, or of numbers."""
        ...
