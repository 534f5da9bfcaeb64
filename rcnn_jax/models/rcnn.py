"""RCNN: a convolutional network with recurrent convolutional layers, and its controls.

    conv 5x5 (relu, LRN) - max-pool 3/2 - RCL - RCL - max-pool 3/2 - RCL - RCL - global max -
    softmax

With K feature maps, C classes and 3 input channels the net has `75K + K + 4(18K^2 + K) + KC + C`
parameters for any number of iterations: 672,202 for K = 96 and C = 10.

References:
    Liang & Hu, Recurrent convolutional neural network for object recognition, CVPR 2015, with the
    controls of its comparison.
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

    The first layer is an RCL without iterations, that is a convolution. Dropout follows each layer
    that another RCL reads, after the pool if there is one: after RCL 1, 2 and 3 here, which the
    paper counts as layers 2, 3 and 4.

    Attributes:
        classes: Number of classes C.
        features: Number of feature maps K of every layer.
        steps: Number of iterations T of each RCL; 0 gives plain convolutional layers.
        gated: Whether the RCLs are gated, see `gated_rcl`.
        dropout: Fraction of the activations dropped in training; the paper does not state its
            value.
        first_kernel_size: Window of the first convolution.
        kernel_size: Window of the feed-forward kernels of the RCLs.
        recurrent_kernel_size: Window of the recurrent kernels. None takes `kernel_size`.
        heads: `shared` for one classifier of all iterations, or `per_step` for one classifier of
            each iteration, which suits a net that is trained to classify after every iteration.
        pool_window: Side of the window of the pools.
        pool_strides: Strides of the pool before RCL 1 and of the pool before RCL 3; 1 omits a pool,
            which suits small images.

    The other attributes are those of every layer, `rcnn_jax.layers.rcl.RCLOptions`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.models.rcnn import RCNN
        >>> model = RCNN(classes=3, features=8, steps=2)
        >>> run = lambda key, x: model.init_with_output(key, x, train=False, every_step=True)
        >>> logits, variables = jax.eval_shape(run, jax.random.key(0), jnp.ones((5, 16, 16, 3)))
        >>> logits.shape  # After 0, 1 and 2 iterations.
        (3, 5, 3)
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables))
        5275
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
            x: Preprocessed images `[batch, height, width, channels]` of any size.
            train: Whether to drop activations (random collection `dropout`), and to use and record
                the statistics of the batch.
            steps: Number of iterations of this call. None takes the trained T. Steps beyond the
                trained ones follow the rule of `RCL`.
            every_step: Whether to apply the head to each state of the last RCL, while the others
                run to the end, which gives a prediction after every iteration. With a head per
                step, each state uses that of its step, and states beyond T use the head of step T.

        Returns:
            Logits `[batch, classes]`, or `[steps + 1, batch, classes]` with `every_step`, in
            float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute, the rank of `x` or `steps` is invalid.
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
        """Computes the logits of each of the states `[answers, batch, height, width, features]`."""
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
        index = jnp.minimum(first + jnp.arange(len(pooled)), self.steps)
        return jnp.einsum("abf,afc->abc", pooled, kernel[index]) + bias[index][:, None]

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
    """RCNN-K of the paper, with 672,202 parameters for K = 96 and 10 classes.

    Args:
        classes: Number of classes.
        features: Number of feature maps K of every layer.
        **attributes: Further attributes of `RCNN`.
    """
    return RCNN(classes=classes, features=features, **attributes)


def rcnn_without_dropout(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """Builds RCNN-K without dropout: 13.56 % instead of 9.31 % error in the paper.

    Args:
        classes: Number of classes.
        features: Number of feature maps K of every layer.
        **attributes: Further attributes of `RCNN`.
    """
    return RCNN(classes=classes, features=features, dropout=0.0, **attributes)


# For nets whose layers read a single rectified layer and no sum of two responses: with "lecun"
# each layer would halve the mean square of the signal, and a net of 17 layers stays at chance.
_PLAIN: dict[str, Any] = {"kernel_init": "he", "recurrent_init": "he"}


def wcnn(classes: int, features: int = 128, *, steps: int = 0, **attributes: Any) -> RCNN:
    """Builds WCNN-K: convolutions instead of RCLs, wider for about as many parameters.

    It has `75K + K + 4(9K^2 + K) + KC + C` parameters: 601,354 for K = 128 and C = 10. Kernels are
    initialized by `"he"`.

    Args:
        classes: Number of classes.
        features: Number of feature maps K of every layer.
        steps: Number of iterations, which must be 0; it is an argument for configs that state it
            for every net.
        **attributes: Further attributes of `RCNN`.

    Raises:
        ValueError: If `steps` is not 0.
    """
    if steps != 0:
        raise ValueError(f"WCNN has no iterations, got steps={steps}")
    return RCNN(classes=classes, features=features, steps=0, **(_PLAIN | attributes))


def recursive_rcnn(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """Builds rCNN-K: RCNN-K without the input of a layer after t = 0.

    The parameters are those of RCNN-K. Kernels are initialized by `"he"`, since each state depends
    on a single rectified state.

    Args:
        classes: Number of classes.
        features: Number of feature maps K of every layer.
        **attributes: Further attributes of `RCNN`.
    """
    return RCNN(classes=classes, features=features, gamma=0.0, **(_PLAIN | attributes))


def depth_matched_cnn(classes: int, features: int = 96, **attributes: Any) -> RCNN:
    """Builds the longest path of RCNN-K as a feed-forward net: each RCL becomes T + 1 convolutions.

    It has `75K + K + 4(9(T+1)K^2 + K) + KC + C` parameters; the T + 1 convolutions share a bias.
    Kernels are initialized by `"he"`.

    Args:
        classes: Number of classes.
        features: Number of feature maps K of every layer.
        **attributes: Further attributes of `RCNN`.
    """
    return RCNN(
        classes=classes,
        features=features,
        gamma=0.0,
        tie_weights=False,
        **(_PLAIN | attributes),
    )
