"""This project's side of the RCNN rows, by the task and the step that a config makes.

What `configs/rcnn_cifar10.py` says is stated here once more, because a config needs
`ml_collections`, which a machine that only measures may lack; `test_alternate.py` holds the two
against each other.
"""

import contextlib
import functools
import pathlib
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax
import rcnn_inputs
import shared_weights
from row import Prepared

from rcnn_jax.configuration import schema
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.transforms import chain
from rcnn_jax.experiment import task as experiment
from rcnn_jax.layers.convolution import direct_convolutions
from rcnn_jax.models.rcnn import RCNN
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.training import parameters
from rcnn_jax.training import step as step_lib
from rcnn_jax.training.parallel.mesh import Devices, make_devices

PLAIN = {
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
    image, label = rcnn_inputs.inputs(batch, size)
    columns = {"image": image, "label": label}
    recipe = experiment.make_recipe(config(batch), task(**model), ArraySource(columns), steps=1000)
    host = {**columns, "mask": np.ones(batch, np.float32)}
    return recipe, host, make_devices({"data": -1, "fsdp": 1}, "jit")


def task(precision: str = "float32", **model: Any) -> Any:
    """The task of the config, which says no more of it than this once it is plain."""
    dtype, param_dtype = experiment.PRECISIONS[precision]
    given = {"norm": "batch", "dropout": 0.0, "dtype": dtype, "param_dtype": param_dtype} | model
    as_it_is = chain.build("")
    return Classification(
        model=RCNN(classes=rcnn_inputs.CLASSES, **given),
        train_transform=as_it_is,
        evaluation_transform=as_it_is,
    )


def config(batch: int) -> SimpleNamespace:
    """The keys of the config that make the optimiser and the state."""
    default = schema.DEFAULTS
    return SimpleNamespace(
        batch_size=batch,
        optimizer=SimpleNamespace(**default["optimizer"]),
        schedule=SimpleNamespace(**default["schedule"] | {"name": "constant", "value": 1e-3}),
        sampler=SimpleNamespace(**default["sampler"]),
        **{key: default[key] for key in ("best_mode", "ema_decay", "seed")},
    )


def _initial(recipe: experiment.Recipe, devices: Devices, folder: pathlib.Path) -> Any:
    """The initial state, its weights left for other sides; taken from there if they are there."""
    state = recipe.create_state(devices)
    trees = {"params": state.params, "model_state": state.model_state}
    if not shared_weights.there(folder):
        initial = shared_weights.filled(parameters.flatten(trees), rcnn_inputs.constant)
        shared_weights.save(folder, initial)
    weights = shared_weights.load(folder)
    replaced = parameters.map_paths(lambda path, leaf: weights[path], trees)
    return state.replace(**devices.replicate(replaced))


def training_step(
    folder: pathlib.Path,
    *,
    batch: int,
    size: int,
    accumulate: int = 1,
    direct: bool = False,
    **model: Any,
) -> Prepared:
    """Forward, backward and the update of SGD with momentum, on a batch that stays in place.

    Args:
        folder: where weights are.
        batch: images.
        size: their height and width.
        accumulate: in how many parts the batch is taken.
        direct: no convolution by minimal filtering.
        **model: arguments of the model, and `precision`.
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
    way = direct_convolutions if direct else contextlib.nullcontext

    def run() -> None:
        with way():
            now["state"], now["sums"] = jax.block_until_ready(step(now["state"], placed))

    def answers() -> dict[str, Any]:
        total, count = now["sums"]["loss"]
        # The momentum of the first step is its gradient.
        momentum = optax.tree.get(now["state"].opt_state, "trace")
        gradient = {name: np.asarray(g) for name, g in parameters.flatten(momentum).items()}
        return {"loss": np.asarray(total / count), "gradient": gradient}

    gflop = rcnn_inputs.training_gflop(
        batch, size, model.get("features", 96), model.get("steps", 3)
    )
    return Prepared(run, answers, work=gflop, unit="GFLOP", settings=_settings())


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

    return Prepared(
        run,
        lambda: {"logits": np.asarray(now["logits"], np.float32)},
        work=batch,
        unit="images",
        settings=_settings(),
    )


def _settings() -> dict[str, Any]:
    """What decides how exact products are; on a GPU jax leaves float32 to TF32 unless told."""
    settings: Any = jax.config
    return {
        "jax_default_matmul_precision": settings.jax_default_matmul_precision,
        "device": jax.devices()[0].device_kind,
    }
