"""ResNet-20/32/44/56/110 for CIFAR.

    conv 3x3-16 - n blocks of 16 maps - n blocks of 32, the first with stride 2 - n blocks of 64,
    the first with stride 2 - global average - softmax

The depth is 6n + 2. A block consists of conv 3x3, batch norm, relu, conv 3x3, batch norm, the
addition of its input, and relu. If a block changes the shape, its input is subsampled and padded
with zero maps (option A), which has no parameters. The table has the weights of the convolutions
and of the last layer with its bias, for 10 classes; normalization adds two numbers per feature map:

    depth           20       32       44       56        110
    weights    268,346  461,882  655,418  848,954  1,719,866
    with norm  269,722  464,154  658,586  853,018  1,727,962

References:
    He, Zhang, Ren & Sun, Deep residual learning for image recognition, CVPR 2016, section 4.2.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rcnn_jax.layers.convolution import conv_general_dilated
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.normalization import BatchNorm


def parameterless_shortcut(
    x: Float[Array, "batch height width channels"], features: int, stride: int
) -> Float[Array, "batch out_height out_width features"]:
    """Subsamples feature maps by `stride` and appends zero maps (option A).

    Args:
        x: Input of a block, `[batch, height, width, channels]`.
        features: Number of feature maps of the output, at least `channels`.
        stride: Stride of the block.

    Returns:
        Feature maps `[batch, ceil(height / stride), ceil(width / stride), features]`.

    Raises:
        ValueError: If `features` is less than the number of channels of `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.models.resnet import parameterless_shortcut
        >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
        >>> parameterless_shortcut(x, features=2, stride=2)[0, 1].tolist()
        [[6.0, 0.0], [8.0, 0.0]]
    """
    missing = features - x.shape[-1]
    if missing < 0:
        raise ValueError(
            f"a shortcut without parameters cannot reduce {x.shape[-1]} maps to {features}"
        )
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, missing)))


class ResNet(nn.Module):
    """The CIFAR family of residual nets, returning logits.

    Attributes:
        classes: Number of classes.
        depth: Number of layers with weights, 6n + 2 for n blocks per stage.
        width: Number of feature maps of the first stage; each later stage doubles it.
        momentum: Fraction of the running statistics that an update keeps, see `BatchNorm`.
        epsilon: Constant added to the variance.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of parameters and running statistics.
    """

    classes: int
    depth: int = 20
    width: int = 16
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]` of any size.
            train: Whether to use and record the statistics of the batch instead of the running
                ones.

        Returns:
            Logits `[batch, classes]` in float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
        """
        self._check(x)
        x = nn.relu(self._norm("norm", self._conv("conv", x, self.width), train))
        for stage in range(3):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                x = self._block(name, x, self.width * 2**stage, stride, train)
        x = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))
        return nn.Dense(
            self.classes,
            kernel_init=kernel_initializer("lecun"),
            param_dtype=jnp.dtype(self.param_dtype),
            name="head",
        )(x)

    def _block(self, name: str, x: Array, features: int, stride: int, train: bool) -> Array:
        y = self._conv(f"{name}_conv1", x, features, stride)
        y = nn.relu(self._norm(f"{name}_norm1", y, train))
        y = self._conv(f"{name}_conv2", y, features)
        y = self._norm(f"{name}_norm2", y, train)
        return nn.relu(y + parameterless_shortcut(x, features, stride).astype(y.dtype))

    def _conv(self, name: str, x: Array, features: int, stride: int = 1) -> Array:
        return nn.Conv(
            features,
            (3, 3),
            strides=stride,
            # One zero on each side, also at stride 2, where "SAME" would pad only at the end.
            padding=1,
            use_bias=False,
            kernel_init=kernel_initializer("he"),
            conv_general_dilated=conv_general_dilated,
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            name=name,
        )(x)

    def _norm(self, name: str, x: Array, train: bool) -> Array:
        return BatchNorm(self.momentum, self.epsilon, self.param_dtype, name=name)(x, train=train)

    def _check(self, x: Array) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"ResNet takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if self.classes < 1 or self.width < 1:
            raise ValueError(
                f"ResNet needs at least 1 class and 1 map, got classes={self.classes} and "
                f"width={self.width}"
            )
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(
                f"the depth of this ResNet is 6n + 2 with n >= 1, as 20, 32, 44, 56 or 110, got "
                f"depth={self.depth}"
            )


def resnet20(classes: int, **attributes: Any) -> ResNet:
    """Builds ResNet-20, with 269,722 parameters for 10 classes.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `ResNet`.
    """
    return ResNet(classes=classes, depth=20, **attributes)


def resnet32(classes: int, **attributes: Any) -> ResNet:
    """Builds ResNet-32, with 464,154 parameters for 10 classes.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `ResNet`.
    """
    return ResNet(classes=classes, depth=32, **attributes)


def resnet44(classes: int, **attributes: Any) -> ResNet:
    """Builds ResNet-44, with 658,586 parameters for 10 classes.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `ResNet`.
    """
    return ResNet(classes=classes, depth=44, **attributes)


def resnet56(classes: int, **attributes: Any) -> ResNet:
    """Builds ResNet-56, with 853,018 parameters for 10 classes.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `ResNet`.
    """
    return ResNet(classes=classes, depth=56, **attributes)


def resnet110(classes: int, **attributes: Any) -> ResNet:
    """Builds ResNet-110, with 1,727,962 parameters for 10 classes, 1,719,866 without norms.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `ResNet`.
    """
    return ResNet(classes=classes, depth=110, **attributes)
