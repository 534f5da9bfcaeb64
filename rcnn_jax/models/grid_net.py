"""A small CNN that keeps where things are: the net of this project for scenes of its own.

    [convolution or RCL - pool] x L - all places side by side - dense - dense C

A net that ends in a maximum or a mean over all places forgets them, and what is left of what can
no longer be told. Here the last maps are read place by place, as by the dense layers of VGG. With
`steps=0` every layer is a convolution with its normalization, otherwise an RCL.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.convolution import kernel_initializer
from rcnn_jax.layers.pooling import max_pool
from rcnn_jax.layers.randomness import Dropout
from rcnn_jax.layers.rcl import RCL

EXAMPLE_INPUT = "64x64x3"


class GridNet(nn.Module):
    """A CNN for images of one size, returning logits or what describes the image.

    Attributes:
        classes: number of classes C; 0 leaves the last layer out, and the answer is the hidden
            layer.
        features: maps of each layer; after each a pool of 2 halves the image.
        steps: iterations of each RCL; 0 for plain convolutions.
        norm: see `RCL`.
        hidden: units of the hidden layer, rectified.
        dropout: share of the hidden units dropped in training.
        dtype: dtype of the computation, for example `bfloat16`; None: that of the parameters.
        param_dtype: dtype of parameters and running statistics.
    """

    classes: int
    features: Sequence[int] = (24, 48, 96, 128)
    steps: int = 0
    norm: str = "batch"
    hidden: int = 512
    dropout: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: images `[batch, height, width, channels]` of one size: the hidden layer has a weight
                for each place.
            train: drop activations (random collection `dropout`), use and record the statistics of
                the batch.

        Returns:
            Logits `[batch, classes]`, or `[batch, hidden]` without the last layer, in float32 or
            wider.

        Raises:
            ValueError: an attribute or the rank of `x` is impossible.
        """
        if x.ndim != 4:
            raise ValueError(
                f"GridNet takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if not self.features or min(self.classes, self.hidden - 1) < 0:
            raise ValueError(
                "GridNet has at least 1 layer, 1 hidden unit and 0 classes, got "
                f"features={tuple(self.features)}, hidden={self.hidden} and classes={self.classes}"
            )
        shared = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for number, features in enumerate(self.features):
            layer = RCL(features, steps=self.steps, norm=self.norm, name=f"rcl{number}", **shared)
            x = max_pool(layer(x, train=train), (2, 2), (2, 2), "CEIL")
        x = x.reshape(len(x), -1)
        param_dtype, init = jnp.dtype(self.param_dtype), kernel_initializer("he")
        dense = nn.Dense(
            self.hidden,
            kernel_init=init,
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=param_dtype,
            name="hidden",
        )
        x = Dropout(self.dropout, name="dropout")(nn.relu(dense(x)), train=train)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if not self.classes:
            return x
        return nn.Dense(self.classes, param_dtype=param_dtype, name="head")(x)
