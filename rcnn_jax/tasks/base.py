"""What all tasks share; `rcnn_jax.training.interface.Task` states what training expects."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.errors import nearest
from rcnn_jax.layers.randomness import example_keys
from rcnn_jax.training.interface import EvaluatedBatch, LossOutput

__all__ = ["BaseTask", "Batch", "EvaluatedBatch", "LossOutput", "PyTree", "Transform",
           "found_answers", "real_examples", "wide"]  # fmt: skip

PyTree = Any
Batch = dict[str, jax.Array]
Transform = Callable[[Batch, jax.Array | None], Batch]

# Methods of tasks, by the names that they had first.
_RENAMED = {
    "_question": "model_inputs",
    "_sums": "sums",
    "_logits": "logits",
    "_initial": "init_model",
    "_answers": "apply_model",
    "_answers_in_training": "apply_model_in_training",
    "_training_batch": "training_batch",
    "_require": "require_features",
    "_asked_of_model": "model_call_arguments",
    "_evaluated_images": "evaluated_images",
    "_names": "class_names",
}


def wide(logits: jax.Array) -> jax.Array:
    """Logits in float32 or wider: a sum in bfloat16 stops counting at 256."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def real_examples(predictions: Iterable[tuple[dict, dict]]) -> list[int]:
    """The numbers of the real examples in their split; one that could not be read has one, too.

    Args:
        predictions: Pairs (predictions, batch) of the whole split, in its order.
    """
    masks = [np.asarray(batch["mask"]) for _, batch in predictions]
    return np.flatnonzero(np.concatenate(masks) > 0).tolist() if masks else []


def found_answers(
    answers: Sequence[dict[str, Any]], probability: str, n_best: int
) -> list[dict[str, Any]]:
    """The best answer, and of the next ones those that a search has found.

    It may find fewer than it was asked for: what is no answer has no probability.

    Args:
        answers: To one example, the best first.
        probability: The key of an answer's probability.
        n_best: How many there are to be, at most.
    """
    return [*answers[:1], *(own for own in answers[1:n_best] if own[probability] > 0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseTask:
    """A model, the transforms of its input, and defaults of all that is asked of a task.

    A task has `init` and `loss`, and overrides what else it has to say: `metrics`, `predict`,
    `counts` with `details` or `ratios`, `evaluates_on_host` with `evaluate`, `tables` and `keeps`,
    `reads` with `answers` and `files`. `rcnn_jax.tasks.summed.SummedTask` writes most of it for a
    task that calls its model once. See `README.md` in this folder.

    Attributes:
        model: A Linen module.
        train_transform: From (batch, one random key an example) to the batch the model sees.
        evaluation_transform: The same for evaluation, where the keys are None.
        call: Further keyword arguments of the model's call in evaluation, such as `steps`.
        train_call: The same in training.
        unit: What is counted in a second, for the log: "examples", "sentences".
    """

    model: nn.Module
    train_transform: Transform
    evaluation_transform: Transform
    call: dict[str, Any] = dataclasses.field(default_factory=dict)
    train_call: dict[str, Any] = dataclasses.field(default_factory=dict)
    unit: str = "examples"

    def __post_init__(self):
        accepted = list(inspect.signature(type(self.model).__call__).parameters.values())
        if any(p.kind is p.VAR_KEYWORD for p in accepted):
            return
        # Behind the model itself and its input.
        hints = importing.arguments(type(self.model).__call__)
        names = [p.name for p in accepted[2:] if p.name != "train"]
        given = [*self.call.items(), *self.train_call.items()]
        for name, value in (*given, *((name, True) for name in self.model_call_arguments())):
            model = type(self.model).__name__
            if name not in names:
                raise ValueError(
                    f"the call of {model} takes no argument {name!r}: {nearest(name, names)}."
                )
            if not importing.accepts(hints[name], value):
                raise ValueError(
                    f"{name}={value!r}: the call of {model} takes a value of type "
                    f"{importing.readable(hints[name])}."
                )

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Refuses a method that tasks were once extended by: it would never be called."""
        super().__init_subclass__(**arguments)
        for old, new in _RENAMED.items():
            if any(old in vars(base) for base in cls.__mro__):
                raise TypeError(
                    f"the task {cls.__module__}:{cls.__name__} defines {old!r}, which is never "
                    f"called: the method is called {new!r} now"
                )

    def model_call_arguments(self) -> tuple[str, ...]:
        """Names of further arguments that the task itself hands to the model's call.

        Called once, when the task is made: a model whose call does not take them is refused.
        """
        return ()

    def require_features(
        self, features: Mapping[str, Any], what: str, names: Sequence[str], hint: str = ""
    ) -> None:
        """Checks that a data set has features; for `check`.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.
            what: What needs them, the beginning of the sentence.
            names: The features.
            hint: The end of the sentence, such as `; see config.task.label`.

        Raises:
            ValueError: A feature is missing; the sentence names it and those that there are.
        """
        for name in names:
            if name not in features:
                raise ValueError(
                    f"{what} needs a feature {name!r}, the data set has "
                    f"{', '.join(map(repr, features))}{hint}."
                )

    def training_batch(self, batch: Batch, key: jax.Array) -> Batch:
        """Makes the batch that the model sees in training; inside jit, in `init` and `loss`.

        Args:
            batch: Leaves `[batch, ...]`, as the data set stores them, with a `mask`.
            key: Random key of the batch. Each example gets its own, whatever device it lies on.

        Returns:
            The batch behind `train_transform`.
        """
        return self.train_transform(batch, example_keys(key, batch["mask"].shape[0]))

    def init_model(self, key: jax.Array, inputs: Any, **arguments: Any) -> tuple[PyTree, PyTree]:
        """Initialises the model; for `init`.

        Args:
            key: Random key.
            inputs: What the model reads, of the shapes that it is called with later.
            **arguments: Further arguments of its call.

        Returns:
            (params, model_state); `model_state` holds the other collections, such as
            `batch_stats`.
        """
        variables = dict(self.model.init(key, inputs, train=False, **arguments))
        return variables.pop("params"), variables

    def apply_model_in_training(
        self, params: PyTree, model_state: PyTree, inputs: Any, key: jax.Array, **arguments: Any
    ) -> tuple[Any, PyTree]:
        """Calls the model with `train=True` and `train_call`; for `loss`.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            inputs: What the model reads, behind the transforms.
            key: Random key of its collection `dropout`.
            **arguments: Further arguments of its call.

        Returns:
            What the model returns, and the model state after the batch.
        """
        return self.model.apply(
            {"params": params, **model_state},
            inputs,
            train=True,
            rngs={"dropout": key},
            mutable=list(model_state),
            **self.train_call,
            **arguments,
        )

    def apply_model(
        self, params: PyTree, model_state: PyTree, inputs: Any, **arguments: Any
    ) -> Any:
        """Calls the model with `train=False` and `call`; for `metrics`, `predict` and `counts`.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            inputs: What the model reads, behind the transforms.
            **arguments: Further arguments of its call.

        Returns:
            What the model returns.
        """
        variables = {"params": params, **model_state}
        return self.model.apply(variables, inputs, train=False, **self.call, **arguments)

    def check(self, features: Mapping[str, Any]) -> None:
        """Accepts every data set; called once, before training.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name, of the encoded training split.

        Raises:
            ValueError: The task cannot be trained on them; never here.
        """
        del features

    def initial_carry(self, batch_size: int) -> PyTree:
        """The recurrent state before the first batch of training; none here.

        `loss` gets it, and then what the `LossOutput` of the step before holds as `carry`: of the
        same structure, shapes and dtypes. It is saved with the state.

        Args:
            batch_size: Rows of the batch.

        Returns:
            Leaves `[batch_size, ...]`; () where no state is handed from batch to batch.
        """
        del batch_size
        return ()

    def evaluation_carry(self, batch_size: int) -> PyTree:
        """The recurrent state before the first batch of an evaluated split, as `initial_carry`."""
        return self.initial_carry(batch_size)

    def evaluate_batch(
        self,
        params: PyTree,
        model_state: PyTree,
        carry: PyTree,
        batch: Batch,
        *,
        predictions: bool,
        counts: bool,
    ) -> EvaluatedBatch:
        """Evaluates a batch: `metrics`, and `predict` and `counts` where they are wanted.

        A task whose evaluation depends on the batches before overrides this.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            carry: Recurrent state after the batch before; at first `evaluation_carry`.
            batch: Leaves `[batch, ...]`, with a `mask`.
            predictions: Whether predictions are wanted.
            counts: Whether counts are wanted.

        Returns:
            Sums, predictions and counts, and the carry as it was given.
        """
        return EvaluatedBatch(
            sums=dict(self.metrics(params, model_state, batch)),
            predictions=dict(self.predict(params, model_state, batch)) if predictions else {},
            counts=dict(self.counts(params, model_state, batch)) if counts else {},
            carry=carry,
        )

    def metrics(
        self, params: PyTree, model_state: PyTree, batch: Batch
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Metrics of a batch that are means; none here. Pure, inside jit.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            batch: Leaves `[batch, ...]`, with a `mask`: rows where it is 0 are in no sum.

        Returns:
            name -> (sum, count), both `[]`. They are added up over the split and divided last.
        """
        del params, model_state, batch
        return {}

    def wanted_answers(self, features: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
        """How many answers a prediction must give at least; nothing is asked here.

        Args:
            features: `rcnn_jax.data.spec.Feature` by name.

        Returns:
            For names of predictions, whose last axis holds the answers: the feature that they
            answer for, and how many classes it has; None where that is not known.
        """
        del features
        return {}

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Predictions for a batch; none here. Pure, inside jit.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            batch: Leaves `[batch, ...]`, with a `mask`; of a file that is predicted it has what
                `reads` names alone.

        Returns:
            name -> `[batch, ...]`.
        """
        del params, model_state, batch
        return {}

    def counts(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Sums over a batch, of any shape, such as a confusion matrix; none here. Pure, inside jit.

        `ratios` and `details` read their totals over a split.

        Args:
            params: The parameters.
            model_state: Batch statistics.
            batch: Leaves `[batch, ...]`, with a `mask`: rows where it is 0 do not count.

        Returns:
            name -> sums, without an axis of examples.
        """
        del params, model_state, batch
        return {}

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Tables that say more than the metrics, for `evaluation.json`; none here.

        Args:
            counts: Totals of `counts` over the split, float64.
            features: `rcnn_jax.data.spec.Feature` by name.

        Returns:
            name -> a list of dicts with the same keys, or of lists of numbers.
        """
        del counts, features
        return {}

    @property
    def keeps(self) -> tuple[str, ...]:
        """Features of a batch, besides `mask`, that `evaluate` and `tables` read on the host.

        All batches of a split are held until its end: name labels and lengths, not pictures.
        """
        return ()

    def ratios(self, counts: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Metrics that are no means over examples, such as mean IoU, from the totals of `counts`.

        Where a task overrides this, training's evaluation counts too, and `config.best_metric`
        may name what it returns.

        Args:
            counts: Totals of `counts` over the split, float64.

        Returns:
            name -> value; none here.
        """
        del counts
        return {}

    @property
    def has_ratios(self) -> bool:
        """Whether `ratios` is to be called with the counts of a whole split."""
        return type(self).ratios is not BaseTask.ratios

    @property
    def evaluates_on_host(self) -> bool:
        """Whether `evaluate` is to be called with the predictions of a whole split; not here."""
        return False

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Metrics that cannot be compiled; none here. Runs on the host.

        It is called where `evaluates_on_host` is true, once a split.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, one a batch and in the order of
                the split; the batch has `mask` and what `keeps` names. The last ones are padded.

        Returns:
            name -> value.
        """
        del predictions
        return {}

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Tables that say more than the metrics, for `evaluation.json`; none here.

        Called by `rcnn_jax.evaluate` where `evaluates_on_host` is true, behind `evaluate`.

        Args:
            predictions: As in `evaluate`.

        Returns:
            name -> a list of dicts with the same keys. A row with `example`, a number in the split,
            gets the example's picture in the report.
        """
        del predictions
        return {}

    @property
    def reads(self) -> tuple[str, ...]:
        """Features that it needs of a file to answer for it; () where it answers for none."""
        return ()

    def answering(self, n_best: int) -> Self:
        """The task in a form whose `predict` gives so many answers to an example; itself here."""
        del n_best
        return self

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """What predictions say, for people. Runs on the host.

        Args:
            predicted: What `predict` returned, on the host.
            features: `rcnn_jax.data.spec.Feature` by name, as the data set stores them.
            n_best: How many answers there are to be for an example, at most.

        Returns:
            For each example its answers, the best first, all with the same keys; none here.
        """
        del predicted, features, n_best
        return []

    @property
    def has_files(self) -> bool:
        """Whether the task overrides `files`."""
        return type(self).files is not BaseTask.files

    def files(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> Sequence[Mapping[str, bytes]]:
        """Files that show what predictions say, such as masks or crops; none here.

        `rcnn_jax.predict --output=FOLDER` writes them. The task knows no path: what it names
        `mask.png` is written as `STEM_mask.png`, by the name of the file that was predicted.

        Args:
            predicted: What `predict` returned, on the host.
            features: `rcnn_jax.data.spec.Feature` by name, as the data set stores them.
            n_best: How many answers there are to be for an example, at most.

        Returns:
            For each example {name: content}; a name has a suffix and no folder.
        """
        del predicted, features, n_best
        return []
