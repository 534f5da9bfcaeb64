"""VGG: 3x3 convolutions in five blocks, each ending in a pool, and three dense layers.

    block of 64 - pool - block of 128 - pool - block of 256 - pool - block of 512 - pool -
    block of 512 - pool - fc 4096 - fc 4096 - fc C - softmax

Every pool halves the picture; every layer but the last is followed by a relu, the first two dense
ones by dropout. Convolutions a block, and parameters for pictures of 224x224x3 and C = 1000:

    configuration        A (11)         B (13)         D (16)         E (19)
    convolutions     1 1 2 2 2      2 2 2 2 2      2 2 3 3 3      2 2 4 4 4
    in them          9,220,480      9,404,992     14,714,688     20,024,384
    without fc8    128,766,336    128,950,848    134,260,544    139,570,240
    whole          132,863,336    133,047,848    138,357,544    143,667,240

With `classes=0` the last layer is left out, and the answer is fc7 behind its relu: the 4096 numbers
that describe a picture to a recurrent network.

Reference:
    Simonyan & Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR
    2015, table 1.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.convolution import conv_general_dilated
from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.pooling import max_pool

EXAMPLE_INPUT = "224x224x3"

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""How many convolutions each block has, by the number of layers with weights."""

_FACTORS = (1, 2, 4, 8, 8)


def convolution_names(depth: int) -> tuple[tuple[str, ...], ...]:
    """The names of the convolutions of each block, as in the released model: `conv1_1`, ..."""
    return tuple(
        tuple(f"conv{block}_{place}" for place in range(1, count + 1))
        for block, count in enumerate(CONVOLUTIONS[depth], start=1)
    )


class VGGFeatures(nn.Module):
    """The convolutions of a VGG net, each behind a relu, and its pools.

    Attributes:
        depth: number of layers with weights of the whole net, 11, 13, 16 or 19.
        width: maps of the first block; the others have 2, 4, 8 and 8 times as many.
        dtype: dtype of the computation, for example `bfloat16`; None: that of the parameters.
        param_dtype: dtype of parameters.
    """

    depth: int = 16
    width: int = 64
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Computes the last maps.

        Args:
            x: images `[batch, height, width, channels]`. Pools hang over the end of odd sizes, as
                Caffe's do.
            train: makes no difference.

        Returns:
            `[batch, ceil(height / 32), ceil(width / 32), 8 * width of the first block]`.

        Raises:
            ValueError: an attribute or the rank of `x` is impossible.
        """
        del train
        if x.ndim != 4:
            raise ValueError(
                f"VGG takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if self.depth not in CONVOLUTIONS or self.width < 1:
            raise ValueError(
                f"VGG has {', '.join(map(str, CONVOLUTIONS))} layers and at least 1 map, got "
                f"depth={self.depth} and width={self.width}"
            )
        for names, factor in zip(convolution_names(self.depth), _FACTORS, strict=True):
            for name in names:
                convolution = nn.Conv(
                    self.width * factor,
                    (3, 3),
                    kernel_init=kernel_initializer("he"),
                    conv_general_dilated=conv_general_dilated,
                    dtype=None if self.dtype is None else jnp.dtype(self.dtype),
                    param_dtype=jnp.dtype(self.param_dtype),
                    name=name,
                )
                x = nn.relu(convolution(x))
            x = max_pool(x, (2, 2), (2, 2), "CEIL")
        return x


class VGG(nn.Module):
    """The nets of the Visual Geometry Group, returning logits or fc7.

    Attributes:
        classes: number of classes C; 0 leaves the last layer out.
        depth: number of layers with weights, 11, 13, 16 or 19.
        width: maps of the first block; the others have 2, 4, 8 and 8 times as many.
        hidden: units of the first two dense layers.
        dropout: share of their activations dropped in training.
        dtype: dtype of the computation, for example `bfloat16`; None: that of the parameters.
        param_dtype: dtype of parameters.
    """

    classes: int
    depth: int = 16
    width: int = 64
    hidden: int = 4096
    dropout: float = 0.5
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: images `[batch, height, width, channels]` of one size: the first dense layer has a
                weight for each place.
            train: drop activations (random collection `dropout`).

        Returns:
            Logits `[batch, classes]`, or `[batch, hidden]` without the last layer, in float32 or
            wider.

        Raises:
            ValueError: an attribute or the rank of `x` is impossible.
        """
        if self.classes < 0 or self.hidden < 1:
            raise ValueError(
                "VGG needs at least 1 unit, and classes or 0 for none, got "
                f"classes={self.classes} and hidden={self.hidden}"
            )
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = VGGFeatures(self.depth, self.width, **types, name="features")(x, train=train)
        x = x.reshape(x.shape[0], -1)
        for number in (6, 7):
            x = nn.relu(self._dense(f"fc{number}", self.hidden, "he")(x))
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        if self.classes:
            x = self._dense("fc8", self.classes, "lecun")(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _dense(self, name: str, features: int, init: str) -> nn.Dense:
        return nn.Dense(
            features,
            kernel_init=kernel_initializer(init),
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            name=name,
        )


def vgg11(classes: int, **attributes: Any) -> VGG:
    """Configuration A: 132,863,336 parameters for 1000 classes."""
    return VGG(classes=classes, depth=11, **attributes)


def vgg13(classes: int, **attributes: Any) -> VGG:
    """Configuration B: 133,047,848 parameters for 1000 classes."""
    return VGG(classes=classes, depth=13, **attributes)


def vgg16(classes: int, **attributes: Any) -> VGG:
    """Configuration D: 138,357,544 parameters for 1000 classes, 134,260,544 without fc8."""
    return VGG(classes=classes, depth=16, **attributes)


def vgg19(classes: int, **attributes: Any) -> VGG:
    """Configuration E: 143,667,240 parameters for 1000 classes."""
    return VGG(classes=classes, depth=19, **attributes)
