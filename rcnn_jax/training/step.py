"""The training step and the evaluation step, for jit on a mesh as well as for pmap."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.layers.normalization import real_rows
from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.training import accumulation
from rcnn_jax.training import optimizer as optimizer_lib
from rcnn_jax.training.interface import LossOutput, Metric, PyTree, Sums, Task
from rcnn_jax.training.parallel.mesh import Devices
from rcnn_jax.training.schedules import Plateau
from rcnn_jax.training.state import TrainState

STATE_FIELDS = tuple(field.name for field in dataclasses.fields(TrainState))
StepFunction = Callable[[TrainState, PyTree], tuple[TrainState, Sums]]


class Evaluated(NamedTuple):
    """Result of the evaluation of one batch.

    Attributes:
        count: Number of examples in the batch, `[]`.
        sums: Pair (sum, count) of each metric of the task, by name.
        measured: Sums of each metric that the config adds, by name.
        predictions: Pair (predictions, features that the task keeps); empty unless predictions are
            requested.
        counts: Counts from which the task's ratios and details are computed, by name; empty unless
            they are requested.
        carry: Recurrent state after the batch, which stays on the devices.
    """

    count: jax.Array
    sums: Sums
    measured: dict[str, PyTree]
    predictions: tuple
    counts: dict[str, jax.Array]
    carry: PyTree


def make_train_step(
    task: Task,
    optimizer: optimizer_lib.Optimizer,
    schedule: optax.Schedule,
    plateau: Plateau,
    *,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    devices: int = 1,
    padded: bool = False,
    axis_name: str | None = None,
) -> StepFunction:
    """Makes the function that maps a state and a batch to the next state.

    The loss is the sum over the whole global batch, divided by the count of the whole batch. It is
    the same number however the batch is distributed.

    Args:
        task: Task that is trained.
        optimizer: Optimiser without its learning rate. If it has a constraint, the new parameters
            and their average are projected onto it.
        schedule: Function from the step to the learning rate.
        plateau: Rule whose state scales the learning rate.
        ema_decay: Decay of the exponential moving average of the weights, in `[0, 1)`; 0 keeps no
            average. Early in training the decay is `(1 + step) / (10 + step)`, so that the initial
            weights are soon forgotten.
        accumulate: Number of parts in which the batch is processed; see
            `rcnn_jax.training.accumulation`. With batch normalization each part is normalized by
            its own statistics.
        devices: Number of devices that the rows of a batch are distributed over. It matters only if
            `accumulate` is above 1.
        padded: Whether a batch may have rows whose mask is 0, which batch statistics then leave
            out.
        axis_name: Name of the mapped axis under pmap. None means jit, under which arrays are
            global.

    Returns:
        A pure function, to be compiled by `compile_train_step`.
    """
    loss_of = over_real_rows(task.loss) if padded else task.loss
    total_over_devices = (
        (lambda x: x) if axis_name is None else functools.partial(jax.lax.psum, axis_name=axis_name)
    )

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(state.key, state.step)

        def loss(params: PyTree):
            out = loss_of(params, state.model_state, state.carry, batch, key)
            count = jax.lax.stop_gradient(total_over_devices(out.count))
            # A batch of which no record could be read has a loss of 0 instead of 0 / 0.
            return out.total / jnp.where(count > 0, count, 1), out

        if accumulate == 1:
            gradient, out = jax.grad(loss, has_aux=True)(state.params)
            gradient = total_over_devices(gradient)
        else:
            gradient, out = accumulation.gradient_of_sum(
                loss_of, state.params, state.model_state, state.carry, batch, key,
                parts=accumulate, groups=devices if axis_name is None else 1,
            )  # fmt: skip
            gradient, count = total_over_devices((gradient, out.count))
            count = jnp.where(count > 0, count, 1)
            gradient = jax.tree.map(lambda g: (g / count).astype(g.dtype), gradient)
        rate = jnp.asarray(schedule(state.step) * plateau.scale(state.plateau) * state.rate_scale)

        def mean_loss() -> jax.Array:
            total, count = total_over_devices((out.total, out.count))
            return total / jnp.where(count > 0, count, 1)

        params, opt_state = optimizer_lib.step(
            optimizer, gradient, state.opt_state, state.params, rate, mean_loss
        )

        ema = state.ema
        if ema is not None:
            t = state.step.astype(jnp.float32)
            decay = jnp.minimum(ema_decay, (1 + t) / (10 + t))
            ema = jax.tree.map(
                lambda average, new: (average + (1 - decay) * (new - average)).astype(new.dtype),
                ema,
                {"params": params, "model_state": out.model_state},
            )
            # An average of weights that meet a convex constraint meets it too, but it also
            # includes the initial weights, which may not meet it.
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


def over_real_rows(loss: Callable[..., LossOutput]) -> Callable[..., LossOutput]:
    """Wraps a task's loss so that its batch statistics leave out rows of padding.

    It is applied only where padding is possible, because statistics over all rows are computed
    faster.

    Args:
        loss: Function with the arguments and the result of `Task.loss`.

    Returns:
        A function with the same arguments and result.
    """

    def loss_of_real_rows(
        params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree, key: jax.Array
    ) -> LossOutput:
        with real_rows(batch["mask"]):
            return loss(params, model_state, carry, batch, key)

    return loss_of_real_rows


def compile_train_step(make: Callable[..., StepFunction], devices: Devices) -> StepFunction:
    """Compiles a training step for the devices; the step donates the state that it is called with.

    Args:
        make: `make_train_step` with all arguments bound but `axis_name`.
        devices: Devices that the step runs on; they also say whether it runs by jit or by pmap.

    Returns:
        The compiled step. Its batches must be placed by `devices.place`.
    """
    if devices.parallelism == "jit":
        step = make(axis_name=None)

        def global_step(state: TrainState, batch: PyTree) -> tuple[TrainState, Sums]:
            state, sums = step(state, batch)
            # Without the constraint the compiler may choose another sharding for the next state.
            keep = jax.lax.with_sharding_constraint
            return keep(state, devices.state_shardings(state)), keep(sums, devices.replicated)

        return jax.jit(global_step, donate_argnums=(0,), in_shardings=(None, devices.batch))

    # Only the carry, which belongs to examples, is split. All other leaves of the state stay one
    # array each, as under jit, so that checkpoints and evaluation need not distinguish the two.
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
        carry = devices.join(state.carry)
        return devices.everywhere(state.replace(carry=())).replace(carry=carry), sums

    return pmap_step


def compile_prediction(
    task: Task, devices: Devices
) -> Callable[[PyTree, PyTree, PyTree], dict[str, jax.Array]]:
    """Compiles the prediction for one batch, always by jit on the mesh.

    Args:
        task: Task that predicts.
        devices: Devices that the prediction runs on.

    Returns:
        A function from (params, model_state, batch) to predictions, which are the same in every
        process.
    """
    return jax.jit(
        task.predict,
        in_shardings=(None, None, devices.batch),
        out_shardings=devices.replicated,
    )


class EvaluationStep:
    """Evaluates a split batch by batch, compiled by jit on the mesh once for each batch size."""

    def __init__(
        self,
        task: Task,
        devices: Devices,
        *,
        predictions: bool,
        counts: bool = False,
        metrics: Mapping[str, Metric] | None = None,
    ):
        """Prepares the step; nothing is compiled yet.

        Args:
            task: Task that is evaluated.
            devices: Devices that the evaluation runs on.
            predictions: Whether predictions are returned to the host.
            counts: Whether the counts behind the task's details are returned too. They always are
                if the task has ratios.
            metrics: Further metrics by name. None means no further metrics.
        """
        self._task, self._devices = task, devices
        self._predictions, self._counts = predictions, counts or task.has_ratios
        self._metrics = dict(metrics or {})
        self._compiled: dict[int, Callable[..., Evaluated]] = {}

    def start(self, rows: int) -> PyTree:
        """Returns the recurrent carry before the first batch of a split, on the devices.

        Args:
            rows: Number of rows of a batch.
        """
        shapes = jax.eval_shape(lambda: self._task.evaluation_carry(rows))
        if not jax.tree.leaves(shapes):
            return self._task.evaluation_carry(rows)
        make = jax.jit(
            lambda: self._task.evaluation_carry(rows), out_shardings=self._shardings(shapes, rows)
        )
        return make()

    def _shardings(self, carry: PyTree, rows: int) -> PyTree:
        """Returns the shardings of a carry.

        Leaves `[rows, ...]` are sharded as the batch is. Those of a single stream are replicated.
        """
        devices = self._devices
        return jax.tree.map(
            lambda x: devices.batch if x.shape[:1] == (rows,) else devices.replicated, carry
        )

    def __call__(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree
    ) -> Evaluated:
        """Evaluates a batch.

        Args:
            params: Parameters of the model.
            model_state: Batch statistics of the model.
            carry: Recurrent state from `start` or from the batch before.
            batch: Batch with leaves `[batch, ...]`, placed on the devices.

        Returns:
            The result, which is the same in every process.
        """
        rows = batch["mask"].shape[0]
        if rows not in self._compiled:
            # Every process reads all results but the carry on its host.
            everywhere: list[Any] = [self._devices.replicated] * (len(Evaluated._fields) - 1)
            self._compiled[rows] = jax.jit(
                self._evaluate,
                in_shardings=(None, None, None, self._devices.batch),
                out_shardings=Evaluated(*everywhere, carry=self._shardings(carry, rows)),
            )
        return self._compiled[rows](params, model_state, carry, batch)

    def _evaluate(
        self, params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree
    ) -> Evaluated:
        task = self._task
        predictions = self._predictions or bool(self._metrics)
        out = task.evaluate_batch(
            params, model_state, carry, batch, predictions=predictions, counts=self._counts
        )
        kept = ("mask", *(name for name in task.keeps if name in batch))
        return Evaluated(
            count=jnp.sum(batch["mask"]),
            sums=dict(out.sums),
            measured={
                name: metric.sums(out.predictions, batch) for name, metric in self._metrics.items()
            },
            # They come with the kept features, because no process holds all rows of the batch.
            predictions=(
                (dict(out.predictions), {name: batch[name] for name in kept})
                if self._predictions
                else ()
            ),
            counts=dict(out.counts) if self._counts else {},
            carry=out.carry,
        )
