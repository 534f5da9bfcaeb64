"""How much of the gradient of the last step arrives at earlier states: Elman, GRU and LSTM.

The networks are untrained and read noise. A gradient that shrinks by a constant factor at each step
vanishes within a hundred steps. The memory cell of an LSTM passes it on as far as its forget gate
stays open, which at first is determined by the bias of that gate; the cell of 1997 has no forget
gate.

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
    """Returns the cells that are compared, by their names in the figure.

    Args:
        hidden: Number of units of each cell.
    """
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
    """Computes gradient norms of the loss at the last step by the state at each earlier step.

    Inputs are drawn from a normal distribution, and the loss is the last output along a random
    direction of length 1. The gradient with respect to the last hidden vector therefore has norm 1,
    and all other norms are relative to it.

    Args:
        seed: Seed of weights, inputs and directions.
        steps: Number of steps of the sequences.
        hidden: Number of units of each network.
        features: Number of input features at each step.
        sequences: Number of sequences that each network reads; norms are geometric means over them.
        repeats: Number of networks of each kind.

    Returns:
        `steps_back` `[steps]`, the number of steps before the last state, from `steps` to 1; and
        for each of `networks` the norms `[repeats, steps]` with respect to the whole state, which
        for an LSTM is hidden vector and memory cell together. If a state has several parts, the
        norms with respect to each part, the others held fixed, are returned as `NAME: PART`.
    """
    # Double precision, because after a hundred steps a squared norm underflows in float32.
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), repeats)
        norms = jax.device_get(_norms(keys, steps, hidden, features, sequences))
    measured = {"steps_back": np.arange(steps, 0, -1)}
    for name, parts in norms.items():
        measured[name] = _geometric_mean(np.sqrt(sum(norm**2 for norm in parts.values())))
        if len(parts) > 1:
            measured |= {f"{name}: {part}": _geometric_mean(n) for part, n in parts.items()}
    return measured


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _norms(
    keys: jax.Array, steps: int, hidden: int, features: int, sequences: int
) -> dict[str, dict[str, jax.Array]]:
    """Returns norms `[keys, steps, sequences]` by network and by part of its state."""

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
    """Averages over the sequences: `[repeats, steps, sequences]` -> `[repeats, steps]`."""
    return np.exp(np.log(norms).mean(axis=-1))


def draw(axes: Any, measured: Mapping[str, np.ndarray]) -> None:
    """Draws a line for each network, and a band from the smallest to the largest of its repeats.

    Args:
        axes: Axes of a matplotlib figure.
        measured: Result of `measure`.
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
