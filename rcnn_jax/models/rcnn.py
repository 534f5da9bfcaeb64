"""RCNN: a convolutional network whose layers iterate, and its controls.

    conv 5x5 (relu, LRN) - max-pool 3/2 - RCL - RCL - max-pool 3/2 - RCL - RCL - global max -
    softmax

With K feature maps, C classes and 3 input channels the net has `75K + K + 4(18K^2 + K) + KC + C`
parameters, whatever the number of iterations: 672,202 for K = 96 and C = 10.

Reference:
    Liang & Hu, Recurrent convolutional neural network for object recognition, CVPR 2015,
    with the controls of its comparison.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.pooling import global_max_pool, max_pool
from rcnn_jax.layers.rcl import RCL, RCLOptions


class RCNN(RCLOptions):
    """RCNN-K for images, returning logits.

    The first layer is an RCL without iterations, that is a convolution. Dropout follows each
    layer that another RCL reads, behind the pool where there is one: after RCL 1, 2 and 3 here,
    which the paper counts as layers 2, 3 and 4.

    Attributes:
        classes: number of classes C.
        features: number of feature maps K of every layer.
        steps: iterations T of each RCL; 0 gives plain convolutional layers.
        gated: gated RCLs, see `gated_rcl`.
        dropout: share of activations dropped; the paper does not state its own.
        first_kernel_size: window of the first convolution.
        kernel_size: window of feed-forward kernels of the RCLs.
        recurrent_kernel_size: window of the recurrent kernels; None: `kernel_size`.
        pool_window: window side of the pools.
        heads: one classifier `shared` by all iterations, or one each (`per_step`), as a net that
            is trained to answer after every iteration may want.
        pool_strides: stride of the pool before RCL 1 and of the pool before RCL 3; 1 leaves a
            pool out, as small images may want.

    The other attributes are those of every layer, `rcnn_jax.layers.rcl.RCLOptions`.
    """

    classes: int
    features: int = 96
    steps: int = 3
    gated: bool = False
    dropout: float = 0.5
    first_kernel_size: Sequence[int] = (5, 5)
    kernel_size: Sequence[int] = (3, 3)
    recurrent_kernel_size: Sequence[int] | None = None
    heads: str = "shared"
    pool_window: int = 3
    pool_strides: Sequence[int] = (2, 2)

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        steps: int | None = None,
        every_step: bool = False,
    ) -> Array:
        """Classifies images.

        Args:
            x: images `[batch, height, width, channels]` of any size, preprocessed.
            train: drop activations (random collection `dropout`), use and record the statistics
                of the batch.
            steps: iterations of this call; None: the trained T. The rule for steps beyond the
                trained ones is that of `RCL`.
            every_step: apply the head to each state of the last RCL (the others run to the end):
                an answer that improves with time. A head of its own is that of its step, and
                beyond T that of step T.

        Returns:
            Logits `[batch, classes]`, or `[steps + 1, batch, classes]` with `every_step`; in
            float32, or wider where the computation is.

        Raises:
            ValueError: an attribute, the rank of `x` or `steps` is impossible.
        """
        self._check(x)
        first_stride, second_stride = self.pool_strides
        x = self._layer("conv", self.first_kernel_size, steps=0)(x, train=train)
        x = self._pool(x, first_stride)
        for number in (1, 2, 3):
            x = self._layer(f"rcl{number}", self.kernel_size, steps=self.steps)(
                x, train=train, steps=steps
            )
            if number == 2:
                x = self._pool(x, second_stride)
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        states = self._layer("rcl4", self.kernel_size, steps=self.steps)(
            x, train=train, steps=steps, all_states=every_step
        )
        if every_step:
            return self._head(states, first=0)
        return self._head(states[None], first=self.steps if steps is None else steps)[0]

    def _layer(self, name: str, kernel_size: Sequence[int], steps: int) -> RCL:
        return RCL(
            self.features,
            kernel_size,
            self.recurrent_kernel_size,
            steps,
            self.gated,
            name=name,
            **self.rcl_options(),
        )

    def _pool(self, x: Array, stride: int) -> Array:
        if stride == 1:
            return x
        return max_pool(x, (self.pool_window,) * 2, (stride,) * 2, "CEIL")

    def _head(self, states: Array, first: int) -> Array:
        """Logits of each of the states `[answers, batch, height, width, features]`."""
        dtype = jnp.dtype(self.param_dtype)
        heads = () if self.heads == "shared" else (self.steps + 1,)
        initializer = nn.initializers.lecun_normal(batch_axis=tuple(range(len(heads))))
        shape = (*heads, self.features, self.classes)
        kernel = self.param("head_kernel", initializer, shape, dtype)
        bias = self.param("head_bias", nn.initializers.zeros, (*heads, self.classes), dtype)
        pooled = global_max_pool(states.reshape(-1, *states.shape[-3:]))
        pooled, kernel, bias = promote_dtype(pooled, kernel, bias, dtype=None)
        pooled = pooled.reshape(*states.shape[:2], self.features)
        if not heads:
            return pooled @ kernel + bias[None, None]
        own = jnp.minimum(first + jnp.arange(len(pooled)), self.steps)
        return jnp.einsum("abf,afc->abc", pooled, kernel[own]) + bias[own][:, None]

    def _check(self, x: Array) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"RCNN takes images [batch, height, width, channels], got shape {x.shape}"
            )
        if self.heads not in ("shared", "per_step"):
            raise ValueError(f'heads must be shared or per_step, got "{self.heads}"')
        if self.classes < 1:
            raise ValueError(f"RCNN needs at least 1 class, got classes={self.classes}")
        if len(self.pool_strides) != 2 or min(self.pool_strides) < 1:
            raise ValueError(
                f"RCNN has two pools with strides of at least 1, got pool_strides="
                f"{tuple(self.pool_strides)}"
            )


def rcnn(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """RCNN-K of the paper: 672,202 parameters for K = 96 and 10 classes of colour images."""
    return RCNN(classes=classes, features=features, **attributes)


def rcnn_without_dropout(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """RCNN-K without dropout: 13.56 % instead of 9.31 % error in the paper."""
    return RCNN(classes=classes, features=features, dropout=0.0, **attributes)


# For nets whose layers read one rectified layer each, and no sum of two responses: with "lecun"
# each would halve the mean square of the signal, and a net of 17 stays at chance.
_PLAIN: dict[str, Any] = {"kernel_init": "he", "recurrent_init": "he"}


def wcnn(classes: int, features: int = 128, *, steps: int = 0, **attributes: Any) -> RCNN:
    """WCNN-K: RCLs replaced by convolutional layers, made wider to have about as many parameters.

    `75K + K + 4(9K^2 + K) + KC + C`: 601,354 for K = 128 and C = 10. Kernels start as `"he"`.

    Raises:
        ValueError: `steps` is not 0; it is an argument for configs that state it for every net.
    """
    if steps != 0:
        raise ValueError(f"WCNN has no iterations, got steps={steps}")
    return RCNN(classes=classes, features=features, steps=0, **(_PLAIN | attributes))


def recursive_rcnn(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """rCNN-K: the parameters of RCNN-K, but the input of a layer is absent after t = 0.

    Kernels start as `"he"`: each state sees one rectified state and nothing else.
    """
    return RCNN(classes=classes, features=features, gamma=0.0, **(_PLAIN | attributes))


def depth_matched_cnn(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """The longest path of RCNN-K as a feed-forward net: each RCL is T + 1 convolutions in a row.

    `75K + K + 4(9(T+1)K^2 + K) + KC + C` parameters; the T + 1 convolutions share a bias. Kernels
    start as `"he"`.
    """
    return RCNN(
        classes=classes,
        features=features,
        gamma=0.0,
        tie_weights=False,
        **(_PLAIN | attributes),
    )
