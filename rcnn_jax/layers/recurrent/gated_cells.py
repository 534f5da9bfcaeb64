"""Recurrent cells with gates: LSTM and GRU.

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

        z(t) = x(t) W + h(t-1) U + b,   columns in the order i, f, g, o
        i, f, o = sigmoid of their columns of z(t);   g = activation of its columns
        c(t) = f c(t-1) + i g
        h(t) = o output_activation(c(t))

    With peepholes p, i and f also receive `p c(t-1)` and o receives `p c(t)`, unit by unit.

    The parameters are `kernel` `[features, 4 hidden]`, `recurrent_kernel` `[hidden, 4 hidden]`,
    `bias` `[4 hidden]`, and `peephole` `[3, hidden]` in the order i, f, o. Without a forget gate
    its columns and its peephole are absent. The carry has the parts `hidden` and `memory`.

    Attributes:
        hidden: Number of memory cells.
        peepholes: Whether the gates receive the memory.
        forget_gate: Whether there is a forget gate; without it, as in the cell of 1997, f = 1 and
            the memory never decays.
        forget_bias: Initial value of the bias of the forget gate.
        activation: Activation of the cell input g, one of `tanh`, `relu`, `sigmoid` and `identity`.
        output_activation: Activation of the memory before the output gate, one of `tanh`, `relu`,
            `sigmoid` and `identity`.
        kernel_init: Initializer of the input kernel; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: Initializer of the recurrent kernel; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
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
        """Length of the output, which is the hidden vector."""
        return self.hidden

    def carry_features(self) -> dict[str, int]:
        """Returns the lengths of the hidden vector and of the memory, see `Cell.carry_features`."""
        return {"hidden": self.hidden, "memory": self.hidden}

    def weights(self, features: int) -> Weights:
        """Declares the weights for inputs `[batch, time, features]`; see `Cell.weights`."""
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
        """Computes one time step; arguments and results are those of `Cell.step`."""
        memory = carry["memory"]
        z = drive + product("recurrent_kernel", carry["hidden"])
        gates = 4 if self.forget_gate else 3
        separate = self.peepholes or self.activation != "tanh"
        *gating, g, o = jnp.split(z, gates, axis=-1) if separate else self._squashed(z, gates)
        if separate:
            if self.peepholes:
                seen = vectors["peephole"][:-1, None] * memory[None]
                gating = [gate + part for gate, part in zip(gating, seen, strict=True)]
            gating, g = [sigmoid(gate) for gate in gating], ACTIVATIONS[self.activation](g)
        i, *forget = gating
        memory = (forget[0] * memory if forget else memory) + i * g
        if separate:
            o = sigmoid(o + vectors["peephole"][-1][None] * memory if self.peepholes else o)
        hidden = o * ACTIVATIONS[self.output_activation](memory)
        return {"hidden": hidden, "memory": memory}, hidden

    def _squashed(self, z: Array, gates: int) -> list[Array]:
        """Computes gates and cell input by a single tanh over all columns, which is faster.

        A gate is `(1 + tanh(z / 2)) / 2`, see `sigmoid`.
        """
        halves = np.full((1, gates * self.hidden), 0.5)
        halves[:, -2 * self.hidden : -self.hidden] = 1  # The cell input is not a gate.
        parts = jnp.split(jnp.tanh(z * halves.astype(z.dtype)), gates, axis=-1)
        return [part if n == gates - 2 else 0.5 * part + 0.5 for n, part in enumerate(parts)]


def _forget_bias(hidden: int, value: float) -> Initializer:
    """Returns an initializer of a bias that is `value` for the forget gate and 0 elsewhere."""

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        del key
        return jnp.zeros(shape, dtype).at[hidden : 2 * hidden].set(value)

    return draw


@dataclasses.dataclass(frozen=True)
class GRU:
    """Gated recurrent unit, which interpolates between the last hidden vector and a candidate n.

        r = sigmoid(x W_r + h U_r + b_r),   z = sigmoid(x W_z + h U_z + b_z)
        n = tanh(x W_n + b_n + r * (h U_n + c))     reset after the product
        n = tanh(x W_n + b_n + (r * h) U_n)         reset before it
        h' = (1 - z) n + z h

    `reset_after=False` is the unit of Cho et al.; `reset_after=True` needs one product per step and
    is the unit of cuDNN and torch.

    The parameters are `kernel` `[features, 3 hidden]` and `bias` `[3 hidden]`, with columns in the
    order r, z, n. With the reset after the product there are `recurrent_kernel` `[hidden, 3
    hidden]` in that order and `recurrent_bias` `[hidden]`, the c above. With the reset before it
    there are `recurrent_kernel` `[hidden, 2 hidden]` of r and z, and `candidate_kernel` `[hidden,
    hidden]`. The carry has the part `hidden`.

    Attributes:
        hidden: Number of hidden units.
        reset_after: Whether the reset gate is applied after the recurrent product.
        activation: Activation of the candidate n, one of `tanh`, `relu`, `sigmoid` and `identity`.
        kernel_init: Initializer of the input kernel; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: Initializer of the recurrent kernels; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
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
        """Length of the output, which is the hidden vector."""
        return self.hidden

    def carry_features(self) -> dict[str, int]:
        """Returns the length of the hidden vector, see `Cell.carry_features`."""
        return {"hidden": self.hidden}

    def weights(self, features: int) -> Weights:
        """Declares the weights for inputs `[batch, time, features]`; see `Cell.weights`."""
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
        """Computes one time step; arguments and results are those of `Cell.step`."""
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
