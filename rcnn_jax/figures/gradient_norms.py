"""How much of the gradient of the last step arrives at earlier states: Elman, GRU and LSTM.

The networks are as they are before training and read noise. A gradient that shrinks by a factor at
each step is gone after a hundred; the memory of an LSTM hands it on as far as its forget gate stays
open, which the bias of that gate decides at first, and in the cell of 1997 there is none.

References:
    Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 1997;
    Bengio, Simard & Frasconi, Learning long-term dependencies with gradient descent is difficult,
    IEEE Transactions on Neural Networks 1994.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.layers.recurrent.cell import Cell
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.layer import Recurrent, zero_carry
from rcnn_jax.layers.recurrent.learning import gradient_through_time
from rcnn_jax.layers.recurrent.simple_cells import Elman
from rcnn_jax.output.picture_style import COLOURS


def networks(hidden: int) -> dict[str, Cell]:
    """The cells that are compared, by the name they have in the figure."""
    return {
        "Elman": Elman(hidden),
        "GRU": GRU(hidden),
        "LSTM, forget bias 1": LSTM(hidden, forget_bias=1.0),
        "LSTM, no forget gate": LSTM(hidden, forget_gate=False),
    }


def measure(
    *,
    seed: int = 0,
    steps: int = 100,
    hidden: int = 50,
    features: int = 10,
    sequences: int = 8,
    repeats: int = 5,
) -> dict[str, np.ndarray]:
    """Norms of the gradient of the last step by the state at each step before.

    Inputs are normal, the loss is the last output along a random direction of length 1. So the
    gradient by the last hidden vector has the norm 1, and all others are relative to it.

    Args:
        seed: of weights, inputs and directions.
        steps: length of the sequences.
        hidden: units of each network.
        features: numbers read at each step.
        sequences: read by each network; norms are their geometric means.
        repeats: networks of each kind.

    Returns:
        `steps_back` `[steps]`: how many steps before the last state, from `steps` to 1. For each
        of `networks` its norms `[repeats, steps]` by the whole state, which of an LSTM is hidden
        vector and memory together; and where a state has several parts, the norms by each as
        `NAME: PART`, the others held fixed.
    """
    # In double precision: after a hundred steps a square of single precision is nothing.
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), repeats)
        found = jax.device_get(_norms(keys, steps, hidden, features, sequences))
    measured = {"steps_back": np.arange(steps, 0, -1)}
    for name, parts in found.items():
        measured[name] = _geometric_mean(np.sqrt(sum(norm**2 for norm in parts.values())))
        if len(parts) > 1:
            measured |= {f"{name}: {part}": _geometric_mean(n) for part, n in parts.items()}
    return measured


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _norms(
    keys: jax.Array, steps: int, hidden: int, features: int, sequences: int
) -> dict[str, dict[str, jax.Array]]:
    """Norms `[keys, steps, sequences]` by network and by part of its state."""

    def of_one(cell: Cell, key: jax.Array) -> dict[str, jax.Array]:
        of_weights, of_inputs, of_direction = jax.random.split(key, 3)
        x = jax.random.normal(of_inputs, (sequences, steps, features), jnp.float64)
        variables: Any = Recurrent(cell, param_dtype="float64").init(of_weights, x)
        direction = jax.random.normal(of_direction, (hidden,), jnp.float64)
        direction = direction / jnp.linalg.norm(direction)
        start = zero_carry(cell, sequences, jnp.float64)
        return gradient_through_time(
            cell, variables["params"], start, x, lambda last: (last @ direction).sum()
        )

    return {
        name: jax.vmap(functools.partial(of_one, cell))(keys)
        for name, cell in networks(hidden).items()
    }


def _geometric_mean(norms: np.ndarray) -> np.ndarray:
    """Over the sequences: `[repeats, steps, sequences]` -> `[repeats, steps]`."""
    return np.exp(np.log(norms).mean(axis=-1))


def draw(axes: Any, measured: Mapping[str, np.ndarray]) -> None:
    """A line for each network, and a band from the least to the largest of its repeats.

    Args:
        axes: of matplotlib.
        measured: see `measure`.
    """
    back = measured["steps_back"]
    shown = [name for name in measured if name != "steps_back" and ":" not in name]
    for name, colour, dashes in zip(shown, COLOURS, ("-", "-.", "--", ":"), strict=False):
        norms = measured[name]
        middle = np.exp(np.log(norms).mean(axis=0))
        axes.plot(back, middle, label=name, color=colour, linestyle=dashes)
        axes.fill_between(back, norms.min(axis=0), norms.max(axis=0), color=colour, alpha=0.2)
    axes.set_yscale("log")
    axes.set_xlim(0, back.max())
    axes.set_xlabel("steps before the end of the sequence")
    axes.set_ylabel("norm of d loss(last step) / d state")
    axes.set_title("The gradient on its way back through time, before training")
    axes.legend(title=f"bands: extremes of {len(measured[shown[0]])} networks")
