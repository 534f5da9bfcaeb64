"""Where on its map a feature is seen.

A maximum over all places says that it is seen and forgets where; here is the other half. Both
together keep of a scene what is in it and where, with the weights before them shared by all places.

Reference:
    Levine, Finn, Darrell & Abbeel, End-to-end training of deep visuomotor policies, JMLR 17 (2016),
    section 4.1 (the expected position under a softmax over the places of each map).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_argmax(
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch axes channels"]:
    """Expected place of each feature: `sum_p softmax_p(x[p]) p`.

    Args:
        x: maps `[batch, *spatial, channels]`, of one spatial axis or more.

    Returns:
        Coordinates `[batch, axes, channels]` in the order of the spatial axes, dtype of `x`. The
        first place of an axis is -1 and the last one 1; an axis of one place has 0. A feature that
        is alike everywhere is at 0.

    Raises:
        ValueError: there is no spatial axis.
    """
    sizes = x.shape[1:-1]
    if not sizes:
        raise ValueError(f"soft_argmax takes maps [batch, *spatial, channels], got shape {x.shape}")
    ends = [1.0 if size > 1 else 0.0 for size in sizes]
    axes = [jnp.linspace(-end, end, size) for end, size in zip(ends, sizes, strict=True)]
    places = jnp.stack([grid.ravel() for grid in jnp.meshgrid(*axes, indexing="ij")])
    shares = jax.nn.softmax(x.reshape(len(x), -1, x.shape[-1]), axis=1)
    return jnp.einsum("bpc,ap->bac", shares, places.astype(x.dtype))
