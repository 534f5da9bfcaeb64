"""NIN: convolutions followed by 1x1 convolutions, and no dense layer.

    conv 5x5-192, 1x1-160, 1x1-96 - max-pool 3/2 - conv 5x5-192, 1x1-192, 1x1-192 - max-pool 3/2 -
    conv 3x3-192, 1x1-192, 1x1-C - global average - softmax

Every convolution is followed by a relu, and both pools by dropout. The net has 966,986 parameters
for 3 input channels and C = 10.

References:
    Lin, Chen & Yan, Network in network, ICLR 2014, section 4; layer sizes from the released code.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.convolution import conv_general_dilated
from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.pooling import avg_pool, max_pool

_POOLS = {"max": max_pool, "average": avg_pool}


class NIN(nn.Module):
    """Network in network, returning logits.

    Attributes:
        classes: Number of classes C.
        features: Numbers of feature maps of the three convolutions of each block; the last entry of
            the last block is omitted, since it is C.
        kernel_sizes: Side of the window of the first convolution of each block.
        pools: Kind of the pool after each block but the last, `"max"` or `"average"`; windows are
            3x3 with stride 2, and the last one may extend beyond the end.
        last_relu: Whether the maps of the classes are rectified before the average.
        dropout: Fraction of the activations dropped after each pool in training.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    features: Sequence[Sequence[int]] = ((192, 160, 96), (192, 192, 192), (192, 192))
    kernel_sizes: Sequence[int] = (5, 5, 3)
    pools: Sequence[str] = ("max", "max")
    last_relu: bool = False
    dropout: float = 0.5
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]` of any size.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            Logits `[batch, classes]` in float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
        """
        self._check(x)
        last = len(self.features) - 1
        for number, maps in enumerate(self.features):
            maps = (*maps, self.classes) if number == last else tuple(maps)
            for place, features in enumerate(maps):
                side = self.kernel_sizes[number] if place == 0 else 1
                x = self._convolution(f"conv{number + 1}_{place + 1}", features, side)(x)
                if self.last_relu or (number, place) != (last, len(maps) - 1):
                    x = nn.relu(x)
            if number < last:
                x = _POOLS[self.pools[number]](x, (3, 3), (2, 2), "CEIL")
                x = Dropout(self.dropout, name=f"dropout{number + 1}")(x, train=train)
        return jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))

    def _convolution(self, name: str, features: int, side: int) -> nn.Conv:
        return nn.Conv(
            features,
            (side, side),
            kernel_init=kernel_initializer("he"),
            conv_general_dilated=conv_general_dilated,
            dtype=None if self.dtype is None else jnp.dtype(self.dtype),
            param_dtype=jnp.dtype(self.param_dtype),
            name=name,
        )

    def _check(self, x: Array) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"NIN takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if self.classes < 1:
            raise ValueError(f"NIN needs at least 1 class, got classes={self.classes}")
        blocks = len(self.features)
        if blocks < 1 or len(self.kernel_sizes) != blocks or len(self.pools) != blocks - 1:
            raise ValueError(
                f"NIN needs a window for each block and a pool between blocks, got {blocks} "
                f"blocks, kernel_sizes={tuple(self.kernel_sizes)} and pools={tuple(self.pools)}"
            )
        for pool in self.pools:
            if pool not in _POOLS:
                raise ValueError(f'NIN pools by one of {", ".join(_POOLS)}, got "{pool}"')


def nin(classes: int, **attributes: Any) -> NIN:
    """Builds NIN as the paper describes it, with max-pooling throughout.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `NIN`.
    """
    return NIN(classes=classes, **attributes)


def nin_released_code(classes: int, **attributes: Any) -> NIN:
    """Builds the released CIFAR-10 NIN: the second pool averages, the last maps are rectified.

    The definition was read from a public port of that model, not from the original definition.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `NIN`.
    """
    values: dict[str, Any] = {"pools": ("max", "average"), "last_relu": True}
    return NIN(classes=classes, **(values | attributes))
