"""Padded examples: which positions are real, and arrays that are zero at the others.

Images of different widths share a batch by padding on the right. A convolution reads what lies
beyond the end of an image, so it must find there what it finds beyond the edge of an unpadded one:
zeros, at every layer and at every iteration of a layer.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rcnn_jax.layers.recurrent.lengths import live_steps


def live_columns(lengths: Int[Array, "batch"], width: int) -> Bool[Array, "batch 1 width"]:
    """True at the columns of images before their width ends; the same for each row."""
    return live_steps(lengths, width)[:, None]


def only_live(
    x: Float[Array, "batch *spatial channels"], live: Bool[Array, "..."] | None
) -> Float[Array, "batch *spatial channels"]:
    """The activations where they are live, 0 elsewhere, whatever stands there.

    Args:
        x: activations `[batch, *spatial, channels]`.
        live: `[batch, *spatial]`, or 1 in place of a size. None: everything is live.

    Raises:
        ValueError: `live` does not fit.
    """
    if live is None:
        return x
    return jnp.where(_fitting(live, x), x, jnp.zeros((), x.dtype))


def weights(
    live: Bool[Array, "..."], x: Float[Array, "batch *spatial channels"]
) -> Float[Array, "..."]:
    """1 where live and 0 elsewhere, `[batch, *spatial, 1]` in the dtype of `x`.

    Raises:
        ValueError: `live` does not fit, see `only_live`.
    """
    return _fitting(live, x).astype(x.dtype)


def _fitting(live: Array, x: Array) -> Array:
    sizes = x.shape[:-1]
    fits = live.ndim == len(sizes) and all(
        own in (1, size) for own, size in zip(live.shape, sizes, strict=True)
    )
    if not fits or live.shape[:1] != sizes[:1]:
        raise ValueError(
            f"live marks positions [batch, *spatial] of activations of shape {x.shape}, with 1 in "
            f"place of a spatial size, got shape {live.shape}"
        )
    return live[..., None]
