"""Protocols of a task, by who relies on them; `training` imports no task but is handed one.

`rcnn_jax.tasks.base.BaseTask` implements all of them but `init` and `loss`; its docstrings say
which methods a custom task overrides. Methods that return arrays are pure and run inside jit,
unless they are marked (host).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np

PyTree = Any
# An `ml_collections.ConfigDict`, or any other object with the keys of a config as attributes.
Config = Any
# {name: (sum, count)}: sums over examples add up over batches and devices, means do not.
Sums = Mapping[str, tuple[jax.Array, jax.Array]]


class LossOutput(flax.struct.PyTreeNode):
    """Result of the training loss of one batch.

    Attributes:
        total: Loss summed over the examples of the batch, `[]`.
        count: Number that `total` is divided by once both are summed over all devices, `[]`.
        model_state: Batch statistics after this batch.
        carry: Recurrent state that is handed to the next batch, `()` for a task without one.
        metrics: Pairs (sum, count) by name, which are logged beside the loss.
    """

    total: jax.Array
    count: jax.Array
    model_state: PyTree
    carry: PyTree = ()
    metrics: dict[str, tuple[jax.Array, jax.Array]] = flax.struct.field(default_factory=dict)


class EvaluatedBatch(flax.struct.PyTreeNode):
    """Result of the evaluation of one batch.

    Attributes:
        sums: Pairs (sum, count) by name, for metrics that are means.
        predictions: Predictions `[batch, ...]` by name; empty unless they are requested.
        counts: Sums over the batch by name, of any shape; empty unless they are requested.
        carry: Recurrent state that is handed to the next batch of the split.
    """

    sums: dict[str, tuple[jax.Array, jax.Array]]
    predictions: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    counts: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    carry: PyTree = ()


@runtime_checkable
class Trainable(Protocol):
    """Part of a task that the training step, its checks and its log rely on."""

    @property
    def unit(self) -> str:
        """Unit in which throughput is counted, such as "images" or "sentences"."""
        ...

    def init(self, key: jax.Array, batch: PyTree) -> tuple[PyTree, PyTree]:
        """Returns the initial parameters and batch statistics.

        Args:
            key: Random key, `[]`.
            batch: Batch whose shapes and types are those of a training batch.

        Returns:
            Pair (params, model_state).
        """
        ...

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks that a data set can be used by the task (host).

        Args:
            features: Features of the data set by name, each an `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: A data set with these features cannot be used.
        """
        ...

    def wanted_answers(self, features: Mapping[str, Any]) -> Mapping[str, tuple[str, int | None]]:
        """Returns the required length of the last axis of predictions (host).

        Args:
            features: Features of the data set by name, each an `rcnn_jax.data.spec.Feature`.

        Returns:
            By name of the prediction, a pair of the feature that the length is required for and the
            length. None accepts any length.
        """
        ...

    def initial_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first training batch.

        Args:
            batch_size: Number of rows of a batch.

        Returns:
            The recurrent state, `()` for a task without one.
        """
        ...

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree, key: jax.Array
    ) -> LossOutput:
        """Computes the training loss of a batch, summed over its examples.

        Args:
            params: Parameters of the model.
            model_state: Batch statistics of the model before the batch.
            carry: Recurrent state before the batch.
            batch: Batch with leaves `[batch, ...]`.
            key: Random key of the step, `[]`.

        Returns:
            The summed loss, its count, and the states after the batch.
        """
        ...


@runtime_checkable
class Evaluable(Protocol):
    """Part of a task that the evaluation of a split relies on."""

    def evaluation_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first batch of an evaluated split.

        Args:
            batch_size: Number of rows of a batch.

        Returns:
            The recurrent state, `()` for a task without one.
        """
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
        """Evaluates a batch.

        Args:
            params: Parameters of the model.
            model_state: Batch statistics of the model.
            carry: Recurrent state before the batch.
            batch: Batch with leaves `[batch, ...]`.
            predictions: Whether predictions are returned.
            counts: Whether the counts are returned whose totals `ratios` and `details` read.

        Returns:
            The sums of metrics, predictions and counts as requested, and the carry.
        """
        ...

    @property
    def has_ratios(self) -> bool:
        """Whether `ratios` is called with the totals of a whole split."""
        ...

    def ratios(self, counts: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Computes metrics that are not means over examples (host).

        Args:
            counts: Totals of the counts over the split, by name.

        Returns:
            Value of each metric by name.
        """
        ...

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Computes tables that show more than the metrics (host).

        Args:
            counts: Totals of the counts over the split, by name.
            features: Features of the data set by name, each an `rcnn_jax.data.spec.Feature`.

        Returns:
            Tables by name, each a list of dicts or of numbers.
        """
        ...

    @property
    def evaluates_on_host(self) -> bool:
        """Whether `evaluate` is called with the predictions of a whole split."""
        ...

    @property
    def keeps(self) -> tuple[str, ...]:
        """Names of the features of a batch, besides `mask`, that `evaluate` and `tables` read."""
        ...

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Computes metrics that cannot be compiled (host).

        Args:
            predictions: One pair (predictions, kept features) for each batch of the split.

        Returns:
            Value of each metric by name.
        """
        ...

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Computes tables that show more than `evaluate` does (host).

        Args:
            predictions: One pair (predictions, kept features) for each batch of the split.

        Returns:
            Tables by name.
        """
        ...


class Metric(Protocol):
    """Metric that a config adds to those of a task by naming its class in `config.metrics.NAME`."""

    def sums(self, predictions: Mapping[str, jax.Array], batch: PyTree) -> PyTree:
        """Returns sums over the examples of a batch whose `mask` is not 0; pure, inside jit.

        Args:
            predictions: Predictions of the task, `[batch, ...]` by name.
            batch: Batch with leaves `[batch, ...]`.

        Returns:
            A tree of arrays that add up over batches.
        """
        ...

    def value(self, totals: PyTree) -> float:
        """Computes the metric of a split (host).

        Args:
            totals: Sums over the whole split, with the structure that `sums` returns, as float64
                arrays.

        Returns:
            Value of the metric.
        """
        ...


@runtime_checkable
class Answering(Protocol):
    """Part of a task that `rcnn_jax.predict` relies on."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the features of a file that an answer needs; `()` if the task takes no files."""
        ...

    def answering(self, n_best: int) -> "Task":
        """Returns the task in a form that gives several answers to an example.

        Args:
            n_best: Number of answers to each example.

        Returns:
            The task in that form.
        """
        ...

    def predict(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Computes the predictions for a batch.

        Args:
            params: Parameters of the model.
            model_state: Batch statistics of the model.
            batch: Batch with leaves `[batch, ...]`.

        Returns:
            Predictions `[batch, ...]` by name.
        """
        ...

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """Formats predictions as readable answers (host).

        Args:
            predicted: Predictions `[batch, ...]` by name.
            features: Features of the data set by name, each an `rcnn_jax.data.spec.Feature`.
            n_best: Number of answers to each example.

        Returns:
            For each example its answers, the best first.
        """
        ...

    @property
    def has_files(self) -> bool:
        """Whether `files` is called."""
        ...

    def files(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> Sequence[Mapping[str, bytes]]:
        """Makes files that show the answers to each example (host).

        Args:
            predicted: Predictions `[batch, ...]` by name.
            features: Features of the data set by name, each an `rcnn_jax.data.spec.Feature`.
            n_best: Number of answers to each example.

        Returns:
            For each example the contents of its files by file name.
        """
        ...


@runtime_checkable
class Iterating(Protocol):
    """Part of a task that `rcnn_jax.iterations` varies by `dataclasses.replace`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def model(self) -> Any:
        """The model; a model that iterates has an attribute `steps`."""
        ...

    @property
    def call(self) -> dict[str, Any]:
        """Further keyword arguments of the model's call in evaluation."""
        ...

    @property
    def train_call(self) -> dict[str, Any]:
        """Further keyword arguments of the model's call in training."""
        ...


@runtime_checkable
class Task(Trainable, Evaluable, Answering, Iterating, Protocol):
    """Complete interface of a task, which defines what a batch means."""
