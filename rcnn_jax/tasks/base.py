"""The base class of all tasks; `rcnn_jax.training.interface.Task` states what training expects."""

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

# Former names of the methods that tasks override or call, and their present names.
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
    """Returns logits in float32 or wider, because a sum in bfloat16 stops counting at 256.

    Args:
        logits: Array of any shape and floating dtype.

    Returns:
        The same values, float32 where the dtype is narrower than that.
    """
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def real_examples(predictions: Iterable[tuple[dict, dict]]) -> list[int]:
    """Returns the indices of the real examples within their split.

    An example that could not be read has an index as well, but is not among those returned.

    Args:
        predictions: Pairs (predictions, batch) of the whole split in its order, where each batch
            has a `mask` `[batch]` that is 0 for padding.

    Returns:
        Indices of the rows whose `mask` is 1, in rising order.
    """
    masks = [np.asarray(batch["mask"]) for _, batch in predictions]
    return np.flatnonzero(np.concatenate(masks) > 0).tolist() if masks else []


def found_answers(
    answers: Sequence[dict[str, Any]], probability: str, n_best: int
) -> list[dict[str, Any]]:
    """Returns the best answer and those further answers that a search has found.

    A search may find fewer answers than it was asked for; an unused entry has probability 0.

    Args:
        answers: Answers to one example, the best first.
        probability: Key of the entry that holds an answer's probability.
        n_best: Largest number of answers to return.

    Returns:
        The first answer, and of the following `n_best - 1` those with a positive probability.
    """
    return [*answers[:1], *(answer for answer in answers[1:n_best] if answer[probability] > 0)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseTask:
    """Holds a model and the transforms of its input, and has a default for all but two methods.

    A task defines `init` and `loss`, and overrides those of the other methods that it needs:
    `metrics`, `predict`, `counts` with `details` or `ratios`, `evaluates_on_host` with `evaluate`,
    `tables` and `keeps`, `reads` with `answers` and `files`. `rcnn_jax.tasks.summed.SummedTask`
    implements most of them for a task that calls its model once. See `README.md` in this folder.

    Attributes:
        model: Linen module that the task trains and evaluates.
        train_transform: Function of (batch, one random key per example) that returns the batch that
            the model sees in training.
        evaluation_transform: Function of (batch, None) that returns the batch that the model sees
            in evaluation; it gets no random keys.
        call: Further keyword arguments of the model's call in evaluation, such as `steps`.
        train_call: Further keyword arguments of the model's call in training.
        unit: Plural noun for the examples in the log's rate per second: "examples", "sentences".
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
        # The first two parameters are the model itself and its input.
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
        """Rejects a subclass that defines a method by its former name, which would never be called.

        Args:
            **arguments: Keyword arguments of the class statement, passed on to the superclass.

        Raises:
            TypeError: The class or one of its bases defines a method by a former name; the message
                has the present name.
        """
        super().__init_subclass__(**arguments)
        for old, new in _RENAMED.items():
            if any(old in vars(base) for base in cls.__mro__):
                raise TypeError(
                    f"the task {cls.__module__}:{cls.__name__} defines {old!r}, which is never "
                    f"called: the method is called {new!r} now"
                )

    def model_call_arguments(self) -> tuple[str, ...]:
        """Returns the names of further arguments that the task passes to the model's call.

        It is called once, when the task is constructed, and a model whose call does not accept one
        of these arguments is rejected. The default is no name.
        """
        return ()

    def require_features(
        self, features: Mapping[str, Any], what: str, names: Sequence[str], hint: str = ""
    ) -> None:
        """Checks that a data set has certain features; a helper for `check`.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.
            what: Name of what needs the features, which begins the message.
            names: Names of the features that must be present.
            hint: End of the message, such as `; see config.task.label`.

        Raises:
            ValueError: A feature is missing; the message names it and lists those that are present.
        """
        for name in names:
            if name not in features:
                raise ValueError(
                    f"{what} needs a feature {name!r}, the data set has "
                    f"{', '.join(map(repr, features))}{hint}."
                )

    def training_batch(self, batch: Batch, key: jax.Array) -> Batch:
        """Applies `train_transform` to a batch; called inside jit by `init` and `loss`.

        Args:
            batch: Dict of arrays `[batch, ...]` as the data set stores them, with a `mask`.
            key: Random key of the batch. A key for each example is derived from it, which does not
                depend on the device that holds the example.

        Returns:
            The transformed batch, which the model sees in training.
        """
        return self.train_transform(batch, example_keys(key, batch["mask"].shape[0]))

    def init_model(self, key: jax.Array, inputs: Any, **arguments: Any) -> tuple[PyTree, PyTree]:
        """Initialises the model; a helper for `init`.

        Args:
            key: Random key for the initial parameters.
            inputs: Input of the model with the shapes that it is later called with.
            **arguments: Further keyword arguments of the model's call.

        Returns:
            A pair (params, model_state), where `model_state` holds all other collections, such as
            `batch_stats`.
        """
        variables = dict(self.model.init(key, inputs, train=False, **arguments))
        return variables.pop("params"), variables

    def apply_model_in_training(
        self, params: PyTree, model_state: PyTree, inputs: Any, key: jax.Array, **arguments: Any
    ) -> tuple[Any, PyTree]:
        """Calls the model with `train=True` and `train_call`; a helper for `loss`.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            inputs: Input of the model after the transforms.
            key: Random key for the model's `dropout` collection.
            **arguments: Further keyword arguments of the model's call.

        Returns:
            A pair of the model's output and the updated model state.
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
        """Calls the model with `train=False` and `call`; a helper for `metrics` and `predict`.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            inputs: Input of the model after the transforms.
            **arguments: Further keyword arguments of the model's call.

        Returns:
            The model's output.
        """
        variables = {"params": params, **model_state}
        return self.model.apply(variables, inputs, train=False, **self.call, **arguments)

    def check(self, features: Mapping[str, Any]) -> None:
        """Checks once, before training, that the data set fits; the default accepts any.

        Args:
            features: Mapping from the name of each feature of the encoded training split to its
                `rcnn_jax.data.spec.Feature`.

        Raises:
            ValueError: The task cannot be trained on these features; the default never raises it.
        """
        del features

    def initial_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first batch of training; the default has none.

        `loss` receives this carry for the first batch, and for every later batch the `carry` of the
        previous `LossOutput`, which must have the same structure, shapes and dtypes. The carry is
        saved in checkpoints.

        Args:
            batch_size: Number of rows of a batch.

        Returns:
            A pytree with leaves `[batch_size, ...]`, or () where no state passes from batch to
            batch.
        """
        del batch_size
        return ()

    def evaluation_carry(self, batch_size: int) -> PyTree:
        """Returns the recurrent state before the first batch of an evaluated split.

        The default is `initial_carry`.

        Args:
            batch_size: Number of rows of a batch.

        Returns:
            A pytree with leaves `[batch_size, ...]`, or () where no state passes from batch to
            batch.
        """
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
        """Evaluates a batch by `metrics` and, where requested, `predict` and `counts`.

        A task whose evaluation of a batch depends on earlier batches overrides this method.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            carry: Recurrent state after the previous batch; `evaluation_carry` for the first one.
            batch: Dict of arrays `[batch, ...]` with a `mask`.
            predictions: Whether to return predictions.
            counts: Whether to return counts.

        Returns:
            Sums, predictions and counts of the batch, and the unchanged carry.
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
        """Returns those metrics of a batch that are means; the default has none. Pure, inside jit.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            batch: Dict of arrays `[batch, ...]` with a `mask`; rows where it is 0 enter no sum.

        Returns:
            A dict from the name of each metric to (sum, count), both `[]`. They are added up over
            the split, and divided at the end.
        """
        del params, model_state, batch
        return {}

    def wanted_answers(self, features: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
        """Returns how many answers predictions must have at least; the default requires nothing.

        Args:
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Returns:
            A dict from the name of a prediction, whose last axis holds the answers, to a pair of
            the feature that they answer and its number of classes, None where that is unknown.
        """
        del features
        return {}

    def predict(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns predictions for a batch; the default has none. Pure, inside jit.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            batch: Dict of arrays `[batch, ...]` with a `mask`. A batch of files to predict has only
                the features that `reads` names.

        Returns:
            A dict from the name of each prediction to an array `[batch, ...]`.
        """
        del params, model_state, batch
        return {}

    def counts(self, params: PyTree, model_state: PyTree, batch: Batch) -> dict[str, jax.Array]:
        """Returns sums of any shape over a batch, such as a confusion matrix. Pure, inside jit.

        `ratios` and `details` read the totals over a split. The default has no counts.

        Args:
            params: Parameters of the model.
            model_state: Other collections of the model, such as batch statistics.
            batch: Dict of arrays `[batch, ...]` with a `mask`; rows where it is 0 do not count.

        Returns:
            A dict from the name of each count to an array without an axis of examples.
        """
        del params, model_state, batch
        return {}

    def details(
        self, counts: Mapping[str, np.ndarray], features: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns tables for `evaluation.json`, with more detail than metrics; none by default.

        Args:
            counts: Totals of `counts` over the split, float64.
            features: Mapping from the name of each feature to its `rcnn_jax.data.spec.Feature`.

        Returns:
            A dict from the name of each table to a list of dicts with the same keys, or to a list
            of lists of numbers.
        """
        del counts, features
        return {}

    @property
    def keeps(self) -> tuple[str, ...]:
        """Names of the features of a batch, besides `mask`, that `evaluate` and `tables` read.

        All batches of a split are held in memory on the host until its end, so these should be
        labels and lengths rather than images. The default is no feature.
        """
        return ()

    def ratios(self, counts: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns metrics that are not means over examples, such as mean IoU.

        They are computed from the totals of `counts`. Where a task overrides this method,
        evaluation during training computes counts too, and `config.best_metric` may name a metric
        that it returns.

        Args:
            counts: Totals of `counts` over the split, float64.

        Returns:
            A dict from the name of each metric to its value; empty by default.
        """
        del counts
        return {}

    @property
    def has_ratios(self) -> bool:
        """Whether the task overrides `ratios`, which then gets the counts of a whole split."""
        return type(self).ratios is not BaseTask.ratios

    @property
    def evaluates_on_host(self) -> bool:
        """Whether to call `evaluate` with the predictions of a whole split; false by default."""
        return False

    def evaluate(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, float]:
        """Returns metrics that cannot be compiled; the default has none. Runs on the host.

        It is called once for each split where `evaluates_on_host` is true.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, one for each batch in the order
                of the split. The batch has `mask` and the features that `keeps` names, and the last
                batches are padded.

        Returns:
            A dict from the name of each metric to its value.
        """
        del predictions
        return {}

    def tables(self, predictions: Iterable[tuple[dict, dict]]) -> dict[str, Any]:
        """Returns tables for `evaluation.json`, with more detail than metrics; none by default.

        `rcnn_jax.evaluate` calls it after `evaluate` where `evaluates_on_host` is true.

        Args:
            predictions: Pairs (predictions, batch) of NumPy arrays, as `evaluate` takes them.

        Returns:
            A dict from the name of each table to a list of dicts with the same keys. A row with the
            key `example`, an index within the split, is shown with the example's picture in the
            report.
        """
        del predictions
        return {}

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the features that `predict` needs of a file; () if files cannot be predicted."""
        return ()

    def answering(self, n_best: int) -> Self:
        """Returns a task whose `predict` gives `n_best` answers; the default is this task.

        Args:
            n_best: Number of answers that are requested for each example.

        Returns:
            A task of the same kind.
        """
        del n_best
        return self

    def answers(
        self, predicted: Mapping[str, np.ndarray], features: Mapping[str, Any], n_best: int
    ) -> list[list[dict[str, Any]]]:
        """Returns predictions in a form for people. Runs on the host.

        Args:
            predicted: Arrays that `predict` returned, copied to the host.
            features: Mapping from the name of each feature, as the data set stores it, to its
                `rcnn_jax.data.spec.Feature`.
            n_best: Largest number of answers for each example.

        Returns:
            A list of answers for each example, the best first, all with the same keys; the default
            is an empty list.
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
        """Returns files that show predictions, such as masks or crops; the default has none.

        `rcnn_jax.predict --output=FOLDER` saves them. The task does not handle paths: a file that
        it names `mask.png` is saved as `STEM_mask.png`, where STEM is that of the predicted file.

        Args:
            predicted: Arrays that `predict` returned, copied to the host.
            features: Mapping from the name of each feature, as the data set stores it, to its
                `rcnn_jax.data.spec.Feature`.
            n_best: Largest number of answers for each example.

        Returns:
            A dict {name: content} for each example, whose names have a suffix and no folder.
        """
        del predicted, features, n_best
        return []
