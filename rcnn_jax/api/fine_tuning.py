"""Continues training from a run's variables with any Optax optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcnn_jax.layers.normalization import real_rows
from rcnn_jax.training.parallel.mesh import Devices


class FineTuning(NamedTuple):
    """The training state between two steps; a pytree.

    Attributes:
        params: Pytree of parameters.
        model_state: Pytree of batch statistics.
        opt_state: State of the optimiser.
        carry: Recurrent state that is passed from batch to batch; `()` for tasks without one.
        key: Random key; step t uses `fold_in(key, t)`.
        step: Number of steps taken, `int32[]`.
    """

    params: Any
    model_state: Any
    opt_state: Any
    carry: Any
    key: jax.Array
    step: jax.Array


def mean_loss(
    task: Any, params: Any, model_state: Any, batch: Any, key: jax.Array, carry: Any
) -> tuple[jax.Array, Any]:
    """Computes the training loss of a batch, for `jax.value_and_grad(..., has_aux=True)`.

    Args:
        task: Task whose loss is computed.
        params: Pytree of parameters.
        model_state: Pytree of batch statistics.
        batch: Arrays `[batch, ...]` by name, with `mask` `[batch]`; rows whose mask is 0 do not
            count.
        key: Random key of augmentation and dropout.
        carry: Recurrent state from the previous batch.

    Returns:
        The mean loss `[]`, and the result of `Task.loss` with `model_state`, `carry` and `metrics`.
    """
    with real_rows(batch["mask"]):
        out = task.loss(params, model_state, carry, batch, key)
    count = jax.lax.stop_gradient(out.count)
    return out.total / jnp.where(count > 0, count, 1), out


def start(
    task: Any,
    variables: tuple[Any, Any],
    optimizer: optax.GradientTransformation,
    devices: Devices,
    *,
    batch_size: int,
    seed: int,
) -> FineTuning:
    """Makes the state before the first step.

    Args:
        task: Task to train.
        variables: Pair (params, model_state).
        optimizer: Optax optimiser that includes its learning rate.
        devices: Devices on which the training runs.
        batch_size: Number of rows of a batch, for tasks with a recurrent state.
        seed: Seed of augmentation and dropout.

    Returns:
        The state, placed on the devices.
    """
    params, model_state = variables
    state = FineTuning(
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        carry=task.initial_carry(batch_size),
        key=jax.random.key(seed),
        step=jnp.zeros((), jnp.int32),
    )
    carry = jax.device_put(state.carry, devices.batch)
    return devices.replicate(state._replace(carry=()))._replace(carry=carry)


def make_step(
    task: Any, optimizer: optax.GradientTransformation, devices: Devices
) -> Callable[[FineTuning, Any], tuple[FineTuning, jax.Array]]:
    """Makes the compiled training step.

    Args:
        task: Task to train.
        optimizer: Optax optimiser that includes its learning rate.
        devices: Devices on which the training runs.

    Returns:
        A function from a state and a batch to the next state and the mean loss `[]`.
    """

    def step(state: FineTuning, batch: Any) -> tuple[FineTuning, jax.Array]:
        key = jax.random.fold_in(state.key, state.step)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            return mean_loss(task, params, state.model_state, batch, key, state.carry)

        (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        state = state._replace(
            params=optax.apply_updates(state.params, updates),
            model_state=out.model_state,
            opt_state=opt_state,
            carry=out.carry,
            step=state.step + 1,
        )
        return state, value

    # The same sharding as the state of `start`; otherwise the second step would be recompiled.
    everywhere: Any = devices.replicated
    state = FineTuning(*[everywhere] * len(FineTuning._fields))._replace(carry=devices.batch)
    return jax.jit(step, out_shardings=(state, everywhere))
