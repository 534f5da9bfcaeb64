"""VGG: 3x3 convolutions in five blocks, each ending in a pool, and three dense layers.

    block of 64 - pool - block of 128 - pool - block of 256 - pool - block of 512 - pool -
    block of 512 - pool - fc 4096 - fc 4096 - fc C - softmax

Every pool halves the image. Every layer but the last is followed by a relu, the first two dense
layers also by dropout. The table has the convolutions of each block, and the parameters for images
of 224x224x3 and C = 1000:

    configuration        A (11)         B (13)         D (16)         E (19)
    convolutions     1 1 2 2 2      2 2 2 2 2      2 2 3 3 3      2 2 4 4 4
    in them          9,220,480      9,404,992     14,714,688     20,024,384
    without fc8    128,766,336    128,950,848    134,260,544    139,570,240
    whole          132,863,336    133,047,848    138,357,544    143,667,240

With `classes=0` the last layer is omitted, and the output is fc7 after its relu: 4096 numbers that
describe an image to a recurrent network.

References:
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
"""Numbers of convolutions of the blocks, by the number of layers with weights."""

_FACTORS = (1, 2, 4, 8, 8)


def convolution_names(depth: int) -> tuple[tuple[str, ...], ...]:
    """Returns the names of the convolutions of each block, as in the released model.

    Args:
        depth: Number of layers with weights, 11, 13, 16 or 19.

    Returns:
        For each block a tuple of names such as `conv1_1`.

    Example:
        >>> from rcnn_jax.models.vgg import convolution_names
        >>> convolution_names(13)[0]
        ('conv1_1', 'conv1_2')
    """
    return tuple(
        tuple(f"conv{block}_{place}" for place in range(1, count + 1))
        for block, count in enumerate(CONVOLUTIONS[depth], start=1)
    )


class VGGFeatures(nn.Module):
    """The convolutions of a VGG net, each followed by a relu, and its pools.

    Attributes:
        depth: Number of layers with weights of the whole net, 11, 13, 16 or 19.
        width: Number of feature maps of the first block; the others have 2, 4, 8 and 8 times as
            many.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    depth: int = 16
    width: int = 64
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Computes the last feature maps.

        Args:
            x: Images `[batch, height, width, channels]`. Pools extend beyond the end of odd sizes,
                as in Caffe.
            train: Not used; the result is the same in training and evaluation.

        Returns:
            Feature maps `[batch, ceil(height / 32), ceil(width / 32), 8 * width of the first
            block]`.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
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
        classes: Number of classes C; 0 omits the last layer.
        depth: Number of layers with weights, 11, 13, 16 or 19.
        width: Number of feature maps of the first block; the others have 2, 4, 8 and 8 times as
            many.
        hidden: Number of units of the first two dense layers.
        dropout: Fraction of the activations of the first two dense layers dropped in training.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
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
            x: Images `[batch, height, width, channels]` of one size, since the first dense layer
                has a weight for each position.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            Logits `[batch, classes]`, or `[batch, hidden]` without the last layer, in float32 or
            wider.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
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
    """Builds VGG-11 (configuration A), with 132,863,336 parameters for 1000 classes.

    Args:
        classes: Number of classes; 0 omits the last layer.
        **attributes: Further attributes of `VGG`.
    """
    return VGG(classes=classes, depth=11, **attributes)


def vgg13(classes: int, **attributes: Any) -> VGG:
    """Builds VGG-13 (configuration B), with 133,047,848 parameters for 1000 classes.

    Args:
        classes: Number of classes; 0 omits the last layer.
        **attributes: Further attributes of `VGG`.
    """
    return VGG(classes=classes, depth=13, **attributes)


def vgg16(classes: int, **attributes: Any) -> VGG:
    """Builds VGG-16 (configuration D), with 138,357,544 parameters, 134,260,544 without fc8.

    The first number is for 1000 classes.

    Args:
        classes: Number of classes; 0 omits the last layer.
        **attributes: Further attributes of `VGG`.
    """
    return VGG(classes=classes, depth=16, **attributes)


def vgg19(classes: int, **attributes: Any) -> VGG:
    """Builds VGG-19 (configuration E), with 143,667,240 parameters for 1000 classes.

    Args:
        classes: Number of classes; 0 omits the last layer.
        **attributes: Further attributes of `VGG`.
    """
    return VGG(classes=classes, depth=19, **attributes)
