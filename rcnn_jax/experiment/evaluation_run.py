"""A trained run, rebuilt from its workdir for evaluation and prediction."""

import dataclasses
import functools
import pathlib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from rcnn_jax.data import pipeline
from rcnn_jax.data.encoders.base import Encoding
from rcnn_jax.data.sources import Source
from rcnn_jax.errors import UsageError, UserError, shortened
from rcnn_jax.experiment import release_notes
from rcnn_jax.experiment.data import (
    Reader,
    batch_shapes,
    encoded,
    evaluation_batches,
    open_split,
    resident,
)
from rcnn_jax.experiment.task import build_metrics, build_task, configure_jax
from rcnn_jax.training import evaluation, state
from rcnn_jax.training import step as step_lib
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.interface import Config, PyTree, Task
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.mesh import Devices, make_devices
from rcnn_jax.training.workdir import Workdir

NO_ARGUMENTS: Mapping[str, Any] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """Components of an evaluation: a split, its task, and the shapes of the variables to restore.

    Attributes:
        config: Config of the workdir.
        devices: Devices that the evaluation runs on.
        task: Task that is evaluated.
        source: Split that is evaluated, encoded.
        split: Name of the split.
        batch: Shapes and types of a training batch.
        abstract: Shapes, types and shardings of the variables.
        encoding: Encoding that converts text to numbers; None if the examples are not encoded.
    """

    config: Config
    devices: Devices
    task: Task
    source: Source
    split: str
    batch: PyTree
    abstract: state.Variables
    encoding: Encoding | None = None

    @functools.cached_property
    def _resident(self) -> Source | pipeline.DeviceSource:
        return resident(self.config, self.source, self.devices)

    def evaluate(
        self, variables: tuple[PyTree, PyTree], task: Task | None = None, *, counts: bool = False
    ) -> evaluation.Result:
        """Evaluates the split.

        Args:
            variables: Pair (params, model_state).
            task: Another form of the task of the run. None means the task itself.
            counts: Whether the counts are returned from which the task's details are computed.

        Returns:
            The metrics, the number of examples, and the counts.
        """
        task = self.task if task is None else task
        metrics = build_metrics(self.config)
        compiled = step_lib.EvaluationStep(
            task,
            self.devices,
            predictions=task.evaluates_on_host,
            counts=counts,
            metrics=metrics,
        )
        with evaluation_batches(self.config, self._resident, self.devices) as batches:
            return evaluation.evaluate(task, compiled, variables, batches, metrics)

    def predictions(
        self, variables: tuple[PyTree, PyTree], task: Task | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Predicts for all examples of the split, in order.

        Args:
            variables: Pair (params, model_state).
            task: Another form of the task of the run. None means the task itself.

        Yields:
            The predictions for the real examples of each batch by name, on the host.
        """
        compiled = step_lib.compile_prediction(self.task if task is None else task, self.devices)
        yield from predictions(self.config, self.devices, compiled, variables, self._resident)


def predictions(
    config: Config,
    devices: Devices,
    compiled: Callable[[PyTree, PyTree, PyTree], Mapping[str, jax.Array]],
    variables: tuple[PyTree, PyTree],
    source: Source | pipeline.DeviceSource,
) -> Iterator[dict[str, np.ndarray]]:
    """Predicts for all examples of a source, in order.

    Args:
        config: Complete config.
        devices: Devices that the prediction runs on.
        compiled: Compiled prediction, from `step.compile_prediction`.
        variables: Pair (params, model_state).
        source: Examples, encoded.

    Yields:
        The predictions for the real examples of each batch by name, on the host.
    """
    left = len(source)
    with evaluation_batches(config, source, devices, in_order=True) as batches:
        for batch in batches:
            predicted = jax.device_get(compiled(*variables, batch))
            rows = min(left, len(next(iter(predicted.values()))))
            yield {name: value[:rows] for name, value in predicted.items()}
            left -= rows


def prepare_evaluation(
    config: Config,
    path: str | pathlib.Path,
    split: str = "test",
    data_dir: str | None = None,
    call: Mapping[str, Any] = NO_ARGUMENTS,
) -> EvaluationRun:
    """Builds the components that a workdir's config names, with the assets that training saved.

    Args:
        config: Config of the workdir.
        path: Path of the workdir.
        split: "train", "validation" or "test" for the split that `config.data` names, or the name
            of any split.
        data_dir: Folder of original data sets. None selects the default; see `rcnn_jax.data.roots`.
        call: Further keyword arguments of the model's call.

    Returns:
        The components of the evaluation.

    Raises:
        UserError: A component is missing or does not fit the others.
    """
    named = split in ("train", "validation", "test")
    if named and not config.data[split]:
        raise UserError(f"--split={split}: config.data.{split} is empty in {Workdir(path).config}.")
    source = open_split(config, split, data_dir)
    return evaluation_of(config, path, source, config.data[split] if named else split, call)


def evaluation_of(
    config: Config,
    path: str | pathlib.Path,
    source: Source,
    name: str,
    call: Mapping[str, Any] = NO_ARGUMENTS,
    encode: Callable[[Config, Encoding | None, Source], Source] = encoded,
) -> EvaluationRun:
    """Builds the components that a workdir's config names, for examples from any source.

    Args:
        config: Config of the workdir.
        path: Path of the workdir.
        source: Examples as the data set stores them.
        name: Name of the examples, which takes the place of a split's name.
        call: Further keyword arguments of the model's call.
        encode: Encodes the examples, given the config, the encoding and the examples.

    Returns:
        The components of the evaluation.

    Raises:
        UserError: A component is missing or does not fit the others.
    """
    configure_jax(config)
    release_notes.warn(config, Workdir(path))
    devices = evaluation_devices()
    reader = Reader.load(config, Workdir(path).assets)
    encoding = reader.bind([source])
    source = encode(config, encoding, source)
    task = build_task(config, reader.assets, encoding, source.features, **call)
    batch = batch_shapes(config, source)
    return EvaluationRun(
        config=config,
        devices=devices,
        task=task,
        source=source,
        split=name,
        batch=batch,
        abstract=abstract_variables(task, batch, devices),
        encoding=encoding,
    )


def evaluation_devices() -> Devices:
    """Returns a mesh of all devices that jax sees, whatever mesh a run was trained on."""
    return make_devices({"data": -1, "fsdp": 1}, "jit")


def abstract_variables(task: Task, batch: PyTree, devices: Devices) -> state.Variables:
    """Returns the shapes, types and shardings of the variables that a task evaluates with.

    Args:
        task: Task that is evaluated.
        batch: Shapes and types of a training batch.
        devices: Devices that the evaluation runs on. Each of them holds all variables.
    """
    shapes = jax.eval_shape(lambda b: task.init(jax.random.key(0), b), batch)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.replicated),
        state.Variables(*shapes),
    )


def restore_step(
    run: EvaluationRun, path: str | pathlib.Path, step: str | int = "best"
) -> reading.Restored:
    """Restores the checkpoint that a user names.

    Args:
        run: Evaluation run from `prepare_evaluation`.
        path: Path of the workdir.
        step: "best", "latest" or a number of training steps. For a run without a validation split,
            "best" means the latest.

    Returns:
        The checkpoint, whose state is of type `state.Variables`.

    Raises:
        UserError: There is no such checkpoint, or it is damaged or belongs to another model.
    """
    return restore_variables(run.config, path, step, run.abstract)


def require_checkpoints(path: str | pathlib.Path) -> list[int]:
    """Returns the steps that have a checkpoint.

    Args:
        path: Path of the workdir.

    Raises:
        UserError: The workdir has no checkpoint.
    """
    saved = reading.steps(Workdir(path).checkpoints)
    if not saved:
        raise UserError(f"--workdir={path} holds no checkpoint yet.")
    return saved


def restore_variables(
    config: Config, path: str | pathlib.Path, step: str | int, abstract: state.Variables
) -> reading.Restored:
    """Restores the variables of a checkpoint that evaluation uses.

    Args:
        config: Config of the workdir.
        path: Path of the workdir.
        step: "best", "latest" or a number of training steps. For a run without a validation split,
            "best" means the latest.
        abstract: Shapes, types and shardings of the variables.

    Returns:
        The checkpoint, whose state is of type `state.Variables`.

    Raises:
        UserError: There is no such checkpoint, or it is damaged or belongs to another model.
    """
    folder, saved = Workdir(path).checkpoints, require_checkpoints(path)
    damaged: list[str] = []
    if step == "best" and config.data.validation:
        metric, mode = config.best_metric, config.best_mode
        restored = reading.restore_best(folder, abstract, metric, mode, damaged)
    elif step in ("best", "latest"):
        restored = reading.restore_latest(folder, abstract, damaged)
        assert restored is not None
    elif str(step).isdecimal() and int(step) in saved:
        restored = reading.restore(folder, int(step), abstract)
    else:
        raise UsageError(
            f"--step={step}: there are checkpoints of the steps {shortened(map(str, saved), 12)}, "
            "and 'best' and 'latest'."
        )
    for message in damaged:
        distributed.warn(message)
    return restored
