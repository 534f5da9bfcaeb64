"""Recomputation of batch statistics with fixed weights."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from rcnn_jax.layers.normalization import real_rows
from rcnn_jax.training.interface import PyTree, Task
from rcnn_jax.training.parallel.mesh import Devices


def recalibrate(
    task: Task,
    variables: tuple[PyTree, PyTree],
    batches: Iterable[PyTree],
    devices: Devices,
    key: jax.Array,
) -> PyTree:
    """Averages the model state of a task over forward passes of training.

    Augmentation and dropout are those of training, as for the statistics that training accumulates.

    Args:
        task: Task whose model keeps nothing of earlier batches (momentum 0), so that the state
            after a batch depends on that batch alone.
        variables: Pair (params, model_state).
        batches: Training batches, at least one.
        devices: Devices that the forward passes run on.
        key: Random key, `[]`; batch i uses `fold_in(key, i)`.

    Returns:
        The mean of the model state over the batches, each leaf in its original type.

    Raises:
        ValueError: `batches` is empty.
    """
    params, model_state = variables

    def after(params: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array) -> PyTree:
        carry = task.initial_carry(batch["mask"].shape[0])
        with real_rows(batch["mask"]):
            return task.loss(params, model_state, carry, batch, key).model_state

    measure = jax.jit(
        after,
        in_shardings=(None, None, devices.batch, None),
        out_shardings=devices.replicated,
    )
    total, count = None, 0
    for count, batch in enumerate(batches, start=1):
        measured = measure(params, model_state, batch, jax.random.fold_in(key, count - 1))
        total = measured if total is None else jax.tree.map(jnp.add, total, measured)
    if total is None:
        raise ValueError("recalibration needs at least 1 batch, got 0")
    return jax.tree.map(lambda leaf: (leaf / count).astype(leaf.dtype), total)
