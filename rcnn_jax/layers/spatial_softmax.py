"""The expected position of each feature under a spatial softmax.

A global maximum keeps whether a feature is present and discards where. The expected position keeps
where. Both together describe the content of a scene and its layout, while the weights of the layers
before are shared by all positions.

References:
    Levine, Finn, Darrell & Abbeel, End-to-end training of deep visuomotor policies, JMLR 17 (2016),
    section 4.1 (the expected position under a softmax over the positions of each map).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_argmax(
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch axes channels"]:
    """Computes the expected position of each feature: `sum_p softmax_p(x[p]) p`.

    Args:
        x: Feature maps `[batch, *spatial, channels]` with at least one spatial axis.

    Returns:
        Coordinates `[batch, axes, channels]` in the order of the spatial axes and the dtype of `x`.
        The first position of an axis has coordinate -1 and the last one 1; an axis of size 1 has
        coordinate 0. A feature with the same response everywhere is at 0.

    Raises:
        ValueError: If `x` has no spatial axis.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.spatial_softmax import soft_argmax
        >>> maps = jnp.zeros((1, 3, 3, 1)).at[0, 0, 2, 0].set(100.0)
        >>> soft_argmax(maps).ravel().tolist()
        [-1.0, 1.0]
    """
    sizes = x.shape[1:-1]
    if not sizes:
        raise ValueError(f"soft_argmax takes maps [batch, *spatial, channels], got shape {x.shape}")
    ends = [1.0 if size > 1 else 0.0 for size in sizes]
    axes = [jnp.linspace(-end, end, size) for end, size in zip(ends, sizes, strict=True)]
    places = jnp.stack([grid.ravel() for grid in jnp.meshgrid(*axes, indexing="ij")])
    shares = jax.nn.softmax(x.reshape(x.shape[0], -1, x.shape[-1]), axis=1)
    return jnp.einsum("bpc,ap->bac", shares, places.astype(x.dtype))
