"""Fractional max-pooling nets: many small pools instead of a few large ones.

    (kn C2 - FMP)  for n = 1..l  -  k(l+1) C2  -  k(l+2) C1  -  softmax

Layer n has kn feature maps, C2 and C1 are convolutions 2x2 and 1x1 without padding, FMP shrinks its
input by a factor below 2, and every convolution is followed by a leaky relu. The net for CIFAR-10
has k = 160, l = 12 and the factor 2^(1/3): 79,247,530 parameters (79,230,720 weights) for 3 input
channels and 10 classes. Its input is a field of 94x94 with the image in the centre and zeros around
it.

References:
    Graham, Fractional max-pooling, arXiv:1412.6071, section 4; slopes, sizes and dropout as in the
    released SparseConvNet code (`cifar10big.cpp`).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.fractional_pooling import fractional_max_pool
from rcnn_jax.layers.initializers import kernel_initializer


def field_sizes(layers: int, ratio: float) -> list[int]:
    """Returns the sides of the field before each convolution, from the image to the last 2x2.

    The sides are computed backwards from 2: a pool reads `floor(ratio * out + 1/2)` pixels, at
    least one more than it writes, and a 2x2 convolution before it reads one pixel more again.

    Args:
        layers: Number of pools l, at least 0.
        ratio: Factor of a pool, in (1, 2).

    Returns:
        A list of `layers + 1` sides: `[94, 74, ..., 4, 2]` for 12 pools of 2^(1/3), `[36, 25, ...,
        2]` for 6 of sqrt 2.

    Raises:
        ValueError: If `layers` is negative or `ratio` lies outside (1, 2).

    Example:
        >>> from rcnn_jax.models.fractional_max_pooling import field_sizes
        >>> field_sizes(6, 2**0.5)
        [36, 25, 17, 11, 7, 4, 2]
    """
    if layers < 0 or not 1 < ratio < 2:
        raise ValueError(
            f"fractional max-pooling nets have at least 0 pools with a ratio in (1, 2), got "
            f"layers={layers} and ratio={ratio}"
        )
    sizes = [2]
    for _ in range(layers):
        pooled = sizes[0]
        sizes.insert(0, max(math.floor(ratio * pooled + 0.5), pooled + 1) + 1)
    return sizes


class FractionalMaxPoolingNet(nn.Module):
    """A net of l fractional max-pools, returning logits.

    The regions are random in evaluation too, but drawn from `evaluation_seed`, so that an
    evaluation is reproducible. The published error is that of class probabilities averaged over 100
    draws, here `tests`.

    Attributes:
        classes: Number of classes.
        features: Number k of feature maps of the first layer; layer n has kn maps.
        layers: Number of pools l.
        ratio: Factor of each pool, in (1, 2).
        generator: Order of the increments, `"pseudorandom"` or `"random"`; see `draw_regions`.
        overlapping: Whether regions are of 2 pixels and may share one; otherwise they are disjoint.
        per_example: Whether regions are drawn for each example instead of for each batch; see
            `fractional_max_pool`.
        slope: Slope of the leaky relu below 0.
        dropout: Fraction of the maps dropped before the last convolution in training; the fraction
            rises in equal steps from 0 before the first convolution. Whole maps of an example are
            dropped; the released code drops the same ones for a whole batch.
        tests: Number of draws of regions that an evaluation averages.
        evaluation_seed: Seed of the draws of an evaluation.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.
    """

    classes: int
    features: int = 160
    layers: int = 12
    ratio: float = 2 ** (1 / 3)
    generator: str = "pseudorandom"
    overlapping: bool = True
    per_example: bool = False
    slope: float = 0.333
    dropout: float = 0.5
    tests: int = 1
    evaluation_seed: int = 0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, tests: int | None = None) -> Array:
        """Classifies images.

        Args:
            x: Images `[batch, height, width, channels]`, not larger than the field.
            train: Whether to drop maps and draw regions from the random collection `dropout`.
            tests: Number of draws of regions to average in this evaluation. None takes the
                attribute.

        Returns:
            Logits `[batch, classes]` in float32, or wider if the computation is; with several draws
            the logarithm of the mean probabilities.

        Raises:
            ValueError: If an attribute, `tests` or the shape of `x` is invalid.
        """
        tests = self.tests if tests is None else tests
        sizes = field_sizes(self.layers, self.ratio)
        self._check(x, sizes[0], tests)
        x = _centred(x, sizes[0])
        if train:
            return self._logits(x, sizes, self.make_rng("dropout"), True)
        seed = jax.random.key(self.evaluation_seed)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(seed, jnp.arange(tests))
        if tests == 1:
            return self._logits(x, sizes, keys[0], False)

        def one_pass(
            model: "FractionalMaxPoolingNet", carry: None, key: Array
        ) -> tuple[None, Array]:
            return carry, jax.nn.log_softmax(model._logits(x, sizes, key, False))

        passes = nn.scan(one_pass, variable_broadcast="params", split_rngs={"params": False})
        _, log_probabilities = passes(self, None, keys)
        return jax.nn.logsumexp(log_probabilities, axis=0) - math.log(tests)

    def _logits(self, x: Array, sizes: list[int], key: Array, train: bool) -> Array:
        """Computes the logits of one pass with regions drawn from `key`."""
        for number in range(1, self.layers + 3):
            rate = self.dropout * (number - 1) / (self.layers + 1)
            x = Dropout(rate, broadcast_dims=(1, 2), name=f"dropout{number}")(x, train=train)
            side = 1 if number == self.layers + 2 else 2
            x = nn.Conv(
                self.features * number,
                (side, side),
                padding="VALID",
                kernel_init=kernel_initializer("he"),
                dtype=None if self.dtype is None else jnp.dtype(self.dtype),
                param_dtype=jnp.dtype(self.param_dtype),
                name=f"conv{number}",
            )(x)
            x = nn.leaky_relu(x, self.slope)
            if number <= self.layers:
                x = fractional_max_pool(
                    x,
                    (sizes[number],) * 2,
                    jax.random.fold_in(key, number),
                    generator=self.generator,
                    overlapping=self.overlapping,
                    per_example=self.per_example,
                )
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(
            self.classes,
            kernel_init=kernel_initializer("lecun"),
            param_dtype=jnp.dtype(self.param_dtype),
            name="head",
        )(x)

    def _check(self, x: Array, field: int, tests: int) -> None:
        if x.ndim != 4:
            raise ValueError(
                f"FractionalMaxPoolingNet takes images [batch, height, width, channels], got shape "
                f"{x.shape}"
            )
        if max(x.shape[1:3]) > field:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} pixels do not fit the {field}x{field} field "
                f"of {self.layers} pools with ratio {self.ratio:.4g}; take more or larger ones"
            )
        if self.classes < 1 or self.features < 1:
            raise ValueError(
                f"FractionalMaxPoolingNet needs at least 1 class and 1 map, got classes="
                f"{self.classes} and features={self.features}"
            )
        if tests < 1:
            raise ValueError(
                f"an evaluation averages at least 1 draw of regions, got tests={tests}"
            )


def _centred(x: Array, side: int) -> Array:
    """Pads the image with zeros to the field; an odd pixel of padding is added after it."""
    edges = [((side - n) // 2, side - n - (side - n) // 2) for n in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *edges, (0, 0)))


def fmp_cifar10(classes: int, **attributes: Any) -> FractionalMaxPoolingNet:
    """Builds the large net for CIFAR-10, (160nC2-FMP 2^(1/3))x12-C2-C1.

    It has 79,247,530 parameters for 3 input channels and 10 classes.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `FractionalMaxPoolingNet`.
    """
    return FractionalMaxPoolingNet(classes=classes, **attributes)


def fmp_mnist(classes: int, **attributes: Any) -> FractionalMaxPoolingNet:
    """Builds the net for MNIST, (32nC2-FMP sqrt 2)x6-C2-C1 on a field of 36x36, without dropout.

    Args:
        classes: Number of classes.
        **attributes: Further attributes of `FractionalMaxPoolingNet`.
    """
    values: dict[str, Any] = {"features": 32, "layers": 6, "ratio": 2**0.5, "dropout": 0.0}
    return FractionalMaxPoolingNet(classes=classes, **(values | attributes))
