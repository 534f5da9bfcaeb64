"""Maxout units: the maximum of several linear pieces, or a randomly sampled piece.

Kernels have shape `[..., channels, features * pieces]` with the pieces of one unit side by side, so
that `z.reshape(..., features, pieces)` has the pieces of each unit along the last axis.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float, Key, UInt32

from rcnn_jax.layers.initializers import kernel_initializer
from rcnn_jax.layers.pooling import max_along
from rcnn_jax.layers.randomness import example_keys


def maxout(z: Float[Array, "*batch pieces"]) -> Float[Array, "*batch"]:
    """Computes the largest piece of each unit; the first of tied pieces receives the gradient.

    Args:
        z: Linear responses `[..., features, pieces]`.

    Returns:
        Activations `[..., features]` in the dtype of `z`.

    References:
        Goodfellow, Warde-Farley, Mirza, Courville & Bengio, Maxout networks, ICML 2013, section 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.maxout import maxout
        >>> maxout(jnp.array([[[1.0, 3.0], [2.0, -1.0]]])).tolist()
        [[3.0, 2.0]]
    """
    return max_along(z, z.ndim - 1)


def sampled_maxout(
    z: Float[Array, "batch *units pieces"],
    key: Key[Array, ""] | UInt32[Array, "2"],
    *,
    inverse_temperature: float = 1.0,
) -> Float[Array, "batch *units"]:
    """Samples piece i of each unit with probability softmax(lambda z)_i (probabilistic maxout).

    Every unit of every example has an independent draw, from a random key that belongs to the
    example. The gradient is that of the sampled piece; no gradient passes through the
    probabilities. Dropping the result with probability 1/2 is equivalent to a single draw from the
    pieces and zero, which is the formulation of the paper.

    Args:
        z: Linear responses `[batch, ..., pieces]`.
        key: Random key, the same on every device.
        inverse_temperature: Inverse temperature lambda >= 0. The value 0 samples uniformly; as
            lambda grows, the sample tends to the largest piece.

    Returns:
        Activations `[batch, ...]` in the dtype of `z`.

    Raises:
        ValueError: If the inverse temperature is negative.

    References:
        Springenberg & Riedmiller, Improving deep neural networks with probabilistic maxout units,
        ICLR 2014 workshop, arXiv:1312.6116.
    """
    # One uniform number per unit is compared with the cumulative distribution over its pieces.
    cumulative = jnp.cumsum(lax.stop_gradient(_probabilities(z, inverse_temperature)), axis=-1)

    def draw(example_key: Array) -> Array:
        return jax.random.uniform(example_key, z.shape[1:-1], cumulative.dtype)

    position = jax.vmap(draw)(example_keys(key, z.shape[0]))
    # The last bound is 1 only up to rounding; leaving it out makes sure that a piece is selected.
    piece = jnp.sum(position[..., None] >= cumulative[..., :-1], axis=-1)
    return jnp.take_along_axis(z, piece[..., None], axis=-1)[..., 0]


def expected_maxout(
    z: Float[Array, "*batch pieces"], *, inverse_temperature: float = 1.0
) -> Float[Array, "*batch"]:
    """Computes the mean of `sampled_maxout`: `sum_i softmax(lambda z)_i z_i`.

    It replaces sampling at test time by one deterministic pass and is differentiable throughout.
    The mean of a unit is exact; the output of a deep net of means is not the mean of the sampled
    outputs. As far as we know (from memory, not checked against the text) the paper's reported
    errors average the class probabilities of many sampled passes instead; `MaxoutNet` offers that
    as `tests`.

    Args:
        z: Linear responses `[..., features, pieces]`.
        inverse_temperature: Inverse temperature lambda >= 0 of the softmax over the pieces.

    Returns:
        Activations `[..., features]` in the dtype of `z`.

    Raises:
        ValueError: If the inverse temperature is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.maxout import expected_maxout
        >>> expected_maxout(jnp.array([[1.0, 3.0]]), inverse_temperature=0.0).tolist()
        [2.0]
    """
    probabilities = _probabilities(z, inverse_temperature)
    return jnp.sum(probabilities * z.astype(probabilities.dtype), axis=-1).astype(z.dtype)


def _probabilities(z: Array, inverse_temperature: float) -> Array:
    """Computes the probability of each piece in float32 or wider."""
    if not inverse_temperature >= 0:
        raise ValueError(
            f"probabilistic maxout needs an inverse temperature of at least 0, got "
            f"{inverse_temperature}"
        )
    wide = z.astype(jnp.promote_types(z.dtype, jnp.float32))
    return jax.nn.softmax(inverse_temperature * wide, axis=-1)


def max_norm(
    kernel: Float[Array, "*inputs features"], limit: float
) -> Float[Array, "*inputs features"]:
    """Projects the incoming weights of each unit onto the ball of radius `limit`.

    This is the constraint of maxout nets. It is a step of the optimiser, applied to the new
    parameters after each update; a config requests it by `optimizer.max_norm = (("dense1/kernel",
    1.9),)`. It is not part of a layer, since the forward pass must see the projected weights and
    the next update must start from them. In a maxout kernel each piece of a unit is constrained
    separately.

    Args:
        kernel: Weights `[..., features]`; all axes but the last are inputs of a unit.
        limit: Largest Euclidean norm of the weights into a unit, greater than 0.

    Returns:
        An array of the shape and dtype of `kernel`; columns inside the ball are unchanged.

    Raises:
        ValueError: If the limit is not positive.

    References:
        Srebro & Shraibman, COLT 2005; Hinton et al., arXiv:1207.0580.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.maxout import max_norm
        >>> kernel = max_norm(jnp.array([[3.0, 0.1], [4.0, 0.2]]), 1.0)
        >>> [[round(weight, 3) for weight in row] for row in kernel.tolist()]
        [[0.6, 0.1], [0.8, 0.2]]
    """
    if not limit > 0:
        raise ValueError(f"a max-norm constraint needs a limit above 0, got {limit}")
    wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    square = jnp.sum(wide * wide, axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    factor = jnp.where(square > limit**2, limit * lax.rsqrt(jnp.maximum(square, limit**2)), 1.0)
    return (wide * factor).astype(kernel.dtype)


def uniform_or_lecun(init_range: float | None) -> Callable[..., Array]:
    """Returns the initializer U(-init_range, init_range), or `"lecun"` if the range is None.

    Args:
        init_range: Bound of the uniform distribution, or None for variance 1 / fan-in.

    Returns:
        A function `(key, shape, dtype)` that returns a kernel.
    """
    if init_range is None:
        return kernel_initializer("lecun")

    def draw(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -init_range, init_range)

    return draw


class Maxout(nn.Module):
    """Layer of maxout units, dense or convolutional, deterministic or probabilistic.

    The parameters are `kernel` `[*kernel_size, channels, features * pieces]`, or `[inputs, features
    * pieces]` for a dense layer, and `bias` `[features * pieces]`.

    Attributes:
        features: Number of units of a dense layer, or of feature maps of a convolution.
        pieces: Number of linear pieces of each unit; 1 gives a linear layer.
        kernel_size: Window of a convolution, one size for each spatial axis. None makes a dense
            layer on inputs `[batch, inputs]`.
        padding: Number of zeros on each side of a convolution, the same on all axes.
        probabilistic: Whether pieces are sampled (`sampled_maxout`), or averaged in evaluation
            (`expected_maxout`), instead of taking the maximum.
        inverse_temperature: Inverse temperature lambda >= 0 of a probabilistic layer.
        init_range: Bound of uniformly distributed initial weights. None takes variance 1 / fan-in
            of a piece.
        dtype: Dtype of the computation. None takes the promoted dtype of input and parameters.
        param_dtype: Dtype of the parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.maxout import Maxout
        >>> layer = Maxout(features=5, pieces=3)
        >>> variables = {"params": {"kernel": jnp.ones((4, 15)), "bias": jnp.zeros(15)}}
        >>> layer.apply(variables, jnp.ones((2, 4)), train=False).shape
        (2, 5)
    """

    features: int
    pieces: int = 2
    kernel_size: Sequence[int] | None = None
    padding: int = 0
    probabilistic: bool = False
    inverse_temperature: float = 1.0
    init_range: float | None = None
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, key: Array | None = None) -> Array:
        """Applies the layer.

        Args:
            x: Input `[batch, inputs]` of a dense layer, or `[batch, *spatial, channels]` of a
                convolution.
            train: Whether a probabilistic layer samples pieces (random collection `dropout`).
            key: Random key to sample pieces from instead of the collection, in training or not.
                None uses the collection in training and the expected value otherwise.

        Returns:
            Activations `[batch, features]`, or `[batch, *out, features]` with `out = size + 2 *
            padding - window + 1`.

        Raises:
            ValueError: If an attribute is invalid or does not fit `x`.
        """
        window = tuple(self.kernel_size or ())
        self._check(x, window)
        shape = (*window, x.shape[-1], self.features * self.pieces)
        dtype = jnp.dtype(self.param_dtype)
        kernel = self.param("kernel", uniform_or_lecun(self.init_range), shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:], dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if window:
            axes = "".join(str(axis) for axis in range(len(window)))
            # Padded explicitly: if the convolution pads, XLA's CPU backend evaluates the kernel
            # gradient of large windows as a nest of loops, up to 200 times slower.
            edges = [(0, 0), *[(self.padding, self.padding)] * len(window), (0, 0)]
            z = lax.conv_general_dilated(
                jnp.pad(x, edges),
                kernel,
                (1,) * len(window),
                "VALID",
                dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
            )
        else:
            z = x @ kernel
        z = z + jnp.expand_dims(bias, tuple(range(z.ndim - 1)))
        z = z.reshape(*z.shape[:-1], self.features, self.pieces)
        if not self.probabilistic:
            return maxout(z)
        if key is None and train:
            key = self.make_rng("dropout")
        if key is None:
            return expected_maxout(z, inverse_temperature=self.inverse_temperature)
        return sampled_maxout(z, key, inverse_temperature=self.inverse_temperature)

    def _check(self, x: Array, window: tuple[int, ...]) -> None:
        if self.features < 1 or self.pieces < 1:
            raise ValueError(
                f"maxout needs at least 1 unit of at least 1 piece, got features={self.features} "
                f"and pieces={self.pieces}"
            )
        if x.ndim != len(window) + 2:
            raise ValueError(
                f"maxout with kernel_size={self.kernel_size} takes an input of "
                f"{len(window) + 2} axes, got shape {x.shape}"
            )
        if self.padding < 0 or any(
            not 1 <= w <= n + 2 * self.padding for n, w in zip(x.shape[1:-1], window, strict=True)
        ):
            raise ValueError(
                f"maxout: a window {window} does not fit spatial shape {x.shape[1:-1]} with "
                f"padding={self.padding}"
            )
