"""EfficientNet-Lite0: inverted bottlenecks without squeeze-and-excitation, rectified at 6.

    conv 3x3-32 /2 - seven stages of blocks - conv 1x1-1280 - global average - dropout - softmax

A block expands its feature maps by a 1x1 convolution, filters each by a depthwise convolution, and
projects them by a 1x1 convolution to fewer maps; it adds its input if neither size nor number of
maps change. Every convolution is followed by batch normalization, and all but the projections by
relu6.

    stage     1    2    3    4    5    6    7
    blocks    1    2    2    3    3    4    1
    window    3    3    5    3    5    5    3
    stride    1    2    2    2    1    2    1
    widening  1    6    6    6    6    6    6
    maps     16   24   40   80  112  192  320

The net has 4,652,008 parameters for 1000 classes, 3,371,008 without the last layer. Padding is that
of TensorFlow, which at stride 2 adds a pixel at the end only. With `classes=0` the last layer is
omitted, and the output is the mean of each of the 1280 maps.

References:
    Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020; the net it simplifies: Tan &
    Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.depthwise import DepthwiseConv
from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.normalization import BatchNorm

EXAMPLE_INPUT = "224x224x3"

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, window side, stride of the first block, widening and maps of each stage of Lite0."""


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite, returning logits or the mean of its last feature maps.

    Attributes:
        classes: Number of classes; 0 omits the last layer.
        stages: Five numbers for each stage: blocks, window side, stride of the first block,
            widening and feature maps; see `STAGES`.
        stem: Number of feature maps of the first convolution.
        head: Number of feature maps of the last convolution.
        dropout: Fraction of the averaged maps dropped in training.
        drop_block: Slope of the probability that a block of an example is omitted in training:
            `drop_block * n / N` for block n = 0..N-1 of N. Only blocks that add their input can be
            omitted.
        momentum: Fraction of the running statistics that an update keeps, see `BatchNorm`.
        epsilon: Constant added to the variance.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of parameters and running statistics.
    """

    classes: int
    stages: Sequence[Sequence[int]] = STAGES
    stem: int = 32
    head: int = 1280
    dropout: float = 0.2
    drop_block: float = 0.2
    momentum: float = 0.99
    epsilon: float = 1e-3
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]` of any size.
            train: Whether to drop activations and blocks (random collection `dropout`), and to use
                and record the statistics of the batch.

        Returns:
            Logits `[batch, classes]`, or `[batch, head]` without the last layer, in float32 or
            wider.

        Raises:
            ValueError: If an attribute or the rank of `x` is invalid.
        """
        self._check(x)
        x = self._filtered("stem", x, self.stem, train, side=3, stride=2)
        blocks = sum(stage[0] for stage in self.stages)
        number = 0
        for repeats, side, stride, widening, maps in self.stages:
            for place in range(repeats):
                drop = self.drop_block * number / blocks
                number += 1
                step = stride if place == 0 else 1
                x = self._block(f"block{number}", x, maps, train, side, step, widening, drop)
        x = self._filtered("last", x, self.head, train)
        x = jnp.mean(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=(1, 2))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        if not self.classes:
            return x
        return nn.Dense(
            self.classes,
            kernel_init=kernel_initializer("lecun"),
            param_dtype=jnp.dtype(self.param_dtype),
            name="head",
        )(x)

    def _block(
        self, name: str, x: Array, maps: int, train: bool, side: int, stride: int, widening: int,
        drop: float,
    ) -> Array:  # fmt: skip
        given, channels = x, x.shape[-1]
        if widening != 1:
            x = self._filtered(f"{name}_expand", x, channels * widening, train)
        x = self._filtered(
            f"{name}_depthwise", x, x.shape[-1], train, side=side, stride=stride, each=True
        )
        x = self._filtered(f"{name}_project", x, maps, train, rectified=False)
        if stride != 1 or maps != channels:
            return x
        # One draw for the whole block of an example.
        drop_block = Dropout(drop, broadcast_dims=(1, 2, 3), name=f"{name}_drop")
        return drop_block(x, train=train) + given

    def _filtered(
        self,
        name: str,
        x: Array,
        features: int,
        train: bool,
        *,
        side: int = 1,
        stride: int = 1,
        each: bool = False,
        rectified: bool = True,
    ) -> Array:
        """Applies a convolution, depthwise if `each` is true, and its normalization."""
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if each:
            x = DepthwiseConv((side, side), (stride, stride), **types, name=name)(x)
        else:
            x = nn.Conv(
                features,
                (side, side),
                strides=stride,
                use_bias=False,
                kernel_init=kernel_initializer("he"),
                dtype=None if self.dtype is None else jnp.dtype(self.dtype),
                param_dtype=jnp.dtype(self.param_dtype),
                name=name,
            )(x)
        norm = BatchNorm(self.momentum, self.epsilon, self.param_dtype, name=f"{name}_norm")
        x = norm(x, train=train)
        return nn.relu6(x) if rectified else x

    def _check(self, x: Array) -> None:
        if x.ndim != 4:
            raise ValueError(
                "EfficientNetLite takes images [batch, height, width, channels], got shape "
                f"{x.shape}"
            )
        if self.classes < 0 or not self.stages or any(len(stage) != 5 for stage in self.stages):
            raise ValueError(
                "EfficientNetLite needs classes or 0 for none, and five numbers for each stage "
                "(blocks, window, stride, widening, maps), got "
                f"classes={self.classes} and stages={tuple(map(tuple, self.stages))}"
            )
        if min(self.stem, self.head, *(min(stage) for stage in self.stages)) < 1:
            raise ValueError(
                f"all numbers of EfficientNetLite are at least 1, got stem={self.stem}, "
                f"head={self.head} and stages={tuple(map(tuple, self.stages))}"
            )


def efficientnet_lite0(classes: int, **attributes: Any) -> EfficientNetLite:
    """Builds EfficientNet-Lite0, with 4,652,008 parameters for 1000 classes.

    Args:
        classes: Number of classes; 0 omits the last layer.
        **attributes: Further attributes of `EfficientNetLite`.
    """
    return EfficientNetLite(classes=classes, **attributes)
