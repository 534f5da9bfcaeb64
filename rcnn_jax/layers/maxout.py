"""Maxout: a unit is the largest of several linear pieces, or a random one of them.

Kernels are `[..., channels, features * pieces]`, the pieces of one unit side by side, so that
`z.reshape(..., features, pieces)` holds the pieces of each unit along the last axis.
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
    """The largest piece of each unit; of tied pieces the first gets the gradient.

    Args:
        z: linear responses `[..., features, pieces]`.

    Returns:
        `[..., features]`, dtype of `z`.

    Reference:
        Goodfellow, Warde-Farley, Mirza, Courville & Bengio, Maxout networks, ICML 2013, section 3.
    """
    return max_along(z, z.ndim - 1)


def sampled_maxout(
    z: Float[Array, "batch *units pieces"],
    key: Key[Array, ""] | UInt32[Array, "2"],
    *,
    inverse_temperature: float = 1.0,
) -> Float[Array, "batch *units"]:
    """Probabilistic maxout in training: piece i of a unit with probability softmax(lambda z)_i.

    Every unit of every example draws for itself, from a key that belongs to the example. The
    gradient is that of the piece drawn; the probabilities pass none. Dropping the result with
    probability 1/2 is one draw from the pieces and zero, which is how the paper writes it.

    Args:
        z: linear responses `[batch, ..., pieces]`.
        key: the same key on every device.
        inverse_temperature: lambda >= 0; 0 draws uniformly, and the draw tends to the largest
            piece as lambda grows.

    Returns:
        `[batch, ...]`, dtype of `z`.

    Raises:
        ValueError: lambda is negative.

    Reference:
        Springenberg & Riedmiller, Improving deep neural networks with probabilistic maxout units,
        ICLR 2014 workshop, arXiv:1312.6116.
    """
    # One uniform number a unit, laid on the cumulative distribution over its pieces.
    cumulative = jnp.cumsum(lax.stop_gradient(_probabilities(z, inverse_temperature)), axis=-1)

    def draw(example_key: Array) -> Array:
        return jax.random.uniform(example_key, z.shape[1:-1], cumulative.dtype)

    position = jax.vmap(draw)(example_keys(key, z.shape[0]))
    # The last bound would be 1 but for rounding: it is left out, so that a piece is always found.
    piece = jnp.sum(position[..., None] >= cumulative[..., :-1], axis=-1)
    return jnp.take_along_axis(z, piece[..., None], axis=-1)[..., 0]


def expected_maxout(
    z: Float[Array, "*batch pieces"], *, inverse_temperature: float = 1.0
) -> Float[Array, "*batch"]:
    """The mean of `sampled_maxout`: `sum_i softmax(lambda z)_i z_i`, differentiable throughout.

    It stands for the unit at test, in one deterministic pass. The mean of a unit is exact; the
    output of a deep net of means is not the mean of the sampled outputs. As far as we know (from
    memory, not checked against the text) the paper's reported errors average the class
    probabilities of many sampled passes instead; `MaxoutNet` offers that as `tests`.

    Args:
        z: linear responses `[..., features, pieces]`.
        inverse_temperature: lambda, as in `sampled_maxout`.

    Returns:
        `[..., features]`, dtype of `z`.

    Raises:
        ValueError: lambda is negative.
    """
    probabilities = _probabilities(z, inverse_temperature)
    return jnp.sum(probabilities * z.astype(probabilities.dtype), axis=-1).astype(z.dtype)


def _probabilities(z: Array, inverse_temperature: float) -> Array:
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

    The constraint of maxout nets. It is a step of the optimiser, taken on the new parameters
    after each update; a config asks for it by `optimizer.max_norm = (("dense1/kernel", 1.9),)`.
    It belongs to no layer, since the forward pass must see the projected weights and the next
    update must start from them. In a maxout kernel each piece of a unit has a ball of its own.

    Args:
        kernel: `[..., features]`; all axes but the last lead into a unit.
        limit: greatest Euclidean norm, above 0.

    Returns:
        An array of the shape and dtype of `kernel`; columns inside the ball are unchanged.

    Raises:
        ValueError: the limit is not positive.

    Reference:
        Srebro & Shraibman, COLT 2005; Hinton et al., arXiv:1207.0580.
    """
    if not limit > 0:
        raise ValueError(f"a max-norm constraint needs a limit above 0, got {limit}")
    wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    square = jnp.sum(wide * wide, axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    factor = jnp.where(square > limit**2, limit * lax.rsqrt(jnp.maximum(square, limit**2)), 1.0)
    return (wide * factor).astype(kernel.dtype)


def uniform_or_lecun(init_range: float | None) -> Callable[..., Array]:
    """The initializer U(-init_range, init_range), or `"lecun"` where the range is None."""
    if init_range is None:
        return kernel_initializer("lecun")

    def draw(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -init_range, init_range)

    return draw


class Maxout(nn.Module):
    """Maxout units, dense or convolutional, plain or probabilistic.

    Parameters: `kernel` `[*kernel_size, channels, features * pieces]` (`[inputs, features *
    pieces]` for a dense layer), `bias` `[features * pieces]`.

    Attributes:
        features: number of units, or of feature maps.
        pieces: linear pieces of each unit; 1 gives a linear layer.
        kernel_size: window of a convolution; None: a dense layer, on `[batch, inputs]`.
        padding: zeros on each side of a convolution, the same on all axes.
        probabilistic: draw pieces, see `sampled_maxout` and `expected_maxout`.
        inverse_temperature: lambda of the draw.
        init_range: bound of uniform initial weights; None: variance 1 / fan-in of a piece.
        dtype: dtype of the computation; None: that of input and parameters.
        param_dtype: dtype of the parameters.
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
            x: `[batch, inputs]`, or `[batch, *spatial, channels]` for a convolution.
            train: draw pieces of a probabilistic layer (random collection `dropout`).
            key: draw them from this key instead, in training or not.

        Returns:
            `[batch, features]`, or `[batch, *out, features]` with
            `out = size + 2 * padding - window + 1`.

        Raises:
            ValueError: an attribute is impossible, or does not fit `x`.
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
            # Padded by hand: where the convolution pads, XLA's CPU backend evaluates the kernel
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
