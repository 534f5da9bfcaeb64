"""A small CNN that keeps what is in a scene, how much of it and where.

It is a net of this project, for scenes of its own:

    [convolution or RCL - pool] x (L - 1) - convolution or RCL - 1x1 convolution
        - maximum, sum and expected place of each map - dense - dense C

A dense layer on all places side by side, as in VGG, would have to learn what a red star is at each
place anew. Here the weights up to the last maps are shared by all places, so that one star teaches
all of them, and the numbers of each map say whether it is there, how often and where.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.pooling import max_along, max_pool
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.layers.spatial_softmax import soft_argmax

EXAMPLE_INPUT = "64x64x3"


class GridNet(nn.Module):
    """A CNN for images, returning logits or what describes the image.

    Attributes:
        classes: number of classes C; 0 leaves the last layer out, and the answer is the hidden
            layer.
        features: maps of each layer; after each but the last a pool of 2 halves the image.
        steps: iterations of each RCL; 0 for plain convolutions.
        norm: see `RCL`.
        units: maps of the 1x1 convolution.
        hidden: units of the hidden layer, rectified.
        dropout: share of the hidden units dropped in training.
        dtype: dtype of the computation, for example `bfloat16`; None: that of the parameters.
        param_dtype: dtype of parameters and running statistics.
    """

    classes: int
    features: Sequence[int] = (24, 48, 96, 128)
    steps: int = 0
    norm: str = "batch"
    units: int = 256
    hidden: int = 512
    dropout: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: images `[batch, height, width, channels]`.
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
        if not self.features or min(self.classes, self.units - 1, self.hidden - 1) < 0:
            raise ValueError(
                "GridNet has at least 1 layer, 1 map, 1 hidden unit and 0 classes, got features="
                f"{tuple(self.features)}, units={self.units}, hidden={self.hidden} and "
                f"classes={self.classes}"
            )
        shared = {"norm": self.norm, "dtype": self.dtype, "param_dtype": self.param_dtype}
        for number, features in enumerate(self.features):
            if number:
                x = max_pool(x, (2, 2), (2, 2), "CEIL")
            layer = RCL(features, steps=self.steps, name=f"rcl{number}", **shared)
            x = layer(x, train=train)
        x = RCL(self.units, kernel_size=(1, 1), steps=0, name="units", **shared)(x, train=train)
        param_dtype, init = jnp.dtype(self.param_dtype), kernel_initializer("he")
        dense = nn.Dense(
            self.hidden,
            kernel_init=init,
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=param_dtype,
            name="hidden",
        )
        x = Dropout(self.dropout, name="dropout")(nn.relu(dense(_described(x))), train=train)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if not self.classes:
            return x
        return nn.Dense(self.classes, param_dtype=param_dtype, name="head")(x)


def _described(maps: Array) -> Array:
    """Maximum, sum and coordinates of each map, `[batch, 4 * channels]`."""
    places = maps.reshape(len(maps), -1, maps.shape[-1])
    # Over the root of their number: the sum of unlike places then spreads like one of them.
    total = places.sum(axis=1) / places.shape[1] ** 0.5
    where = soft_argmax(maps).reshape(len(maps), -1)
    return jnp.concatenate([max_along(places, 1), total, where], axis=-1)
