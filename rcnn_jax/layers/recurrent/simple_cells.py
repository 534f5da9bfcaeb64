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
"""Functions from the output of a Jordan network to the input of its state units, by name."""


@dataclasses.dataclass(frozen=True)
class Elman:
    """Elman network: `h(t) = activation(x(t) W + h(t-1) U + b)`, with output h(t).

    The parameters are `kernel` `[features, hidden]`, `recurrent_kernel` `[hidden, hidden]` and
    `bias` `[hidden]`. The carry has the part `hidden`.

    Attributes:
        hidden: Number of hidden units.
        activation: Activation of the hidden units, one of `tanh`, `relu`, `sigmoid` and `identity`.
        kernel_init: Initializer of the input kernel; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: Initializer of the recurrent kernel; see
            `rcnn_jax.layers.initializers.kernel_initializer`. `identity` with the activation `relu`
            is the IRNN of Le, Jaitly & Hinton 2015.
    """

    hidden: int
    activation: str = "tanh"
    kernel_init: str | float = "lecun"
    recurrent_init: str | float = "orthogonal"

    def __post_init__(self):
        check_cell(self, activation=self.activation)

    @property
    def output_features(self) -> int:
        """Length of the output, which is the hidden layer."""
        return self.hidden

    def carry_features(self) -> dict[str, int]:
        """Returns the length of the hidden layer, see `Cell.carry_features`."""
        return {"hidden": self.hidden}

    def weights(self, features: int) -> Weights:
        """Declares the weights for inputs `[batch, time, features]`; see `Cell.weights`."""
        square = (self.hidden, self.hidden)
        kernels = {"recurrent_kernel": (of_gates(self.recurrent_init, 1), square)}
        return Weights(input_weights(self, features), kernels, {})

    drive = staticmethod(project)

    def step(
        self, vectors: Arrays, carry: Arrays, drive: Array, product: Product
    ) -> tuple[Arrays, Array]:
        """Computes one time step; arguments and results are those of `Cell.step`."""
        z = drive + product("recurrent_kernel", carry["hidden"])
        hidden = ACTIVATIONS[self.activation](z)
        return {"hidden": hidden}, hidden


@dataclasses.dataclass(frozen=True)
class Jordan:
    """Jordan network: the output is fed back through state units that decay.

        h(t) = activation(x(t) W + s(t) U + b)
        o(t) = h(t) V + c
        s(t+1) = decay s(t) + feedback(o(t)),   s(1) = 0

    The output is o(t), before the feedback function: logits, if that is a softmax. With `decay=0`
    and a softmax the probabilities of the last step are fed back, which is the network of Mesnil et
    al.; the original has one state unit for each output unit, sigmoid outputs and a decay between 0
    and 1.

    The parameters are `kernel` `[features, hidden]`, `bias` `[hidden]`, `recurrent_kernel`
    `[outputs, hidden]`, `output_kernel` `[hidden, outputs]` and `output_bias` `[outputs]`. The
    carry has the part `state` `[batch, outputs]`, the state units of the next step.

    Attributes:
        hidden: Number of hidden units.
        outputs: Number of output units, and of state units.
        activation: Activation of the hidden units, one of `tanh`, `relu`, `sigmoid` and `identity`.
        feedback: Function from o(t) to the input of the state units, one of `softmax`, `sigmoid`,
            `tanh`, `relu` and `identity`.
        decay: Fraction mu of its value that a state unit keeps, in [0, 1].
        kernel_init: Initializer of the input and output kernels; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
        recurrent_init: Initializer of the recurrent kernel; see
            `rcnn_jax.layers.initializers.kernel_initializer`.
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
        """Length of the output, which is the output layer."""
        return self.outputs

    def carry_features(self) -> dict[str, int]:
        """Returns the length of the state units, see `Cell.carry_features`."""
        return {"state": self.outputs}

    def weights(self, features: int) -> Weights:
        """Declares the weights for inputs `[batch, time, features]`; see `Cell.weights`."""
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
        """Computes one time step; arguments and results are those of `Cell.step`."""
        state = carry["state"]
        hidden = ACTIVATIONS[self.activation](drive + product("recurrent_kernel", state))
        output = product("output_kernel", hidden) + vectors["output_bias"][None]
        return {"state": self.decay * state + FEEDBACKS[self.feedback](output)}, output
