"""What a recurrent cell is, and how one is found by name.

A cell is a small frozen dataclass of hyperparameters. It declares its weights and says, as
functions on arrays, what one time step does; `Recurrent` owns the parameters and the scan runs it.
A cell of your own needs no more than the five members of `Cell`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.nn import initializers
from jaxtyping import Array, PyTree

from rcnn_jax.configuration.importing import build, require_hashable
from rcnn_jax.errors import did_you_mean
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.recurrent.scan import Arrays, Product

Initializer = Callable[..., Array]
Declared = dict[str, tuple[Initializer, tuple[int, ...]]]
"""Weights to be made: name -> (initializer, shape)."""


def sigmoid(z: Array) -> Array:
    """The logistic function as `(1 + tanh(z / 2)) / 2`.

    On a CPU that took three quarters of the time of `jax.nn.sigmoid`. In float32 it is off by at
    most 1.5e-7, that by 9e-8.
    """
    return 0.5 * jnp.tanh(0.5 * z) + 0.5


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": sigmoid,
    "identity": lambda z: z,
}

CELLS = {
    "elman": "rcnn_jax.layers.recurrent.simple_cells:Elman",
    "jordan": "rcnn_jax.layers.recurrent.simple_cells:Jordan",
    "lstm": "rcnn_jax.layers.recurrent.gated_cells:LSTM",
    "gru": "rcnn_jax.layers.recurrent.gated_cells:GRU",
}


class Weights(NamedTuple):
    """The weights of a cell by what they meet.

    Attributes:
        inputs: read by `drive`, for all time steps at once.
        kernels: recurrent kernels `[inputs, outputs]`, used through `product` alone.
        vectors: all others that a step needs.
    """

    inputs: Declared
    kernels: Declared
    vectors: Declared


@runtime_checkable
class Cell(Protocol):
    """A recurrent cell: weights, carry and one time step. It must be hashable."""

    @property
    def output_features(self) -> int:
        """Length of the output vector of a time step."""
        ...

    def carry_features(self) -> dict[str, int]:
        """The parts of the carry and the length of each, `[batch, length]`."""
        ...

    def weights(self, features: int) -> Weights:
        """Declares the weights for inputs `[batch, time, features]`."""
        ...

    def drive(self, weights: Arrays, x: Array) -> PyTree:
        """What the input contributes to each step, computed for all steps at once.

        Args:
            weights: those declared as `inputs`.
            x: `[time, batch, features]`.

        Returns:
            Arrays `[time, batch, ...]`.
        """
        ...

    def step(
        self, vectors: Arrays, carry: Arrays, drive: PyTree, product: Product
    ) -> tuple[Arrays, Array]:
        """One time step.

        Args:
            vectors: the weights declared as `vectors`.
            carry: the parts of the carry, `[batch, length]` each.
            drive: `[batch, ...]`, of this step.
            product: `product(name, a)` is `a @ kernels[name]`; each kernel at most once.

        Returns:
            The carry afterwards, and the output `[batch, output_features]`.
        """
        ...


def cell_by_name(name: str, hidden: int, **options: Any) -> Cell:
    """Makes a cell as a config names it.

    Args:
        name: `elman`, `jordan`, `lstm`, `gru`, or an import path `my_fork.cells:Mine`.
        hidden: number of hidden units.
        **options: further attributes of the cell.

    Raises:
        ValueError: there is no such cell, it has no such option, or a value is impossible.
    """
    if name not in CELLS and ":" not in name:
        raise ValueError(
            f"cell is one of {', '.join(CELLS)} or an import path like 'my_fork.cells:Mine', "
            f"got cell={name!r}{did_you_mean(name, CELLS)}"
        )
    made = build({"name": CELLS.get(name, name), "hidden": hidden} | options, "cell_options")
    if not isinstance(made, Cell):
        raise ValueError(f"{name!r} is no cell: see rcnn_jax.layers.recurrent.cell.Cell")
    require_hashable(made, name, "cell")
    return made


def cell_of_model(name: str, hidden: int, options: Mapping[str, Any], **decided: Any) -> Cell:
    """Makes the cell of a model whose attribute `cell_options` holds what is special about it.

    Args:
        name: see `cell_by_name`.
        hidden: number of hidden units.
        options: further attributes of the cell, as a config states them.
        **decided: those that the model decides.

    Raises:
        ValueError: as `cell_by_name`; or an option is what the model decides.
    """
    for option in options:
        if option == "hidden" or option in decided:
            raise ValueError(f"cell_options.{option} is decided by the model: leave it out")
    return cell_by_name(name, hidden, **decided, **options)


def check_cell(cell: Any, **activations: str) -> None:
    """Checks attributes that cells have in common.

    Args:
        cell: it has `hidden`, `kernel_init` and `recurrent_init`.
        **activations: names of activations, by attribute.

    Raises:
        ValueError: one of them is impossible.
    """
    kind = type(cell).__name__
    if cell.hidden < 1:
        raise ValueError(f"{kind} needs at least 1 hidden unit, got hidden={cell.hidden}")
    kernel_initializer(cell.kernel_init)
    kernel_initializer(cell.recurrent_init)
    for attribute, name in activations.items():
        if name not in ACTIVATIONS:
            raise ValueError(f"{kind}.{attribute} is one of {', '.join(ACTIVATIONS)}, got {name!r}")


def of_gates(kind: str | float, gates: int) -> Initializer:
    """Draws each gate's columns of a kernel by itself, as `kernel_initializer(kind)` does."""
    initializer = kernel_initializer(kind)

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        rows, columns = shape
        keys = jax.random.split(key, gates)
        drawn = [initializer(one, (rows, columns // gates), dtype) for one in keys]
        return jnp.concatenate(drawn, axis=1)

    return draw


def project(weights: Arrays, x: Array) -> Array:
    """`x @ kernel + bias` for all time steps at once, `[time, batch, features]` -> same axes."""
    return x @ weights["kernel"] + weights["bias"][None, None]


def input_weights(
    cell: Any, features: int, gates: int = 1, bias: Initializer = initializers.zeros
) -> Declared:
    """`kernel` `[features, gates * hidden]` and `bias` `[gates * hidden]`, for `project`."""
    width = gates * cell.hidden
    return {
        "kernel": (of_gates(cell.kernel_init, gates), (features, width)),
        "bias": (bias, (width,)),
    }
