"""Builds the components that a config names: transforms, model, task, metrics, optimiser.

Training, evaluation and prediction build the same experiment from the same config.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.configuration.importing import check_parts
from rcnn_jax.data.encoders.base import Encoding
from rcnn_jax.data.sources import Source
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain
from rcnn_jax.errors import UsageError
from rcnn_jax.experiment.data import batch_shapes, chains
from rcnn_jax.training import optimizer, schedules, state
from rcnn_jax.training.interface import Config, Metric, PyTree, Task
from rcnn_jax.training.parallel.mesh import Devices

# `config.precision` -> (type of computation, type of parameters).
PRECISIONS = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "float64": ("float64", "float64"),
}


def configure_jax(config: Config) -> None:
    """Sets options of jax that must be set before the first array is created.

    Args:
        config: Complete config. Its `precision` "float64" enables 64-bit types.
    """
    if config.precision == "float64":
        jax.config.update("jax_enable_x64", True)


def build_task(
    config: Config,
    assets: Mapping[str, np.ndarray],
    encoding: Encoding | None = None,
    features: Mapping[str, Feature] | None = None,
    /,
    **call: Any,
) -> Task:
    """Builds the model and the task.

    Args:
        config: Complete config.
        assets: Arrays fitted on the training split, by name.
        encoding: Encoding that converts text to numbers; the sizes it knows are passed to the model
            and the task. None if the examples are not encoded.
        features: Features of the examples by name; their roles determine which of them the
            transforms change together. None means the feature `image` alone.
        **call: Further keyword arguments of the model's call in evaluation.

    Returns:
        The task.

    Raises:
        UsageError: A component cannot be imported or does not accept its arguments, or the config
            states a size that contradicts the data.
    """
    for_model = {} if encoding is None else encoding.for_model
    for_task = {} if encoding is None else encoding.for_task
    _check_agreement(config.model, "config.model", for_model)
    _check_agreement(config.task, "config.task", for_task)
    dtype, param_dtype = PRECISIONS[config.precision]
    takes = importing.arguments(importing.resolve(config.model.name, "config.model.name"))
    if config.precision != "float32" and not {"dtype", "param_dtype"} <= set(takes):
        raise UsageError(
            f"config.precision={config.precision!r} needs a model with the arguments dtype and "
            f"param_dtype, which {config.model.name} does not take."
        )
    model = importing.build(
        config.model, "config.model", dtype=dtype, param_dtype=param_dtype, **for_model
    )
    image_dtype = "float64" if dtype == "float64" else "float32"
    roles = None if features is None else chain.roles_of(features)
    training, evaluating = (
        chain.build(text, assets, dtype=image_dtype, roles=roles) for text in chains(config)
    )
    return importing.build(
        _task_section(config, for_task),
        "config.task",
        model=model,
        train_transform=training,
        evaluation_transform=evaluating,
        call=call,
        **for_task,
    )


def build_metrics(config: Config) -> dict[str, Metric]:
    """Builds the metrics that a config adds to those of its task.

    Args:
        config: Complete config. `config.metrics` maps the name of each metric to a section of
            `name`, an import path, and arguments.

    Returns:
        The metrics by name.

    Raises:
        UsageError: A metric cannot be imported, does not accept its arguments, or does not
            implement `rcnn_jax.training.interface.Metric`.
    """
    metrics = {}
    for name, section in config.metrics.items():
        origin = f"config.metrics.{name}"
        if not hasattr(section, "to_dict") or "name" not in section:
            raise UsageError(
                f"{origin} must be a section whose key `name` is the import path of a metric, as "
                f"in --{origin}.name=rcnn_jax.metrics.ratios:MeanIoU."
            )
        metrics[name] = importing.build(section.to_dict(), origin)
        protocol = "rcnn_jax.training.interface:Metric"
        check_parts(metrics[name], ("sums", "value"), f"{origin}.name", protocol)
    return metrics


def _task_section(config: Config, decided: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the task: its section, and those for the search for answers.

    Args:
        config: Complete config.
        decided: Arguments of the task that the data determine, which the config must not state.
    """
    task, name = dict(config.task), config.task.name
    taken = {*decided, "model", "train_transform", "evaluation_transform", "call"}
    every = importing.arguments(importing.resolve(name, "config.task.name"))
    allowed = {key: kind for key, kind in every.items() if key not in taken}
    decoding = importing.checked(config.decoding, "config.decoding", name, allowed)
    twice = [key for key in decoding if key in task]
    if twice:
        raise UsageError(
            f"config.decoding.{twice[0]} and config.task.{twice[0]} are both set: leave one of "
            "them out."
        )
    return task | decoding


def _check_agreement(section: Config, origin: str, decided: Mapping[str, Any]) -> None:
    for key, value in decided.items():
        if key in section and section[key] != value:
            raise UsageError(
                f"{origin}.{key}={section[key]!r} contradicts the training split and its encoder, "
                f"which make it {value!r}: leave the key out."
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Components from which a state is created and advanced, for training as well as for restoring.

    Attributes:
        task: Task that is trained.
        optimizer: Optimiser without its learning rate.
        schedule: Function from the step to the learning rate; None if nothing is trained.
        plateau: Rule that lowers the learning rate at evaluations.
        batch: Shapes and types of a training batch.
        seed: Seed of the initial weights and of all later randomness.
        ema: Whether averages of the variables are kept.
    """

    task: Task
    optimizer: Any
    schedule: Any
    plateau: schedules.Plateau
    batch: PyTree
    seed: int
    ema: bool

    def _create(self, batch: PyTree) -> state.TrainState:
        return state.create(
            self.task, self.optimizer, self.plateau, batch, seed=self.seed, ema=self.ema
        )

    def create_state(self, devices: Devices) -> state.TrainState:
        """Creates the state before the first step.

        Args:
            devices: Devices that the state is placed on.

        Returns:
            The state at step 0.
        """
        shapes = jax.eval_shape(self._create, self.batch)
        # NumPy arrays, which the compiled function converts to the widths that jax uses.
        batch = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), self.batch)
        return jax.jit(self._create, out_shardings=devices.state_shardings(shapes))(batch)

    def abstract_state(self, devices: Devices) -> state.TrainState:
        """Returns the shapes, types and shardings of the state without creating it.

        Args:
            devices: Devices that the state would be placed on.
        """
        shapes = jax.eval_shape(self._create, self.batch)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            devices.state_shardings(shapes),
        )


def make_recipe(config: Config, task: Task, source: Source, steps: int) -> Recipe:
    """Builds the optimiser and schedule, and determines the shapes that a state is created from.

    Args:
        config: Complete config.
        task: Task that is trained.
        source: Any split, encoded; its features determine the shapes.
        steps: Number of training steps of the whole run.

    Returns:
        The recipe.
    """
    batch = batch_shapes(config, source)
    params = jax.eval_shape(lambda b: task.init(jax.random.key(0), b)[0], batch)
    return Recipe(
        task=task,
        optimizer=optimizer.build(config.optimizer, params, steps),
        schedule=schedules.build(config.schedule, steps),
        plateau=schedules.Plateau(config.schedule, config.best_mode),
        batch=batch,
        seed=config.seed,
        ema=config.ema_decay > 0,
    )
