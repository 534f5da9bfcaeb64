"""One training step and one evaluation step, the same for jit on a mesh and for pmap."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.training import optimizer as optimizer_lib
from rcnn_jax.training.interface import PyTree, Sums, Task
from rcnn_jax.training.schedules import Plateau
from rcnn_jax.training.sharding import Devices
from rcnn_jax.training.state import TrainState

STATE_FIELDS = tuple(field.name for field in dataclasses.fields(TrainState))
StepFunction = Callable[[TrainState, PyTree], tuple[TrainState, Sums]]


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation | optimizer_lib.Constrained,
    schedule: optax.Schedule,
    plateau: Plateau,
    *,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> StepFunction:
    """Makes the function from a state and a batch to the next state.

    The loss is the sum over the whole global batch, divided by its whole count: the same number
    however the batch is spread.

    Args:
        task: What is trained.
        optimizer: The optimiser without its learning rate. Its constraint, where it has one,
            holds for the new parameters and for their average.
        schedule: From the step to the learning rate.
        plateau: What scales the learning rate.
        ema_decay: Of the average of the weights; 0 for none. Early on the decay is
            `(1 + step) / (10 + step)`, so that the initial weights are soon forgotten.
        axis_name: The mapped axis under pmap; None under jit, where arrays are global.

    Returns:
        A pure function, to be compiled by `compile_train_step`.
    """
    total_over_devices = (
        (lambda x: x) if axis_name is None else functools.partial(jax.lax.psum, axis_name=axis_name)
    )

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(state.key, state.step)

        def loss(params: PyTree):
            out = task.loss(params, state.model_state, state.carry, batch, key)
            count = jax.lax.stop_gradient(total_over_devices(out.count))
            return out.total / count, out

        gradient, out = jax.grad(loss, has_aux=True)(state.params)
        gradient = total_over_devices(gradient)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        rate = jnp.asarray(schedule(state.step) * plateau.scale(state.plateau))
        params = optimizer_lib.apply(optimizer, state.params, updates, rate)

        ema = state.ema
        if ema is not None:
            t = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1 + t) / (10 + t))
            ema = jax.tree.map(
                lambda average, new: (average + (1 - decay) * (new - average)).astype(new.dtype),
                ema,
                {"params": params, "model_state": out.model_state},
            )
            # Averages of constrained weights keep a convex constraint; the initial weights, which
            # count in them too, may not have kept it.
            ema = ema | {"params": optimizer_lib.constrain(optimizer, ema["params"])}
        sums = dict(out.metrics) | {"loss": (out.total, out.count)}
        sums = total_over_devices(sums)
        one = jnp.ones((), jnp.float32)
        sums["gradient_norm"] = (optax.tree.norm(gradient), one)
        sums["learning_rate"] = (jnp.asarray(rate, jnp.float32), one)
        return state.replace(
            step=state.step + 1,
            params=params,
            model_state=out.model_state,
            opt_state=opt_state,
            carry=out.carry,
            ema=ema,
        ), sums

    return train_step


def compile_train_step(make: Callable[..., StepFunction], devices: Devices) -> StepFunction:
    """Compiles a training step for the devices; the state given to it is consumed.

    Args:
        make: `make_train_step` with everything but `axis_name` bound.
        devices: Where it runs, and whether by jit or by pmap.

    Returns:
        The compiled step. Its batches are to be placed by `devices.place`.
    """
    if devices.parallelism == "jit":
        return jax.jit(
            make(axis_name=None),
            donate_argnums=(0,),
            in_shardings=(None, devices.batch),
        )

    # Only what belongs to examples is split; the state stays one array a leaf, as under jit, so
    # that checkpoints and evaluation do not know how a step is run.
    axes: Any = dict.fromkeys(STATE_FIELDS) | {"carry": 0}
    axes = TrainState(**axes)
    mapped = jax.pmap(
        make(axis_name=DATA_AXIS),
        axis_name=DATA_AXIS,
        in_axes=(axes, 0),
        out_axes=(axes, None),  # pyright: ignore[reportArgumentType]
        donate_argnums=(0,),
        devices=devices.mesh.devices.flatten().tolist(),
    )

    def pmap_step(state: TrainState, batch: PyTree) -> tuple[TrainState, Sums]:
        state, sums = mapped(state.replace(carry=devices.split(state.carry)), batch)
        return state.replace(carry=devices.join(state.carry)), sums

    return pmap_step


def compile_evaluation_step(
    task: Task, devices: Devices, *, predictions: bool, counts: bool = False
) -> Callable[[PyTree, PyTree, PyTree], tuple[Sums, dict[str, Any], dict[str, Any]]]:
    """Compiles the evaluation of one batch; always by jit on the mesh.

    Args:
        task: What is evaluated.
        devices: Where it runs.
        predictions: Whether predictions are wanted too.
        counts: Whether the counts behind the task's details are wanted too.

    Returns:
        A function from (params, model_state, batch) to (metric sums, predictions, counts).
    """

    def evaluation_step(params: PyTree, model_state: PyTree, batch: PyTree):
        outputs = task.predict(params, model_state, batch) if predictions else {}
        counted = dict(task.counts(params, model_state, batch)) if counts else {}
        return dict(task.metrics(params, model_state, batch)), outputs, counted

    return jax.jit(
        evaluation_step,
        in_shardings=(devices.replicated, devices.replicated, devices.batch),
        out_shardings=devices.replicated,
    )
