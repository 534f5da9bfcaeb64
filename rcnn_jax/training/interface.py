"""What is expected of a task, by who expects it: `training` imports none, it is handed them.

`rcnn_jax.tasks.base.BaseTask` has all of it but `init` and `loss`; its docstrings say what a task
of one's own overrides. Methods that return arrays are pure and run inside jit, unless they say that
they run on the host.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np

PyTree = Any
# An `ml_collections.ConfigDict`, or anything else with a config's keys as attributes.
Config = Any
# {name: (sum, count)}: sums over examples add up over batches and devices, means do not.
Sums = Mapping[str, tuple[jax.Array, jax.Array]]


class LossOutput(flax.struct.PyTreeNode):
    """What a batch gives in training.

    Attributes:
        total: `[]`, summed over the examples of the batch.
        count: `[]`, what `total` is divided by, once both are summed over all devices.
        model_state: Batch statistics after this batch.
        carry: Recurrent state handed to the next batch, `()` where there is none.
        metrics: name -> (sum, count), logged beside the loss.
    """

    total: jax.Array
    count: jax.Array
    model_state: PyTree
    carry: PyTree = ()
    metrics: dict[str, tuple[jax.Array, jax.Array]] = flax.struct.field(default_factory=dict)


class EvaluatedBatch(flax.struct.PyTreeNode):
    """What the evaluation of a batch gives.

    Attributes:
        sums: name -> (sum, count): metrics that are means.
        predictions: name -> `[batch, ...]`; empty unless they are wanted.
        counts: name -> sums over the batch, of any shape; empty unless they are wanted.
        carry: Recurrent state handed to the next batch of the split.
    """

    sums: dict[str, tuple[jax.Array, jax.Array]]
    predictions: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    counts: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    carry: PyTree = ()


@runtime_checkable
class Trainable(Protocol):
    """What the training step, its checks and its log need."""

    @property
    def unit(self) -> str:
        """What is counted in a second: "images", "sentences"."""
        ...

    def init(self, key: jax.Array, batch: PyTree) -> tuple[PyTree, PyTree]:
        """Returns the initial (params, model_state) for batches like `batch`."""
        ...

    def check(self, features: Mapping[str, Any]) -> None:
        """Raises a `ValueError` where a data set with these features cannot be used (host)."""
        ...

    def wanted_answers(self, features: Mapping[str, Any]) -> Mapping[str, tuple[str, int | None]]:
        """Returns how long the last axis of predictions must be, by name (host).

        The length comes with the feature it is wanted for; None is any length.
        """
        ...

    def initial_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first batch, `()` where there is none."""
        ...

    def loss(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree, key: jax.Array
    ) -> LossOutput:
        """Returns the training loss of a batch, summed over its examples."""
        ...


@runtime_checkable
class Evaluable(Protocol):
    """What the evaluation of a split needs."""

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
        """Returns sums of metrics, predictions and counts where they are wanted, and the carry.

        `ratios` and `details` read the totals of the counts.
        """
        ...

    @property
    def has_ratios(self) -> bool:
        """Whether `ratios` is to be called with the totals of a whole split."""
        ...

    def ratios(self, counts: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns metrics that are no means over examples, from the totals of the counts (host)."""
        ...

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns tables that say more than the metrics: lists of dicts or of numbers (host)."""
        ...

    @property
    def evaluates_on_host(self) -> bool:
        """Whether `evaluate` is to be called with the predictions of a whole split."""
        ...

    @property
    def keeps(self) -> tuple[str, ...]:
        """Features of a batch, besides `mask`, that `evaluate` and `tables` read."""
        ...

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Returns metrics that cannot be compiled, from pairs (predictions, batch) (host)."""
        ...

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Returns tables that say more than `evaluate`, from the same pairs (host)."""
        ...


class Metric(Protocol):
    """A metric that the config adds to a task, as `config.metrics.NAME` names its class."""

    def sums(self, predictions: Mapping[str, jax.Array], batch: PyTree) -> PyTree:
        """Returns sums over the examples of a batch whose `mask` is not 0; pure, inside jit."""
        ...

    def value(self, totals: PyTree) -> float:
        """Returns the metric from the sums of a whole split, float64 arrays on the host."""
        ...


@runtime_checkable
class Answering(Protocol):
    """What `rcnn_jax.predict` needs."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a file that it needs to answer for it; () where it answers for none."""
        ...

    def answering(self, n_best: int) -> "Task":
        """Returns the task in a form that gives so many answers to an example."""
        ...

    def predict(self, params: PyTree, model_state: PyTree, batch: PyTree) -> dict[str, jax.Array]:
        """Returns predictions `[batch, ...]`."""
        ...

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """Returns for each example its answers, for people, the best first (host)."""
        ...

    @property
    def has_files(self) -> bool:
        """Whether `files` is to be called."""
        ...

    def files(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> Sequence[Mapping[str, bytes]]:
        """Returns for each example the files that show its answers, {name: content} (host)."""
        ...


@runtime_checkable
class Iterating(Protocol):
    """What `rcnn_jax.iterations` varies: fields of a dataclass, for `dataclasses.replace`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def model(self) -> Any:
        """The model; one that iterates has an attribute `steps`."""
        ...

    @property
    def call(self) -> dict[str, Any]:
        """Further keyword arguments of the model's call in evaluation."""
        ...

    @property
    def train_call(self) -> dict[str, Any]:
        """The same in training."""
        ...


@runtime_checkable
class Task(Trainable, Evaluable, Answering, Iterating, Protocol):
    """What a batch means: all that is expected of a task."""
