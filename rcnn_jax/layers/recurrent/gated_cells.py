"""Cells with gates: LSTM and GRU.

References:
    Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 1997 (no forget gate);
    Gers, Schmidhuber & Cummins, Learning to forget, Neural Computation 2000;
    Gers, Schraudolph & Schmidhuber, Learning precise timing with LSTM recurrent networks, Journal
    of Machine Learning Research 2002 (peepholes);
    Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine
    translation, EMNLP 2014 (GRU).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.nn import initializers
from jaxtyping import Array

from rcnn_jax.layers.recurrent.cell import (
    ACTIVATIONS,
    Initializer,
    Weights,
    check_cell,
    input_weights,
    of_gates,
    project,
    sigmoid,
)
from rcnn_jax.layers.recurrent.scan import Arrays, Product


@dataclasses.dataclass(frozen=True)
class LSTM:
    """Long short-term memory: input, forget and output gate around a memory c.

        i, f, o = sigmoid of their rows of z(t);   g = activation of its rows
        z(t) = x(t) W + h(t-1) U + b,   columns in the order i, f, g, o
        c(t) = f c(t-1) + i g
        h(t) = o output_activation(c(t))

    With peepholes p, i and f also see `p c(t-1)` and o sees `p c(t)`, unit by unit.

    Parameters: `kernel` `[features, 4 hidden]`, `recurrent_kernel` `[hidden, 4 hidden]`, `bias`
    `[4 hidden]`; `peephole` `[3, hidden]` in the order i, f, o. Without a forget gate its columns
    and its peephole are absent. Carry: `hidden` and `memory`.

    Attributes:
        hidden: number of memory cells.
        peepholes: let the gates see the memory.
        forget_gate: False is the cell of 1997, which never forgets: f = 1.
        forget_bias: initial value of the forget gate's bias.
        activation: of the cell input g: `tanh`, `relu`, `sigmoid` or `identity`.
        output_activation: of the memory before the output gate, likewise.
        kernel_init: see `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: likewise.
    """

    hidden: int
    peepholes: bool = False
    forget_gate: bool = True
    forget_bias: float = 1.0
    activation: str = "tanh"
    output_activation: str = "tanh"
    kernel_init: str | float = "lecun"
    recurrent_init: str | float = "orthogonal"

    def __post_init__(self):
        check_cell(self, activation=self.activation, output_activation=self.output_activation)

    @property
    def output_features(self) -> int:
        """The hidden vector is the output."""
        return self.hidden

    def carry_features(self) -> dict[str, int]:
        """See `Cell`."""
        return {"hidden": self.hidden, "memory": self.hidden}

    def weights(self, features: int) -> Weights:
        """See `Cell`."""
        gates = 4 if self.forget_gate else 3
        kernels = {
            "recurrent_kernel": (
                of_gates(self.recurrent_init, gates),
                (self.hidden, gates * self.hidden),
            )
        }
        vectors = {}
        if self.peepholes:
            vectors["peephole"] = (initializers.zeros, (gates - 1, self.hidden))
        bias = _forget_bias(self.hidden, self.forget_bias) if self.forget_gate else None
        inputs = input_weights(self, features, gates, bias or initializers.zeros)
        return Weights(inputs, kernels, vectors)

    drive = staticmethod(project)

    def step(
        self, vectors: Arrays, carry: Arrays, drive: Array, product: Product
    ) -> tuple[Arrays, Array]:
        """See `Cell`."""
        memory = carry["memory"]
        z = drive + product("recurrent_kernel", carry["hidden"])
        gates = 4 if self.forget_gate else 3
        by_parts = self.peepholes or self.activation != "tanh"
        *opened, g, o = jnp.split(z, gates, axis=-1) if by_parts else self._squashed(z, gates)
        if by_parts:
            if self.peepholes:
                seen = vectors["peephole"][:-1, None] * memory[None]
                opened = [gate + part for gate, part in zip(opened, seen, strict=True)]
            opened, g = [sigmoid(gate) for gate in opened], ACTIVATIONS[self.activation](g)
        i, *forget = opened
        memory = (forget[0] * memory if forget else memory) + i * g
        if by_parts:
            o = sigmoid(o + vectors["peephole"][-1][None] * memory if self.peepholes else o)
        hidden = o * ACTIVATIONS[self.output_activation](memory)
        return {"hidden": hidden, "memory": memory}, hidden

    def _squashed(self, z: Array, gates: int) -> list[Array]:
        """Gates and cell input by a single tanh over all columns, which is faster than by parts.

        See `sigmoid`: a gate is `(1 + tanh(z / 2)) / 2`.
        """
        halves = np.full((1, gates * self.hidden), 0.5)
        halves[:, -2 * self.hidden : -self.hidden] = 1  # the cell input
        parts = jnp.split(jnp.tanh(z * halves.astype(z.dtype)), gates, axis=-1)
        return [part if n == gates - 2 else 0.5 * part + 0.5 for n, part in enumerate(parts)]


def _forget_bias(hidden: int, value: float) -> Initializer:
    """A bias `[4 hidden]` of zeros but for the forget gate's part."""

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        del key
        return jnp.zeros(shape, dtype).at[hidden : 2 * hidden].set(value)

    return draw


@dataclasses.dataclass(frozen=True)
class GRU:
    """Gated recurrent unit: the hidden vector is kept by the share z and renewed by 1 - z.

        r = sigmoid(x W_r + h U_r + b_r),   z = sigmoid(x W_z + h U_z + b_z)
        n = tanh(x W_n + b_n + r * (h U_n + c))     reset after the product
        n = tanh(x W_n + b_n + (r * h) U_n)         reset before it
        h' = (1 - z) n + z h

    `reset_after=False` is the unit of Cho et al.; `reset_after=True` needs one product a step and
    is what cuDNN and torch compute.

    Parameters: `kernel` `[features, 3 hidden]` and `bias` `[3 hidden]`, columns in the order r, z,
    n. Reset after: `recurrent_kernel` `[hidden, 3 hidden]` in that order and `recurrent_bias`
    `[hidden]`, the c above. Reset before: `recurrent_kernel` `[hidden, 2 hidden]` of r and z, and
    `candidate_kernel` `[hidden, hidden]`. Carry: `hidden`.

    Attributes:
        hidden: number of hidden units.
        reset_after: apply the reset gate behind the recurrent product.
        activation: of the candidate n: `tanh`, `relu`, `sigmoid` or `identity`.
        kernel_init: see `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: likewise.
    """

    hidden: int
    reset_after: bool = True
    activation: str = "tanh"
    kernel_init: str | float = "lecun"
    recurrent_init: str | float = "orthogonal"

    def __post_init__(self):
        check_cell(self, activation=self.activation)

    @property
    def output_features(self) -> int:
        """The hidden vector is the output."""
        return self.hidden

    def carry_features(self) -> dict[str, int]:
        """See `Cell`."""
        return {"hidden": self.hidden}

    def weights(self, features: int) -> Weights:
        """See `Cell`."""
        gates = 3 if self.reset_after else 2
        kernels = {
            "recurrent_kernel": (
                of_gates(self.recurrent_init, gates),
                (self.hidden, gates * self.hidden),
            )
        }
        vectors = {}
        if self.reset_after:
            vectors["recurrent_bias"] = (initializers.zeros, (self.hidden,))
        else:
            square = (self.hidden, self.hidden)
            kernels["candidate_kernel"] = (of_gates(self.recurrent_init, 1), square)
        return Weights(input_weights(self, features, 3), kernels, vectors)

    drive = staticmethod(project)

    def step(
        self, vectors: Arrays, carry: Arrays, drive: Array, product: Product
    ) -> tuple[Arrays, Array]:
        """See `Cell`."""
        hidden, units = carry["hidden"], self.hidden
        gates, candidate = drive[:, : 2 * units], drive[:, 2 * units :]
        recurrent = product("recurrent_kernel", hidden)
        r, z = jnp.split(sigmoid(gates + recurrent[:, : 2 * units]), 2, axis=-1)
        if self.reset_after:
            candidate = candidate + r * (
                recurrent[:, 2 * units :] + vectors["recurrent_bias"][None]
            )
        else:
            candidate = candidate + product("candidate_kernel", r * hidden)
        n = ACTIVATIONS[self.activation](candidate)
        hidden = (1 - z) * n + z * hidden
        return {"hidden": hidden}, hidden
