"""Iteration of a layer over time steps: the loop, and the values that differ from step to step."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

LONGEST_UNROLLED = 8
"""Largest number of iterations that is unrolled by default: faster to run, slower to compile."""


def entry(per_step: PyTree, index: int | slice) -> PyTree:
    """Returns the entry of one step, or the entries of several, of each leaf.

    Args:
        per_step: Pytree of arrays `[steps, ...]`; None is an empty pytree.
        index: Number of a step, or a slice of steps.

    Returns:
        The same pytree with every leaf indexed along its leading axis.
    """
    return jax.tree.map(lambda value: value[index], per_step)


def kernels_of_steps(kernel: Array | None, rank: int, steps: int) -> Array | None:
    """Returns the untied kernels of steps 1..T, the last trained one repeated for steps beyond it.

    Args:
        kernel: Tied weights with `rank` axes, untied weights with a leading axis `[trained steps]`,
            or None for a layer without a recurrent kernel.
        rank: Number of axes of a tied kernel.
        steps: Number of iterations T, at least 0.

    Returns:
        Kernels `[steps, ...]` of untied weights. None for tied weights, where all steps use
        `kernel` itself, and for no kernel.

    Raises:
        ValueError: If `steps` is negative, or positive without a kernel.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.time_scan import kernels_of_steps
        >>> untied = jnp.array([1, 2]).reshape(2, 1, 1, 1)
        >>> kernels_of_steps(untied, rank=3, steps=4).ravel().tolist()
        [1, 2, 2, 2]
    """
    if steps < 0:
        raise ValueError(f"a recurrent layer runs for steps >= 0 iterations, got steps={steps}")
    if kernel is None and steps > 0:
        raise ValueError(
            f"a layer made with steps=0 has no recurrent kernel and runs 0 steps, got steps={steps}"
        )
    if kernel is None or kernel.ndim == rank:
        return None
    # A NumPy array cannot be indexed by a traced array.
    return jnp.asarray(kernel)[jnp.minimum(jnp.arange(steps), kernel.shape[0] - 1)]


def scan_steps(
    step: Callable[[Array, Any, bool], tuple[Array, Any]],
    first: Array,
    inputs: PyTree,
    *,
    steps: int,
    unroll: bool | None,
    remat: bool | str,
    all_states: bool,
) -> tuple[Array, PyTree]:
    """Iterates `step(state, inputs[t], in_loop) -> (state, report)` from the state `first`.

    Args:
        step: Function that computes one iteration; its argument `in_loop` is true if it is traced
            inside a loop.
        first: State before the first iteration, an array of any shape.
        inputs: Pytree of arrays `[steps, ...]` whose entry t is passed to iteration t.
        steps: Number of iterations T, at least 0.
        unroll: Whether to run without a loop. None unrolls up to `LONGEST_UNROLLED` iterations.
        remat: Rematerialization in the backward pass. False stores all intermediate values. True
            recomputes the inside of an iteration from its state, so that T states are stored.
            "chunks" recomputes runs of about sqrt(T) iterations from the state before each run, so
            that about 2 sqrt(T) states are stored, for one more forward pass.
        all_states: Whether to return all states instead of the last.

    Returns:
        A pair `(states, reports)`: the last state, or all states `[steps + 1, ...]` with `first` at
        the start; and the reports, each leaf stacked to `[steps, ...]`, or None for 0 steps.

    Raises:
        ValueError: If `remat` is not False, True or "chunks", or if `unroll` is true with "chunks".

    References:
        "chunks": Chen, Xu, Zhang & Guestrin, Training deep nets with sublinear memory cost, 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.time_scan import scan_steps
        >>> def step(state, increment, in_loop):
        ...     return state + increment, 10 * state
        >>> states, reports = scan_steps(
        ...     step, jnp.array(0), jnp.array([1, 2, 3]),
        ...     steps=3, unroll=None, remat=False, all_states=True,
        ... )
        >>> states.tolist(), reports.tolist()
        ([0, 1, 3, 6], [0, 10, 30])
    """
    if remat not in (False, True, "chunks"):
        raise ValueError(f'remat must be False, True or "chunks", got {remat!r}')
    if remat == "chunks" and unroll:
        raise ValueError('remat="chunks" is a loop over loops and cannot be unrolled (unroll=True)')
    if steps == 0:
        return (first[None] if all_states else first), None
    # The chunks form a loop, so their contents are traced inside a loop as well.
    unrolled = remat != "chunks" and (steps <= LONGEST_UNROLLED if unroll is None else unroll)

    def advance(state: Array, x: Any) -> tuple[Array, Any]:
        return step(state, x, not unrolled)

    if remat:
        # In a loop the compiler cannot merge the two evaluations; unrolled, the flag prevents it.
        advance = jax.checkpoint(advance, prevent_cse=unrolled)

    def body(state: Array, x: Any) -> tuple[Array, Any]:
        state, report = advance(state, x)
        return state, (state if all_states else None, report)

    def run(state: Array, xs: PyTree, length: int) -> tuple[Array, PyTree]:
        if unrolled and length == 1:
            # `lax.scan` makes a loop of one step even with `unroll=True`, and the gradient of a
            # kernel inside a loop is eleven times slower if `in_loop` is not set.
            state, out = body(state, entry(xs, 0))
            return state, jax.tree.map(lambda y: y[None], out)
        return lax.scan(body, state, xs, length=length, unroll=unrolled)

    if remat == "chunks":
        last, (states, reports) = _in_chunks(run, first, inputs, steps)
    else:
        last, (states, reports) = run(first, inputs, steps)
    return (jnp.concatenate([first[None], states]) if all_states else last), reports


def _in_chunks(
    run: Callable[[Array, PyTree, int], tuple[Array, PyTree]],
    first: Array,
    inputs: PyTree,
    steps: int,
) -> tuple[Array, PyTree]:
    """Computes `run(first, inputs, steps)`, storing only the state before each chunk of steps."""
    size = math.isqrt(steps - 1) + 1  # the root, rounded up
    whole = steps // size

    def chunk(state: Array, xs: PyTree) -> tuple[Array, PyTree]:
        return run(state, xs, size)

    chunked = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), inputs)
    state, out = lax.scan(jax.checkpoint(chunk), first, chunked, length=whole)
    out = jax.tree.map(lambda y: y.reshape(whole * size, *y.shape[2:]), out)
    rest = steps - whole * size
    if not rest:
        return state, out
    state, tail = run(state, entry(inputs, slice(whole * size, None)), rest)
    return state, jax.tree.map(lambda y, z: jnp.concatenate([y, z]), out, tail)


def prepend(first: PyTree, later: PyTree) -> PyTree:
    """Stacks the report of t = 0 before the reports of t = 1..T.

    Args:
        first: Report of t = 0, a pytree of arrays `[...]`.
        later: Reports of t = 1..T, a pytree of arrays `[T, ...]`, or None for T = 0.

    Returns:
        A pytree of arrays `[T + 1, ...]`.
    """
    if later is None:
        return jax.tree.map(lambda a: a[None], first)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)
