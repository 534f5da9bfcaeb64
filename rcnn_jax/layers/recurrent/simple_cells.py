"""The two simple recurrent networks: Elman feeds back the hidden layer, Jordan the output.

References:
    Elman, Finding structure in time, Cognitive Science 1990;
    Jordan, Serial order: a parallel distributed processing approach, report ICS-8604, 1986;
    Mesnil, He, Deng & Bengio, Investigation of recurrent-neural-network architectures and learning
    methods for spoken language understanding, Interspeech 2013.
"""

import dataclasses

import jax
from jax.nn import initializers
from jaxtyping import Array

from rcnn_jax.layers.recurrent.cell import (
    ACTIVATIONS,
    Weights,
    check_cell,
    input_weights,
    of_gates,
    project,
)
from rcnn_jax.layers.recurrent.scan import Arrays, Product

FEEDBACKS = ACTIVATIONS | {"softmax": jax.nn.softmax}
"""What the state units of a Jordan network may receive of its output."""


@dataclasses.dataclass(frozen=True)
class Elman:
    """`h(t) = activation(x(t) W + h(t-1) U + b)`; the output is h(t).

    Parameters: `kernel` `[features, hidden]`, `recurrent_kernel` `[hidden, hidden]`, `bias`
    `[hidden]`. Carry: `hidden`.

    Attributes:
        hidden: number of hidden units.
        activation: `tanh`, `relu`, `sigmoid` or `identity`.
        kernel_init: see `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: likewise; `identity` with `relu` is the IRNN of Le, Jaitly & Hinton 2015.
    """

    hidden: int
    activation: str = "tanh"
    kernel_init: str | float = "lecun"
    recurrent_init: str | float = "orthogonal"

    def __post_init__(self):
        check_cell(self, activation=self.activation)

    @property
    def output_features(self) -> int:
        """The hidden layer is the output."""
        return self.hidden

    def carry_features(self) -> dict[str, int]:
        """See `Cell`."""
        return {"hidden": self.hidden}

    def weights(self, features: int) -> Weights:
        """See `Cell`."""
        square = (self.hidden, self.hidden)
        kernels = {"recurrent_kernel": (of_gates(self.recurrent_init, 1), square)}
        return Weights(input_weights(self, features), kernels, {})

    drive = staticmethod(project)

    def step(
        self, vectors: Arrays, carry: Arrays, drive: Array, product: Product
    ) -> tuple[Arrays, Array]:
        """See `Cell`."""
        z = drive + product("recurrent_kernel", carry["hidden"])
        hidden = ACTIVATIONS[self.activation](z)
        return {"hidden": hidden}, hidden


@dataclasses.dataclass(frozen=True)
class Jordan:
    """A network whose output comes back through state units that decay.

        h(t) = activation(x(t) W + s(t) U + b)
        o(t) = h(t) V + c
        s(t+1) = decay s(t) + feedback(o(t)),   s(1) = 0

    The output is o(t), before the feedback function: logits, where that is a softmax. With
    `decay=0` and a softmax the probabilities of the last step are fed back, which is the network
    of Mesnil et al.; the original has one state unit for each output unit, sigmoid outputs and a
    decay between 0 and 1.

    Parameters: `kernel` `[features, hidden]`, `bias` `[hidden]`, `recurrent_kernel`
    `[outputs, hidden]`, `output_kernel` `[hidden, outputs]`, `output_bias` `[outputs]`. Carry:
    `state` `[batch, outputs]`, ready for the next step.

    Attributes:
        hidden: number of hidden units.
        outputs: number of output units, and of state units.
        activation: of the hidden units, as in `Elman`.
        feedback: maps o(t) to what the state units receive: `softmax`, `sigmoid`, `tanh`, `relu`
            or `identity`.
        decay: mu, the share of its value that a state unit keeps, in [0, 1].
        kernel_init: see `Elman`.
        recurrent_init: see `Elman`.
    """

    hidden: int
    outputs: int
    activation: str = "sigmoid"
    feedback: str = "softmax"
    decay: float = 0.0
    kernel_init: str | float = "lecun"
    recurrent_init: str | float = "lecun"

    def __post_init__(self):
        check_cell(self, activation=self.activation)
        if self.feedback not in FEEDBACKS:
            raise ValueError(
                f"Jordan.feedback is one of {', '.join(FEEDBACKS)}, got {self.feedback!r}"
            )
        if self.outputs < 1:
            raise ValueError(f"Jordan needs at least 1 output unit, got outputs={self.outputs}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"Jordan.decay must lie in [0, 1], got {self.decay}")

    @property
    def output_features(self) -> int:
        """The output layer is the output."""
        return self.outputs

    def carry_features(self) -> dict[str, int]:
        """See `Cell`."""
        return {"state": self.outputs}

    def weights(self, features: int) -> Weights:
        """See `Cell`."""
        kernels = {
            "recurrent_kernel": (of_gates(self.recurrent_init, 1), (self.outputs, self.hidden)),
            "output_kernel": (of_gates(self.kernel_init, 1), (self.hidden, self.outputs)),
        }
        vectors = {"output_bias": (initializers.zeros, (self.outputs,))}
        return Weights(input_weights(self, features), kernels, vectors)

    drive = staticmethod(project)

    def step(
        self, vectors: Arrays, carry: Arrays, drive: Array, product: Product
    ) -> tuple[Arrays, Array]:
        """See `Cell`."""
        state = carry["state"]
        hidden = ACTIVATIONS[self.activation](drive + product("recurrent_kernel", state))
        output = product("output_kernel", hidden) + vectors["output_bias"][None]
        return {"state": self.decay * state + FEEDBACKS[self.feedback](output)}, output
