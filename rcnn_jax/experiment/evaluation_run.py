"""A trained run, built again from its workdir to be evaluated or asked."""

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
from rcnn_jax.errors import UsageError, UserError
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
    """What evaluation needs: a split, and the shapes of the variables to restore."""

    config: Config
    devices: Devices
    task: Task
    source: Source
    split: str
    batch: PyTree  # shapes of a training batch
    abstract: state.Variables  # their shapes, types and shardings
    encoding: Encoding | None = None  # what turned text into numbers

    @functools.cached_property
    def _resident(self) -> Source | pipeline.DeviceSource:
        return resident(self.config, self.source, self.devices)

    def evaluate(
        self, variables: tuple[PyTree, PyTree], task: Task | None = None, *, counts: bool = False
    ) -> evaluation.Result:
        """Evaluates the split.

        Args:
            variables: (params, model_state).
            task: Another form of the run's task; None: its own.
            counts: Count what the task's details are made of, too.

        Returns:
            The metrics, the number of examples, and what was counted.
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
        """Predicts for all examples, in order.

        Args:
            variables: (params, model_state).
            task: Another form of the run's task; None: its own.

        Yields:
            The predictions of each batch for its real examples, on the host.
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
        config: A complete config.
        devices: Where it runs.
        compiled: From `step.compile_prediction`.
        variables: (params, model_state).
        source: The examples as the model reads them.

    Yields:
        The predictions of each batch for its real examples, on the host.
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
    """Builds what a workdir's config names, with the assets that training left there.

    Args:
        config: The workdir's config.
        path: The workdir.
        split: A key of `config.data` or any split's name.
        data_dir: Where original data sets lie; None: see `rcnn_jax.data.roots`.
        call: Further keyword arguments of the model's call.

    Returns:
        The run.

    Raises:
        UserError: Something the config names is missing or does not fit.
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
) -> EvaluationRun:
    """Builds what a workdir's config names, for examples from anywhere.

    Args:
        config: The workdir's config.
        path: The workdir.
        source: Examples as the data set stores them.
        name: What they are called.
        call: Further keyword arguments of the model's call.

    Returns:
        The run.

    Raises:
        UserError: Something the config names is missing or does not fit.
    """
    configure_jax(config)
    devices = evaluation_devices()
    reader = Reader.load(config, Workdir(path).assets)
    encoding = reader.bind([source])
    source = encoded(config, encoding, source)
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
    """All devices of this machine: whatever mesh a run was trained on, these share the work."""
    return make_devices({"data": -1, "fsdp": 1}, "jit")


def abstract_variables(task: Task, batch: PyTree, devices: Devices) -> state.Variables:
    """Shapes, types and shardings of what a task evaluates with.

    Args:
        task: What is evaluated.
        batch: Shapes of a training batch.
        devices: Where it runs; every one of them holds all variables.
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
        run: From `prepare_evaluation`.
        path: The workdir.
        step: "best", "latest" or a number of steps. A run without a validation split knows of no
            best one, the latest stands for it.

    Returns:
        The checkpoint; its state are `state.Variables`.

    Raises:
        UserError: There is none of that name, or it is damaged or of another model.
    """
    return restore_variables(run.config, path, step, run.abstract)


def require_checkpoints(path: str | pathlib.Path) -> list[int]:
    """The steps that have a checkpoint.

    Args:
        path: The workdir.

    Raises:
        UserError: There is none.
    """
    there = reading.steps(Workdir(path).checkpoints)
    if not there:
        raise UserError(f"--workdir={path} holds no checkpoint yet.")
    return there


def restore_variables(
    config: Config, path: str | pathlib.Path, step: str | int, abstract: state.Variables
) -> reading.Restored:
    """Restores what evaluation uses of a checkpoint.

    Args:
        config: The workdir's config.
        path: The workdir.
        step: See `restore_step`.
        abstract: Shapes, types and shardings of the variables.

    Returns:
        The checkpoint; its state are `state.Variables`.

    Raises:
        UserError: There is none of that name, or it is damaged or of another model.
    """
    folder, there = Workdir(path).checkpoints, require_checkpoints(path)
    damaged: list[str] = []
    if step == "best" and config.data.validation:
        metric, mode = config.best_metric, config.best_mode
        restored = reading.restore_best(folder, abstract, metric, mode, damaged)
    elif step in ("best", "latest"):
        restored = reading.restore_latest(folder, abstract, damaged)
        assert restored is not None
    elif str(step).isdecimal() and int(step) in there:
        restored = reading.restore(folder, int(step), abstract)
    else:
        raise UsageError(
            f"--step={step}: there are checkpoints of the steps {', '.join(map(str, there))}, "
            "and 'best' and 'latest'."
        )
    for message in damaged:
        distributed.warn(message)
    return restored
