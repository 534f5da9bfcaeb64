"""Iterating a layer over time steps: the loop, and what differs from step to step."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

LONGEST_UNROLLED = 8
"""Up to this many iterations are unrolled by default: faster to run, slower to compile."""


def entry(per_step: PyTree, index: int | slice) -> PyTree:
    """The entry, or the entries, of some steps: every leaf indexed along its leading axis."""
    return jax.tree.map(lambda value: value[index], per_step)


def kernels_of_steps(kernel: Array | None, rank: int, steps: int) -> Array | None:
    """Kernels `[steps, ...]` of t = 1..steps of untied weights, the last one repeated.

    Args:
        kernel: tied weights with `rank` axes, untied ones with one more, or None.
        rank: number of axes of a tied kernel.
        steps: number of iterations.

    Returns:
        None for tied weights: all steps use `kernel` itself.

    Raises:
        ValueError: `steps` is negative, or positive without a kernel.
    """
    if steps < 0:
        raise ValueError(f"a recurrent layer runs for steps >= 0 iterations, got steps={steps}")
    if kernel is None and steps > 0:
        raise ValueError(
            f"a layer made with steps=0 has no recurrent kernel and runs 0 steps, got steps={steps}"
        )
    if kernel is None or kernel.ndim == rank:
        return None
    # An array of NumPy cannot be indexed by what is traced.
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
        step: one iteration; `in_loop` says whether it is traced inside a loop.
        first: the state before the first iteration.
        inputs: pytree of arrays `[steps, ...]`.
        steps: number of iterations, at least 0.
        unroll: run without a loop; None does so up to `LONGEST_UNROLLED` steps.
        remat: what the backward pass computes again. True: the inside of a step, from its state,
            so that T states are kept; "chunks": runs of about sqrt(T) steps, from the state before
            each, so that about 2 sqrt(T) states are kept, for one more forward pass.
        all_states: return all states instead of the last.

    Returns:
        The last state, or all `[steps + 1, ...]` from `first` on; and the reports, each leaf
        stacked to `[steps, ...]` (None for no steps).

    Raises:
        ValueError: `remat` is none of these, or chunks are to be unrolled.

    Reference:
        "chunks": Chen, Xu, Zhang & Guestrin, Training deep nets with sublinear memory cost, 2016.
    """
    if remat not in (False, True, "chunks"):
        raise ValueError(f'remat must be False, True or "chunks", got {remat!r}')
    if remat == "chunks" and unroll:
        raise ValueError('remat="chunks" is a loop over loops and cannot be unrolled (unroll=True)')
    if steps == 0:
        return (first[None] if all_states else first), None
    # The chunks are a loop: what is inside them is so too.
    unrolled = remat != "chunks" and (steps <= LONGEST_UNROLLED if unroll is None else unroll)

    def advance(state: Array, x: Any) -> tuple[Array, Any]:
        return step(state, x, not unrolled)

    if remat:
        # In a loop nothing can merge the two evaluations; unrolled, the flag keeps them apart.
        advance = jax.checkpoint(advance, prevent_cse=unrolled)

    def body(state: Array, x: Any) -> tuple[Array, Any]:
        state, report = advance(state, x)
        return state, (state if all_states else None, report)

    def run(state: Array, xs: PyTree, length: int) -> tuple[Array, PyTree]:
        if unrolled and length == 1:
            # `lax.scan` makes a loop of one step even when told to unroll, and inside a loop the
            # gradient of a kernel is slow where `in_loop` does not announce it: eleven times.
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
    """`run(first, inputs, steps)`, keeping for the backward pass only the state before a chunk."""
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
    """Stacks the report of t = 0 before those of t = 1..T; `later` is None where T = 0."""
    if later is None:
        return jax.tree.map(lambda a: a[None], first)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)
