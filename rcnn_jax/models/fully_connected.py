"""A fully connected net, the baseline that convolution is compared with.

    (dense - activation) x L - softmax, on the pixels of the image as one vector

With D input values, H units in each of L hidden layers, p pieces per unit (1 unless maxout) and C
classes the net has `(D + 1)Hp + (L - 1)(H + 1)Hp + (H + 1)C` parameters.

References:
    The maxout preset is the net for permutation-invariant MNIST of Goodfellow et al., Maxout
    networks, ICML 2013, section 5.1; sizes from the released code. The others are textbook nets.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.maxout import Maxout, uniform_or_lecun

ACTIVATIONS = ("relu", "sigmoid", "maxout")


class FullyConnected(nn.Module):
    """Dense layers on the pixels of an image, returning logits.

    Attributes:
        classes: Number of classes.
        hidden: Number of units of each hidden layer; an empty sequence gives softmax regression.
        activation: Activation of the hidden units, `"relu"`, `"sigmoid"` or `"maxout"`.
        pieces: Number of linear pieces of a maxout unit.
        input_dropout: Fraction of the pixels dropped in training.
        dropout: Fraction of the hidden activations dropped in training.
        init_range: Bound of uniformly distributed initial weights. None takes variance 2 / fan-in
            before a relu and 1 / fan-in elsewhere.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    hidden: Sequence[int] = (1024, 1024)
    activation: str = "relu"
    pieces: int = 5
    input_dropout: float = 0.0
    dropout: float = 0.0
    init_range: float | None = None
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]`, or vectors `[batch, inputs]`; their size
                determines that of the first layer.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            Logits `[batch, classes]` in float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
        """
        self._check(x)
        x = x.reshape(x.shape[0], -1)
        x = Dropout(self.input_dropout, name="input_dropout")(x, train=train)
        for number, features in enumerate(self.hidden, start=1):
            x = self._layer(f"dense{number}", x, features, train)
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        init = uniform_or_lecun(self.init_range)
        dtype = jnp.dtype(self.param_dtype)
        return nn.Dense(self.classes, kernel_init=init, param_dtype=dtype, name="head")(x)

    def _layer(self, name: str, x: Array, features: int, train: bool) -> Array:
        if self.activation == "maxout":
            layer = Maxout(
                features,
                self.pieces,
                init_range=self.init_range,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=name,
            )
            return layer(x, train=train)
        init = uniform_or_lecun(self.init_range)
        if self.activation == "relu" and self.init_range is None:
            init = kernel_initializer("he")
        z = nn.Dense(
            features,
            kernel_init=init,
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            name=name,
        )(x)
        return nn.relu(z) if self.activation == "relu" else nn.sigmoid(z)

    def _check(self, x: Array) -> None:
        if x.ndim not in (2, 4):
            raise ValueError(
                f"FullyConnected takes images [batch, height, width, channels] or vectors [batch, "
                f"inputs], got shape {x.shape}"
            )
        if self.classes < 1 or min(self.hidden, default=1) < 1:
            raise ValueError(
                f"FullyConnected needs at least 1 class and 1 unit a layer, got classes="
                f"{self.classes} and hidden={tuple(self.hidden)}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"FullyConnected has an activation of {', '.join(ACTIVATIONS)}, got "
                f'"{self.activation}"'
            )


def maxout_mnist(classes: int, **attributes: Any) -> FullyConnected:
    """Builds two layers of 240 maxout units with 5 pieces, for MNIST.

    The net has 1,233,610 parameters on 28x28 grey images with 10 classes.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `FullyConnected`.
    """
    values: dict[str, Any] = {
        "hidden": (240, 240),
        "activation": "maxout",
        "pieces": 5,
        "input_dropout": 0.2,
        "dropout": 0.5,
        "init_range": 0.005,
    }
    return FullyConnected(classes=classes, **(values | attributes))
