"""This project's side of the RCNN rows, by the task and the step that a config makes."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
import optax
import rcnn_inputs
import shared_weights
from row import Prepared

from rcnn_jax import configuration, experiment
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.training import paths
from rcnn_jax.training import step as step_lib
from rcnn_jax.training.sharding import Devices, make_devices

_PLAIN = {
    "model.dropout": "0.0",
    "task.label_smoothing": "0.0",
    "data.preprocess": "",
    "data.augment": "",
    "data.evaluate": "",
    "optimizer.nesterov": "False",
    "optimizer.weight_decay": "0.0",
    "schedule.name": "constant",
    "schedule.warmup_fraction": "0.0",
    "schedule.value": "0.001",
}
"""Of the config rcnn_cifar10: plain SGD with momentum, no dropout, images as they are."""


def _recipe(
    batch: int, size: int, **model: Any
) -> tuple[experiment.Recipe, dict[str, np.ndarray], Devices]:
    """The task and its optimiser, the batch on the host, and the devices."""
    overrides = _PLAIN | {f"model.{name}": str(value) for name, value in model.items()}
    config = configuration.load("rcnn_cifar10", [*overrides.items(), ("batch_size", str(batch))])
    image, label = rcnn_inputs.inputs(batch, size)
    columns = {"image": image, "label": label}
    task = experiment.build_task(config, {})
    recipe = experiment.make_recipe(config, task, ArraySource(columns), steps=1000)
    host = {**columns, "mask": np.ones(batch, np.float32)}
    return recipe, host, make_devices({"data": -1, "fsdp": 1}, "jit")


def _initial(recipe: experiment.Recipe, devices: Devices, folder: pathlib.Path) -> Any:
    """The initial state, its weights left for other sides; taken from there if they are there."""
    state = recipe.create_state(devices)
    trees = {"params": state.params, "model_state": state.model_state}
    if not shared_weights.there(folder):
        initial = shared_weights.filled(paths.flatten(trees), rcnn_inputs.constant)
        shared_weights.save(folder, initial)
    weights = shared_weights.load(folder)
    replaced = paths.map_paths(lambda path, leaf: weights[path], trees)
    return state.replace(**devices.replicate(replaced))


def training_step(
    folder: pathlib.Path, *, batch: int, size: int, accumulate: int = 1, **model: Any
) -> Prepared:
    """Forward, backward and the update of SGD with momentum, on a batch that stays in place.

    Args:
        folder: where weights are.
        batch: images.
        size: their height and width.
        accumulate: in how many parts the batch is taken.
        **model: arguments of the model.
    """
    recipe, host, devices = _recipe(batch, size, **model)
    make = functools.partial(
        step_lib.make_train_step,
        recipe.task,
        recipe.optimizer,
        recipe.schedule,
        recipe.plateau,
        accumulate=accumulate,
    )
    step = step_lib.compile_train_step(make, devices)
    placed = devices.place(host)
    now = {"state": _initial(recipe, devices, folder), "sums": None}

    def run() -> None:
        now["state"], now["sums"] = jax.block_until_ready(step(now["state"], placed))

    def answers() -> dict[str, Any]:
        total, count = now["sums"]["loss"]
        # The momentum of the first step is its gradient.
        momentum = optax.tree.get(now["state"].opt_state, "trace")
        gradient = {name: np.asarray(g) for name, g in paths.flatten(momentum).items()}
        return {"loss": np.asarray(total / count), "gradient": gradient}

    gflop = rcnn_inputs.training_gflop(
        batch, size, model.get("features", 96), model.get("steps", 3)
    )
    return Prepared(run, answers, work=gflop, unit="GFLOP")


def inference(folder: pathlib.Path, *, batch: int, size: int, **model: Any) -> Prepared:
    """Logits of a batch that stays in place; arguments as for `training_step`."""
    recipe, host, devices = _recipe(batch, size, **model)
    state = _initial(recipe, devices, folder)
    module: Any = getattr(recipe.task, "model")  # noqa: B009 - the protocol does not have it
    images = devices.place(host["image"])
    variables = {"params": state.params, **state.model_state}
    forward = jax.jit(lambda variables, images: module.apply(variables, images, train=False))
    now: dict[str, Any] = {}

    def run() -> None:
        now["logits"] = jax.block_until_ready(forward(variables, images))

    return Prepared(run, lambda: {"logits": np.asarray(now["logits"])}, work=batch, unit="images")
