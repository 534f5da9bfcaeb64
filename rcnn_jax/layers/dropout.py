"""Dropout with one random mask per example, independent of how a batch is spread over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, UInt32

from rcnn_jax.layers.randomness import example_keys

_MASK_LEVELS = 2**16


def dropout(
    x: Float[Array, "batch *features"],
    key: Key[Array, ""] | UInt32[Array, "2"],
    *,
    rate: float,
    broadcast_dims: tuple[int, ...] = (),
) -> Float[Array, "batch *features"]:
    """Sets a random fraction `rate` of each example to zero and scales up the rest.

    A draw costs 16 random bits, so the rate is rounded to the nearest multiple of 2**-16. The scale
    follows the rounded rate, so that the expectation of the output is exactly `x`.

    Args:
        x: Activations `[batch, ...]`.
        key: Random key, the same on every device.
        rate: Fraction of activations set to zero, in [0, 1].
        broadcast_dims: Axes of `x` along which one draw is shared, for example `(1, 2)` to drop
            whole feature maps of `[batch, height, width, channels]`. The batch axis cannot be among
            them.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: If the rate lies outside [0, 1], or a shared axis is not one of 1..ndim-1.

    References:
        Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR
        2014, section 10 (inverted form).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.dropout import dropout
        >>> y = dropout(jnp.ones((2, 8)), jax.random.key(0), rate=0.5)
        >>> sorted(set(y.ravel().tolist()))
        [0.0, 2.0]
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"dropout rate must lie in [0, 1], got {rate}")
    shared = {axis + x.ndim if axis < 0 else axis for axis in broadcast_dims}
    if not shared <= set(range(1, x.ndim)):
        raise ValueError(
            f"dropout broadcast_dims {broadcast_dims} must be axes 1..{x.ndim - 1} of an input of "
            f"shape {x.shape}: the batch axis 0 is never shared"
        )
    dropped = round(rate * _MASK_LEVELS)
    if dropped == 0:
        return x
    if dropped == _MASK_LEVELS:
        return jnp.zeros_like(x)
    shape = tuple(1 if axis in shared else x.shape[axis] for axis in range(1, x.ndim))
    size = 1
    for length in shape:
        size *= length

    def draw(example_key: Array) -> Array:
        # Each 32-bit word serves two units: the generator is most of the cost on a CPU.
        words = jax.random.bits(example_key, ((size + 1) // 2,), jnp.uint32)
        halves = lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)
        return (halves[:size] >= jnp.uint16(dropped)).reshape(shape)

    keep = jax.vmap(draw)(example_keys(key, x.shape[0]))
    scale = jnp.asarray(_MASK_LEVELS / (_MASK_LEVELS - dropped), x.dtype)
    return jnp.where(keep, x * scale, jnp.zeros((), x.dtype))


class Dropout(nn.Module):
    """Dropout whose masks do not depend on how a batch is spread over devices.

    The masks are drawn from the random collection `dropout`, which must carry the same key on all
    devices.

    Attributes:
        rate: Fraction of activations set to zero, in [0, 1].
        broadcast_dims: Axes along which one draw is shared; never the batch axis.
    """

    rate: float
    broadcast_dims: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Applies dropout in training, and returns the input unchanged otherwise.

        Args:
            x: Activations `[batch, ...]`.
            train: Whether to drop activations (random collection `dropout`).

        Returns:
            An array of the shape and dtype of `x`.
        """
        if not train or self.rate == 0.0:
            return x
        key = self.make_rng("dropout")
        return dropout(x, key, rate=self.rate, broadcast_dims=self.broadcast_dims)
