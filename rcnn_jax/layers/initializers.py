"""What convolutions begin with: He, LeCun, orthogonal, identity, or a uniform bound."""

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
    """A kernel that copies its input: 1 at the centre from channel i to i; `key` is not used.

    Reference:
        Le, Jaitly & Hinton, A simple way to initialize recurrent networks of rectified linear
        units, 2015, carried over to convolutions.
    """
    del key
    centre = tuple(size // 2 if size % 2 else (size - 1) // 2 for size in shape[:-2])
    return jnp.zeros(shape, dtype).at[centre].set(jnp.eye(*shape[-2:], dtype=dtype))


def kernel_initializer(kind: str | float) -> Callable[..., Array]:
    """The initializer of a kernel `[*window, channels, features]`.

    Args:
        kind: `"he"`: truncated normal, variance 2 / fan-in, which keeps the scale of a rectified
            layer; `"lecun"`: variance 1 / fan-in, which keeps that of a layer whose recurrent
            responses add up over the iterations; `"orthogonal"`: orthogonal over window and
            channels; `"identity"`: see `identity_kernel`, for recurrent kernels; a number a: drawn
            evenly from -a to a.

    Raises:
        ValueError: `kind` is none of these.
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
    return jax.random.uniform(key, shape, dtype, -bound, bound)
