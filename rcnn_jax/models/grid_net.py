"""A small CNN that represents the objects in a scene, their number and their positions.

The net was designed in this project for scenes of its data sets:

    [convolution or RCL - pool] x (L - 1) - convolution or RCL - 1x1 convolution
        - maximum, sum and expected position of each map - dense - dense C

A dense layer on all positions, as in VGG, would have to learn a pattern such as a red star
separately at each position. Here the weights up to the last maps are shared by all positions, so
that one star trains all of them, and the statistics of each map describe whether a pattern is
present, how often and where.
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
    """A CNN for images, returning logits or a vector that describes the image.

    Attributes:
        classes: Number of classes C; 0 omits the last layer, and the output is the hidden layer.
        features: Number of feature maps of each layer; a pool of 2 halves the image after each
            layer but the last.
        steps: Number of iterations of each RCL; 0 gives plain convolutions.
        norm: Kind of normalization, such as `lrn`, `batch` or `none`; see `RCLOptions`.
        units: Number of feature maps of the 1x1 convolution.
        hidden: Number of rectified units of the hidden layer.
        dropout: Fraction of the hidden units dropped in training.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of parameters and running statistics.
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
            x: Images `[batch, height, width, channels]`.
            train: Whether to drop activations (random collection `dropout`), and to use and record
                the statistics of the batch.

        Returns:
            Logits `[batch, classes]`, or `[batch, hidden]` without the last layer, in float32 or
            wider.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
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
    """Computes maximum, sum and coordinates of each map, `[batch, 4 * channels]`."""
    places = maps.reshape(maps.shape[0], -1, maps.shape[-1])
    # Divided by the root of their number, so that the sum of independent positions has the standard
    # deviation of a single one.
    total = places.sum(axis=1) / places.shape[1] ** 0.5
    where = soft_argmax(maps).reshape(maps.shape[0], -1)
    return jnp.concatenate([max_along(places, 1), total, where], axis=-1)
