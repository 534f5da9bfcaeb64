"""SqueezeNet: fire modules of narrow 1x1 and wide 1x1 and 3x3 convolutions, and no dense layer.

    conv1 7x7-96 /2 - pool - fire2 fire3 fire4 - pool - fire5 ... fire8 - pool - fire9 - dropout -
    conv10 1x1-C - global average - softmax

Pools take the maximum of 3x3 with stride 2, and the last window may extend beyond the end. A fire
module squeezes its input to s feature maps by 1x1 convolutions and concatenates 4s maps of 1x1 and
4s maps of 3x3 convolutions of these; s is 16, 16, 32, 32, 48, 48, 64, 64. Every convolution is
followed by a relu, including the last one. Version 1.1 begins with 3x3-64 and pools after conv1,
fire3 and fire5, with 2.4 times fewer operations. Parameters for 3 input channels and C = 1000:
1,248,424, and 1,235,496 for version 1.1; without conv10 735,424 and 722,496.

With `classes=0` the last convolution is left out, and the output is the mean of the maps of fire9.

References:
    Iandola, Han, Moskewicz, Ashraf, Dally & Keutzer, SqueezeNet: AlexNet-level accuracy with 50x
    fewer parameters and < 0.5 MB model size, 2016; details from the released definitions.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.pooling import max_pool

EXAMPLE_INPUT = "227x227x3"

_EXPANSION = 4


class SqueezeNet(nn.Module):
    """SqueezeNet, returning logits or the mean of its last feature maps.

    Attributes:
        classes: Number of classes C; 0 leaves the last convolution out.
        squeezes: Number s of narrow maps of each fire module; the first module is called `fire2`.
        pools_behind: Numbers of the layers that are followed by a pool; 1 is the first convolution.
        stem_features: Number of feature maps of the first convolution.
        stem_window: Side of the window of the first convolution.
        stem_padding: Number of zeros on each side of the image.
        head_padding: Number of zeros on each side of the maps that the last convolution reads. The
            model that the authors released for version 1.0 has 1, so that its average includes a
            border of biases.
        last_relu: Whether the maps of the classes are rectified before the average.
        dropout: Fraction of the activations of the last fire module dropped in training.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    squeezes: Sequence[int] = (16, 16, 32, 32, 48, 48, 64, 64)
    pools_behind: Sequence[int] = (1, 4, 8)
    stem_features: int = 96
    stem_window: int = 7
    stem_padding: int = 0
    head_padding: int = 0
    last_relu: bool = True
    dropout: float = 0.5
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]` at least as large as the window of the
                first convolution.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            Logits `[batch, classes]`, or `[batch, 8 s]` of the last fire module without the last
            convolution, in float32 or wider.

        Raises:
            ValueError: If an attribute or the shape of `x` is invalid.
        """
        self._check(x)
        x = self._convolution("conv1", x, self.stem_features, self.stem_window, self.stem_padding)
        x = self._pool(x, 1)
        for number, squeeze in enumerate(self.squeezes, start=2):
            narrow = self._convolution(f"fire{number}_squeeze", x, squeeze, 1)
            wide = [
                self._convolution(
                    f"fire{number}_expand{side}x{side}",
                    narrow,
                    _EXPANSION * squeeze,
                    side,
                    side // 2,
                )
                for side in (1, 3)
            ]
            x = self._pool(jnp.concatenate(wide, axis=-1), number)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        if self.classes:
            x = self._convolution("conv10", x, self.classes, 1, self.head_padding)
        return jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))

    def _pool(self, x: Array, number: int) -> Array:
        return max_pool(x, (3, 3), (2, 2), "CEIL") if number in self.pools_behind else x

    def _convolution(
        self, name: str, x: Array, features: int, side: int, padding: int = 0
    ) -> Array:
        convolution = nn.Conv(
            features,
            (side, side),
            strides=2 if name == "conv1" else 1,
            padding=padding,
            kernel_init=kernel_initializer("he"),
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            name=name,
        )
        rectified = name != "conv10" or self.last_relu
        return nn.relu(convolution(x)) if rectified else convolution(x)

    def _check(self, x: Array) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"SqueezeNet takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if self.classes < 0 or not self.squeezes:
            raise ValueError(
                "SqueezeNet needs at least 1 fire module, and classes or 0 for none, got "
                f"classes={self.classes} and squeezes={tuple(self.squeezes)}"
            )
        if min(x.shape[1:3]) + 2 * self.stem_padding < self.stem_window:
            raise ValueError(
                f"the first window of SqueezeNet is {self.stem_window} wide and finds no place in "
                f"{x.shape[1]}x{x.shape[2]} pixels with stem_padding={self.stem_padding}"
            )


def squeezenet(classes: int, **attributes: Any) -> SqueezeNet:
    """Builds SqueezeNet 1.0, with 1,248,424 parameters for 1000 classes.

    Args:
        classes: Number of classes; 0 leaves the last convolution out.
        **attributes: Further attributes of `SqueezeNet`.
    """
    return SqueezeNet(classes=classes, **attributes)


def squeezenet_released_code(classes: int, **attributes: Any) -> SqueezeNet:
    """Builds SqueezeNet 1.0 as released, with a border of zeros before the last convolution.

    Args:
        classes: Number of classes; 0 leaves the last convolution out.
        **attributes: Further attributes of `SqueezeNet`.
    """
    values: dict[str, Any] = {"head_padding": 1}
    return SqueezeNet(classes=classes, **(values | attributes))


def squeezenet_1_1(classes: int, **attributes: Any) -> SqueezeNet:
    """Builds SqueezeNet 1.1, with 1,235,496 parameters for 1000 classes.

    Args:
        classes: Number of classes; 0 leaves the last convolution out.
        **attributes: Further attributes of `SqueezeNet`.
    """
    values: dict[str, Any] = {"stem_features": 64, "stem_window": 3, "pools_behind": (1, 3, 5)}
    return SqueezeNet(classes=classes, **(values | attributes))
