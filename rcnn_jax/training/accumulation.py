"""Gradient accumulation: the gradient of a large batch, computed part by part in little memory.

Each part of the batch is a forward and a backward pass of its own, so that intermediate values are
held for one part at a time. Loss, count, metrics and the gradient of the *sum* of the loss add up
exactly, even if the parts have different counts (padding, sentences of unequal length).

A part takes rows of every device, and no row moves between devices. The rows of a batch lie in one
block for each device, each block is cut into as many pieces as there are parts, and part i consists
of piece i of every block. Random draws belong to the row in the whole batch
(`rcnn_jax.layers.randomness.part_of_batch`), so that augmentation and dropout are those of the
batch processed at once.

On a CPU the parts are unrolled, and compile time grows with their number; on other devices they run
in a loop.

With batch normalization this is *not* equivalent to one large batch. Each part is normalized by its
own statistics, and running statistics are updated once for each part: the model state passes from
part to part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rcnn_jax.errors import UsageError
from rcnn_jax.layers.randomness import part_of_batch
from rcnn_jax.training.interface import LossOutput, PyTree, Sums


class Summed(NamedTuple):
    """Sums over the parts of a batch, with the fields of a `LossOutput`.

    Attributes:
        total: Loss summed over the examples of the batch, `[]`.
        count: Number that `total` is divided by once both are summed over all devices, `[]`.
        model_state: Batch statistics after the last part.
        carry: Recurrent state after the batch, leaves `[batch, ...]`.
        metrics: Pairs (sum, count) by name.
    """

    total: jax.Array
    count: jax.Array
    model_state: PyTree
    carry: PyTree
    metrics: Sums


def check_batch_size(size: int, parts: int, devices: int) -> None:
    """Checks that a training batch can be cut into parts that the devices share evenly.

    Args:
        size: Number of rows of the global batch.
        parts: Number of parts, `config.accumulate`.
        devices: Number of devices.

    Raises:
        UsageError: `size` is not divisible by `parts * devices`.
    """
    whole = parts * devices
    if size % whole:
        below, above = size // whole * whole, -(-size // whole) * whole
        near = f"{below} or {above}" if below else f"{above}"
        raise UsageError(
            f"config.batch_size={size} is not divisible by config.accumulate={parts} x {devices} "
            f"devices: use {near}."
        )


def gradient_of_sum(
    loss_of: Callable[..., LossOutput],
    params: PyTree,
    model_state: PyTree,
    carry: PyTree,
    batch: PyTree,
    key: jax.Array,
    *,
    parts: int,
    groups: int = 1,
    loop: bool | None = None,
) -> tuple[PyTree, Summed]:
    """Differentiates the loss of a batch, summed over its examples, part by part.

    Args:
        loss_of: Function with the arguments and the result of `Task.loss`.
        params: Parameters of the model.
        model_state: Batch statistics before the batch.
        carry: Recurrent state before the batch, leaves `[batch, ...]`.
        batch: Batch with leaves `[batch, ...]`.
        key: Random key of the step, `[]`, the same for all parts.
        parts: Number of parts that the batch is cut into.
        groups: Number of devices that the rows are distributed over; 1 if the caller holds the rows
            of one device.
        loop: Whether the parts run in a loop. None means a loop on all devices except CPUs.

    Returns:
        The gradient of the sum, and the sums over all parts, with the model state after the last
        part and the carry `[batch, ...]` of all rows.

    Raises:
        ValueError: The rows cannot be cut into equal pieces.
    """

    def one_part(number: Any, model_state: PyTree, piece: PyTree) -> tuple[PyTree, Summed]:
        piece, carry = piece

        def loss(params: PyTree) -> tuple[jax.Array, Any]:
            with part_of_batch(number, parts, groups):
                out = loss_of(params, model_state, carry, piece, key)
            return out.total, out

        gradient, out = jax.grad(loss, has_aux=True)(params)
        summed = Summed(out.total, out.count, out.model_state, out.carry, dict(out.metrics))
        return gradient, summed

    pieces = jax.tree.map(lambda rows: cut(rows, parts, groups), (batch, carry))
    if loop or (loop is None and not _loops_are_slow()):
        gradient, out, carries = _in_a_loop(one_part, model_state, pieces, parts)
    else:
        gradient, out, carries = _one_after_the_other(one_part, model_state, pieces, parts)
    return gradient, out._replace(carry=jax.tree.map(lambda x: _join(x, groups), carries))


def _loops_are_slow() -> bool:
    """Returns whether loops are slow, as they are on CPUs.

    There the gradient of a convolution's kernel takes many times as long in a loop.
    """
    return jax.default_backend() == "cpu"


def _one_after_the_other(
    one_part: Any, model_state: PyTree, cut: PyTree, parts: int
) -> tuple[PyTree, Summed, PyTree]:
    gradient, summed, carries = None, None, []
    for number in range(parts):
        piece = jax.tree.map(lambda x, number=number: x[number], cut)
        if number:
            # Without this the compiler may run forward passes of several parts before the first
            # backward pass, and hold the intermediate values of all.
            piece = _after(gradient, piece)
        part_gradient, out = one_part(number, model_state, piece)
        model_state = out.model_state
        carries.append(out.carry)
        gradient = part_gradient if number == 0 else _add(gradient, part_gradient)
        summed = out if summed is None else _add_sums(summed, out)
    assert summed is not None
    stacked = jax.tree.map(lambda *pieces: jnp.stack(pieces), *carries)
    return gradient, summed._replace(model_state=model_state), stacked


def _in_a_loop(
    one_part: Any, model_state: PyTree, cut: PyTree, parts: int
) -> tuple[PyTree, Summed, PyTree]:
    def step(sums: tuple[PyTree, Summed], numbered: tuple[jax.Array, PyTree]):
        gradient, summed = sums
        part_gradient, out = one_part(numbered[0], summed.model_state, numbered[1])
        added = _add_sums(summed, out)._replace(model_state=out.model_state, carry=())
        return (_add(gradient, part_gradient), added), out.carry

    first = jax.tree.map(lambda x: x[0], cut)
    gradient, out = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one_part, 0, model_state, first)
    )
    start = (gradient, out._replace(model_state=model_state, carry=()))
    (gradient, summed), carries = lax.scan(step, start, (jnp.arange(parts), cut))
    return gradient, summed, carries


def _add(left: PyTree, right: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, left, right)


def _add_sums(left: Summed, right: Summed) -> Summed:
    return left._replace(
        total=left.total + right.total,
        count=left.count + right.count,
        metrics=_add(left.metrics, right.metrics),
    )


def _after(earlier: PyTree, piece: PyTree) -> PyTree:
    """Returns `piece` in a form that can be read only once all of `earlier` has been computed.

    Compilers for CPUs remove optimization barriers before they order operations, so the dependence
    is through values: no number is below minus infinity, but the comparison has to be computed.
    """
    ends = [leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(earlier) if leaf.size]
    never = jnp.any(jnp.stack([end < -jnp.inf for end in ends]))
    return jax.tree.map(lambda rows: lax.select(never, jnp.zeros_like(rows), rows), piece)


def cut(rows: jax.Array, parts: int, groups: int) -> jax.Array:
    """Cuts rows into parts, each with rows of every group.

    Args:
        rows: Array `[batch, ...]`.
        parts: Number of parts.
        groups: Number of devices that the rows are distributed over, one block of rows each.

    Returns:
        The parts, `[parts, batch / parts, ...]`.

    Raises:
        ValueError: The rows cannot be cut into equal pieces.
    """
    if rows.shape[0] % (parts * groups):
        raise ValueError(
            f"a batch of {rows.shape[0]} rows cannot be cut into {parts} parts (config.accumulate) "
            f"of {groups} equal pieces"
        )
    blocks = rows.reshape(groups, parts, -1, *rows.shape[1:])
    return jnp.moveaxis(blocks, 1, 0).reshape(parts, -1, *rows.shape[1:])


def _join(parts: jax.Array, groups: int) -> jax.Array:
    """Inverts `cut`."""
    rest = parts.shape[2:]
    split = parts.reshape(parts.shape[0], groups, -1, *rest)
    return jnp.moveaxis(split, 0, 1).reshape(-1, *rest)
