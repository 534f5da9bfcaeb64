"""A trained run as an object; see `rcnn_jax.load`."""

import copy
import dataclasses
import pathlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rcnn_jax.api import fine_tuning, states
from rcnn_jax.api.inputs import as_source
from rcnn_jax.configuration import loading
from rcnn_jax.data import pipeline
from rcnn_jax.data.encoders.base import Encoding
from rcnn_jax.data.sources import Concatenation, Source, View
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UserError
from rcnn_jax.experiment import evaluation_run, file_examples
from rcnn_jax.experiment.data import (
    Reader,
    encoded,
    make_sampler,
    open_split,
    training_batches,
)
from rcnn_jax.experiment.task import build_task
from rcnn_jax.training import step as step_lib
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.interface import PyTree
from rcnn_jax.training.parallel.mesh import Devices
from rcnn_jax.training.state import Variables
from rcnn_jax.training.workdir import Workdir

DataDir = str | pathlib.Path | None


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run with the variables of one of its checkpoints, made by `load`.

    Methods take examples as the data set stores them, before `config.data.preprocess`: as a list of
    dicts, one dict of arrays `[examples, ...]`, one such array if the model reads one feature,
    paths of files, or a `Source`.

    Attributes:
        workdir: Folder of the run.
        config: Complete config of the run.
        task: Task of the run, with its loss, metrics and predictions.
        params: Pytree of parameters, averaged if the run kept averages.
        model_state: Pytree of batch statistics, averaged if the run kept averages.
        step: Training step of the checkpoint.
        features: Features of an example as the data set stores it, `rcnn_jax.data.spec.Feature` by
            name; empty if neither the workdir nor the data set states them.
        assets: Arrays that were fitted on the training split.
        encoding: Encoding of text as numbers; None if the run has none.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.
    """

    workdir: pathlib.Path
    config: Any = dataclasses.field(repr=False)
    task: Any
    params: PyTree = dataclasses.field(repr=False)
    model_state: PyTree = dataclasses.field(repr=False)
    step: int
    features: Mapping[str, Feature] = dataclasses.field(repr=False)
    assets: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
    encoding: Encoding | None = dataclasses.field(repr=False)
    data_dir: DataDir
    _reader: Reader = dataclasses.field(repr=False)
    _devices: Devices = dataclasses.field(repr=False)
    _compiled: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False)
    _sources: list[weakref.ref] = dataclasses.field(default_factory=list, repr=False)

    @property
    def model(self) -> nn.Module:
        """The Linen module, for `run.model.apply(run.variables, images, train=False)`."""
        return self.task.model

    @property
    def variables(self) -> dict[str, PyTree]:
        """Parameters and batch statistics in the form of Linen's `apply`."""
        return {"params": self.params, **self.model_state}

    def with_variables(self, params: PyTree, model_state: PyTree) -> "TrainedRun":
        """Returns the same run with other variables, such as those of a fine-tuning.

        Args:
            params: Pytree of parameters.
            model_state: Pytree of batch statistics.
        """
        return dataclasses.replace(self, params=params, model_state=model_state)

    def source(
        self, split: str = "test", data_dir: DataDir = None, residency: str = "memory"
    ) -> Source:
        """Opens a split with its examples as the model reads them.

        Args:
            split: `train`, `validation` or `test` as the config defines them, or the name of any
                split.
            data_dir: Folder of the original data sets; None means that of the run.
            residency: `memory` or `stream`; see `rcnn_jax.open_source`.

        Returns:
            The examples, encoded if the run has an encoder.

        Raises:
            UserError: There is no such split.
        """
        if split in ("train", "validation", "test") and not self.config.data[split]:
            raise UserError(f"config.data.{split} of {self.workdir} is empty: name another split.")
        config = copy.deepcopy(self.config)
        config.data.residency = residency
        where: Any = data_dir or self.data_dir
        opened = open_split(config, split, where)
        return self._read(config, opened, training=split == "train")

    def batch_shapes(self, rows: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a batch, for `jax.eval_shape`, `jax.jit(...).lower` or export.

        Args:
            rows: Number of examples, or a symbolic dimension of `jax.export` for any number.

        Returns:
            Shapes `[rows, ...]` of a training batch by name: features as the task gets them, before
            its transforms, and `mask` (1 for an example, 0 for padding). Of these, `task.predict`
            needs `task.reads`, its lengths and the mask.

        Raises:
            UserError: The run was made by a version that did not store the shapes of its batches.
        """
        shapes = _batch_shapes(self.workdir, rows)
        if shapes is None:
            raise UserError(
                f"{self.workdir} does not say what its batches are like: it was made before that "
                "was kept; its train command, started once more, writes it."
            )
        return shapes

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        """Computes the predictions of the task.

        Args:
            inputs: Examples in any form that the class describes.

        Returns:
            Predictions `[examples, ...]` by name, such as `probabilities` for classes.

        Raises:
            UserError: The examples do not match the data set.
        """
        batches = list(self._predictions(inputs, self.task, "predictions"))
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def answers(self, inputs: Any, n_best: int = 1) -> list[list[dict[str, Any]]]:
        """Returns answers in words, as `python -m rcnn_jax.predict` does.

        Args:
            inputs: Examples in any form that the class describes.
            n_best: Largest number of answers for an example.

        Returns:
            The answers to each example, the best first.

        Raises:
            UserError: The examples do not match the data set, or the task has no answers in words.
        """
        task = self.task.answering(n_best)
        answers = [
            answer
            for predicted in self._predictions(inputs, task, ("answers", n_best))
            for answer in task.answers(predicted, self.features, n_best)
        ]
        if not answers:
            raise UserError(f"{self.config.task.name} has no words for answers: see `predict`.")
        return answers

    def apply(self, inputs: Any, *, states: bool = False, **call: Any) -> Any:
        """Calls the model in evaluation mode on all examples as one batch.

        Args:
            inputs: Examples in any form that the class describes.
            states: Whether to return the states of all RCLs as well.
            **call: Additional arguments of the model's call, such as `steps` for another number of
                iterations than the model was trained with.

        Returns:
            The model's output, such as logits `[examples, classes]`. With `states` a pair of the
            output and a dict from the path of each RCL to its states x(0)..x(T), `[steps + 1,
            examples, *spatial, features]`. Transforms that make several views of an image multiply
            the examples.

        Raises:
            UserError: The examples do not match the data set, or the states cannot be extracted.
        """
        return self._call(self._as_read(inputs), states, call)

    def loss(
        self, params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, carry: PyTree = ()
    ) -> tuple[jax.Array, Any]:
        """Computes the mean training loss of a batch, for `jax.value_and_grad(..., has_aux=True)`.

        The function is pure.

        Args:
            params: Pytree of parameters.
            model_state: Pytree of batch statistics.
            batch: Batch from `train_batches`.
            key: Random key of augmentation and dropout.
            carry: Recurrent state from the previous batch, if the task has one.

        Returns:
            The loss `[]`; and the result of the task's loss, with `model_state` after the batch,
            `carry` and `metrics`.
        """
        return fine_tuning.mean_loss(self.task, params, model_state, batch, key, carry)

    def fine_tuning(
        self,
        optimizer: optax.GradientTransformation,
        *,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> tuple[fine_tuning.FineTuning, Any]:
        """Makes the state and the step to continue training from the run's variables.

        Usage:

            state, step = run.fine_tuning(optax.lion(1e-4))
            for batch in run.train_batches(20):
                state, loss = step(state, batch)
            run = run.with_variables(state.params, state.model_state)

        Args:
            optimizer: Any Optax optimiser that includes its learning rate.
            batch_size: Number of rows of a batch, for tasks with a recurrent state; None means that
                of the config.
            seed: Seed of augmentation and dropout.

        Returns:
            The state before the first step; and the compiled step, a function from a state and a
            batch to the next state and the mean loss `[]`.
        """
        state = fine_tuning.start(
            self.task,
            (self.params, self.model_state),
            optimizer,
            self._devices,
            batch_size=batch_size or self.config.batch_size,
            seed=seed,
        )
        return state, fine_tuning.make_step(self.task, optimizer, self._devices)

    def train_batches(
        self,
        steps: int,
        examples: Any = "train",
        *,
        batch_size: int | None = None,
        data_dir: DataDir = None,
        start: int = 0,
    ) -> pipeline.Batches:
        """Iterates over batches in the order of `config.sampler`, placed on the devices.

        Args:
            steps: Number of batches.
            examples: Name of a split, or examples in any form that the class describes.
            batch_size: Number of rows of a batch; None means that of the config.
            data_dir: Folder of the original data sets; None means that of the run.
            start: Number of the first batch.

        Returns:
            An iterator over dicts of arrays `[batch, ...]`.

        Raises:
            UserError: There is no such split, or the sampler or the devices cannot make such
                batches.
        """
        if isinstance(examples, str):
            source = self.source(examples, data_dir)
        else:
            source = self._as_read(examples, training=True)
        config = copy.deepcopy(self.config)
        config.data.residency, config.data.prefetch = "memory", 0
        sampler = make_sampler(config, source, batch_size)
        self._devices.check_batch_size(sampler.batch_size)
        return training_batches(config, self._devices, source, sampler, start, steps)

    def evaluate(
        self, split: str = "test", data_dir: DataDir = None, **call: Any
    ) -> dict[str, float]:
        """Evaluates a split, as `python -m rcnn_jax.evaluate` does.

        Args:
            split: `train`, `validation` or `test` as the config defines them, or the name of any
                split.
            data_dir: Folder of the original data sets; None means that of the run.
            **call: Additional arguments of the model's call, such as `steps`.

        Returns:
            The metrics by name.

        Raises:
            UserError: There is no such split, or the model's call has no such argument.
        """
        config = copy.deepcopy(self.config)
        config.data.residency = "memory"
        where: Any = data_dir or self.data_dir
        run = evaluation_run.prepare_evaluation(config, self.workdir, split, where, call)
        return run.evaluate((self.params, self.model_state)).metrics

    def _read(self, config: Any, source: Source, *, training: bool) -> Source:
        """Converts examples to the form that the model reads, and remembers that they have it."""
        # An evaluated split may have words or labels that do not occur in training.
        encoding = self.encoding if training else self._reader.bind([source])
        read = encoded(config, encoding, source)
        self._sources[:] = [ref for ref in self._sources if ref() is not None]
        self._sources.append(weakref.ref(read))
        return read

    def _is_read(self, source: Source) -> bool:
        if isinstance(source, View):
            return self._is_read(source.source)
        if isinstance(source, Concatenation):
            return all(map(self._is_read, source.sources))
        return any(ref() is source for ref in self._sources)

    def _as_read(self, inputs: Any, *, training: bool = False) -> Source:
        reads = () if training else self.task.reads
        source = as_source(inputs, self.config, self.workdir, self.features, reads)
        if not len(source):
            raise UserError("there are no examples.")
        if self._is_read(source):
            return source
        return self._read(self.config, source, training=training)

    def _predictions(self, inputs: Any, task: Any, name: Any) -> Iterator[dict[str, np.ndarray]]:
        source = self._as_read(inputs)
        if name not in self._compiled:
            self._compiled[name] = step_lib.compile_prediction(task, self._devices)
        config = copy.deepcopy(self.config)
        # Powers of two are sizes that other calls are likely to have; nothing is recompiled then.
        rows = 1 << (len(source) - 1).bit_length()
        config.evaluation_batch_size = min(config.evaluation_batch_size, rows)
        config.data.residency = "memory"
        variables = (self.params, self.model_state)
        return evaluation_run.predictions(
            config, self._devices, self._compiled[name], variables, source
        )

    def _call(self, source: Source, with_states: bool, call: Mapping[str, Any]) -> Any:
        name = ("call", with_states, tuple(sorted(call.items())))
        if name not in self._compiled:
            features = file_examples.read_features(self.config, self.workdir)
            task = build_task(self.config, self.assets, self.encoding, features, **call)
            self._compiled[name] = states.compiled_call(task, with_states)
        batch = pipeline.host_batch(source, np.arange(len(source)))
        output, extracted = self._compiled[name](self.params, self.model_state, batch)
        return (output, extracted) if with_states else output


def load(
    workdir: str | pathlib.Path, step: str | int = "best", data_dir: DataDir = None
) -> TrainedRun:
    """Loads a trained run; its data set is not needed.

    Usage:

        run = rcnn_jax.load("runs/digits")
        run.predict(images)["probabilities"]

    Args:
        workdir: Folder of the run.
        step: "best" on validation, "latest" or a number of training steps.
        data_dir: Folder of the original data sets, for the methods that open a split. None means
            the environment variable `RCNN_JAX_DATA` or the cache folder.

    Returns:
        The run.

    Raises:
        UserError: The folder is not a workdir; it has no such checkpoint; or the checkpoint is
            damaged or belongs to another model than the config now names.
    """
    path = pathlib.Path(workdir).expanduser().absolute()
    config: Any = loading.for_evaluation(path / "config.json")
    # Examples are only read; no prepared files are written.
    config.data.residency = "memory"
    if config.precision == "float64" and jnp.result_type(float) != np.float64:
        raise UserError(
            f"{path} was trained with config.precision='float64', and this process computes in "
            'float32: call jax.config.update("jax_enable_x64", True) first, before any array is '
            "made."
        )
    devices = evaluation_run.evaluation_devices()
    evaluation_run.require_checkpoints(path)
    reader = Reader.load(config, Workdir(path).assets)
    assets, encoding = reader.assets, reader.bind()
    task = build_task(config, assets, encoding, file_examples.read_features(config, path))
    abstract = _abstract_variables(config, path, task, devices)
    restored = evaluation_run.restore_variables(config, path, step, abstract)
    params, model_state = restored.state.evaluated()
    return TrainedRun(
        workdir=path,
        config=config,
        task=task,
        params=params,
        model_state=model_state,
        step=restored.step,
        features=file_examples.stored_features(config, path),
        assets=assets,
        encoding=encoding,
        data_dir=data_dir,
        _reader=reader,
        _devices=devices,
    )


def _batch_shapes(path: pathlib.Path, rows: Any) -> dict[str, jax.ShapeDtypeStruct] | None:
    leaves = Workdir(path).data_facts().get("batch")
    if leaves is None:
        return None
    return {
        name: jax.ShapeDtypeStruct((rows, *leaf["shape"]), leaf["dtype"])
        for name, leaf in leaves.items()
    }


def _abstract_variables(config: Any, path: pathlib.Path, task: Any, devices: Devices) -> Variables:
    """Returns the variables' shapes: those of the model, if the workdir states batch shapes."""
    batch = _batch_shapes(path, config.batch_size)
    if batch is None:  # a run of an older version; the shapes are those of the checkpoint
        return reading.abstract_variables(Workdir(path).checkpoints, devices.replicated)
    return evaluation_run.abstract_variables(task, batch, devices)
