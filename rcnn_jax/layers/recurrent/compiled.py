"""The choice between the compiled recurrent loops and the scan, and cells in the compiled form."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.kernels import library, recurrence
from rcnn_jax.layers.recurrent.cell import Cell
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.scan import Arrays
from rcnn_jax.layers.recurrent.simple_cells import Elman


def why_not(cell: Cell, x: Any) -> str:
    """Returns the reason why a recurrence runs as a scan, empty if it runs compiled.

    Args:
        cell: Recurrent cell.
        x: Inputs `[batch, time, features]`, or anything that has their shape and dtype.
    """
    if reason := library.problem():
        return reason
    if type(cell) not in (Elman, GRU, LSTM):
        return f"no loop was compiled for {type(cell).__name__}"
    assert isinstance(cell, Elman | GRU | LSTM)
    if reason := _option(cell):
        return reason
    if x.dtype != jnp.float32:
        return f"the compiled loops are for float32, not {x.dtype}"
    if not all(isinstance(side, int) for side in x.shape):
        return "the shape is not known"
    if cell.hidden % recurrence.UNITS:
        return f"{cell.hidden} hidden units are no multiple of {recurrence.UNITS}"
    batch, time, _ = x.shape
    return recurrence.too_small(batch, time, cell.hidden)


def _option(cell: Elman | GRU | LSTM) -> str:
    """Returns the option of a cell that was not compiled, empty if all were."""
    if isinstance(cell, Elman):
        return ""
    options = {"activation": "tanh"}
    if isinstance(cell, GRU):
        options |= {"reset_after": True}
    else:
        options |= {"peepholes": False, "forget_gate": True, "output_activation": "tanh"}
    for name, value in options.items():
        if getattr(cell, name) != value:
            return f"no loop was compiled for {type(cell).__name__}.{name}={getattr(cell, name)!r}"
    return ""


def run_compiled(
    cell: Cell,
    weights: Arrays,
    x: Array,
    carry: Arrays,
    *,
    mask: Array | None,
    reverse: bool,
    added: Array | None,
) -> tuple[Array, Arrays]:
    """Runs a cell over sequences by the compiled loops; see `run_cell`.

    Args:
        cell: Cell for which `why_not` gives no reason.
        weights: All weights of the cell by name.
        x: Inputs `[batch, time, features]`, zero where the mask is false.
        carry: State before the first step, parts `[batch, hidden]` by name.
        mask: Mask `bool[batch, time]` of real steps. None means that all steps are real.
        reverse: Whether to run from the last step to the first.
        added: Array `[batch, steps, width]` that is added to the contribution of the input at the
            first `steps` steps. None adds nothing.

    Returns:
        A pair of the outputs `[batch, time, hidden]` and the carry after the last step.
    """
    assert isinstance(cell, Elman | GRU | LSTM)
    loop = recurrence.Loop(
        type(cell).__name__.lower(), cell.activation if isinstance(cell, Elman) else "tanh", reverse
    )
    batch = x.shape[0]
    if added is None:
        added = jnp.zeros((batch, 0, weights["bias"].shape[0]), x.dtype)
    results: Any = recurrence.recur(
        loop,
        x,
        weights["kernel"],
        weights["bias"],
        weights["recurrent_kernel"],
        weights.get("recurrent_bias", jnp.zeros(0, x.dtype)),
        carry["hidden"],
        carry.get("memory", jnp.zeros((batch, 0), x.dtype)),
        added,
        jnp.ones(x.shape[:2], bool) if mask is None else mask,
    )
    outputs, hidden, memory = results
    last = {"hidden": hidden, "memory": memory}
    return outputs, {name: last[name] for name in carry}
