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

    def metrics(self, params: PyTree, model_state: PyTree, batch: PyTree) -> Sums:
        """Returns the evaluation metrics of a batch as sums and counts."""
        ...

    def predict(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Returns predictions `[batch, ...]`."""
        ...

    @property
    def evaluates_on_host(self) -> bool:
        """Whether `evaluate` is to be called with the predictions of a whole split."""
        ...

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Returns metrics that cannot be compiled, from pairs (predictions, batch)."""
        ...

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Returns tables that say more than `evaluate`, from the same pairs."""
        ...

    def counts(self, params: PyTree, model_state: PyTree, batch: PyTree) -> Mapping[str, jax.Array]:
        """Returns sums over a batch, of any shape, that `details` reads the totals of."""
        ...

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns tables that say more than the metrics: lists of dicts, or of numbers."""
        ...
