"""Initializers of convolution kernels: He, LeCun, orthogonal, identity, or uniform."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen import initializers
from jaxtyping import Array

KERNEL_INITS = ("he", "lecun", "orthogonal", "identity")


def identity_kernel(
    key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32
) -> Array:
    """Returns a kernel that copies its input: 1 at the centre from channel i to channel i.

    Args:
        key: Random key, not used.
        shape: Shape of the kernel, `(*window, channels, features)`.
        dtype: Dtype of the kernel.

    Returns:
        The kernel `[*window, channels, features]`.

    References:
        Le, Jaitly & Hinton, A simple way to initialize recurrent networks of rectified linear
        units, 2015, carried over to convolutions.

    Example:
        >>> import jax
        >>> from rcnn_jax.layers.initializers import identity_kernel
        >>> identity_kernel(jax.random.key(0), (3, 1, 1)).ravel().tolist()
        [0.0, 1.0, 0.0]
    """
    del key
    centre = tuple(size // 2 if size % 2 else (size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, dtype).at[centre].set(jnp.eye(*shape[-2:], dtype=dtype))


def kernel_initializer(kind: str | float) -> Callable[..., Array]:
    """Returns the initializer of a kernel `[*window, channels, features]`.

    Args:
        kind: Name of the distribution, or a number. `"he"` is a truncated normal distribution of
            variance 2 / fan-in, which keeps the scale of the signal in a rectified layer. `"lecun"`
            has variance 1 / fan-in, which keeps the scale in a layer whose recurrent responses add
            up over the iterations. `"orthogonal"` is orthogonal over window and channels.
            `"identity"` copies the input and is meant for recurrent kernels, see `identity_kernel`.
            A number a > 0 gives the uniform distribution on [-a, a].

    Returns:
        A function `(key, shape, dtype)` that returns a kernel.

    Raises:
        ValueError: If `kind` is an unknown name, or a number that is not positive.
    """
    if not isinstance(kind, str):
        if not kind > 0:
            raise ValueError(f"kernels are drawn evenly from -a to a, a > 0, got a={kind}")
        return functools.partial(_even, kind)
    if kind not in KERNEL_INITS:
        raise ValueError(
            f'kernels are initialized by one of {", ".join(KERNEL_INITS)}, got "{kind}"'
        )
    return {
        "he": initializers.he_normal(),
        "lecun": initializers.lecun_normal(),
        "orthogonal": initializers.orthogonal(),
        "identity": identity_kernel,
    }[kind]


def _even(bound: float, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Draws a kernel from the uniform distribution on [-bound, bound]."""
    return jax.random.uniform(key, shape, dtype, -bound, bound)
