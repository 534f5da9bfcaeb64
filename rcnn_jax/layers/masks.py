"""Masks of padded examples, and arrays that are zero at the padding.

Images of different widths share a batch by padding on the right. A convolution reads positions
beyond the end of an image, and must find zeros there as beyond the edge of an unpadded image, in
every layer and at every iteration of a layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int


def column_mask(lengths: Int[Array, "batch"], width: int) -> Bool[Array, "batch 1 width"]:
    """Returns the mask of the columns of images that are padded on the right.

    Args:
        lengths: Width of each image in columns, integers `[batch]`.
        width: Number of columns of the padded images.

    Returns:
        `bool[batch, 1, width]`, true at the columns before the width of an image ends. The axis of
        size 1 broadcasts over the rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.masks import column_mask
        >>> column_mask(jnp.array([1, 3]), 3).tolist()
        [[[True, False, False]], [[True, True, True]]]
    """
    return time_mask(lengths, width)[:, None]


def apply_mask(
    x: Float[Array, "batch *spatial channels"], mask: Bool[Array, "..."] | None
) -> Float[Array, "batch *spatial channels"]:
    """Sets activations to 0 where the mask is false, even if they are NaN or infinite.

    Args:
        x: Activations `[batch, *spatial, channels]`.
        mask: Mask `bool[batch, *spatial]`, where a spatial axis may have size 1. None keeps all
            activations.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: If the shape of `mask` does not fit `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.masks import apply_mask
        >>> x = jnp.array([[[1.0], [jnp.nan]]])
        >>> apply_mask(x, jnp.array([[True, False]])).tolist()
        [[[1.0], [0.0]]]
    """
    if mask is None:
        return x
    return jnp.where(_fitting(mask, x), x, jnp.zeros((), x.dtype))


def weights(
    mask: Bool[Array, "..."], x: Float[Array, "batch *spatial channels"]
) -> Float[Array, "..."]:
    """Converts a mask to weights of 1 and 0 that multiply activations.

    Args:
        mask: Mask `bool[batch, *spatial]`, where a spatial axis may have size 1.
        x: Activations `[batch, *spatial, channels]` that the weights are for.

    Returns:
        The mask as an array `[batch, *spatial, 1]` in the dtype of `x`: 1 where it is true, 0
        elsewhere.

    Raises:
        ValueError: If the shape of `mask` does not fit `x`.
    """
    return _fitting(mask, x).astype(x.dtype)


def _fitting(mask: Array, x: Array) -> Array:
    """Returns the mask with an axis for channels, after a check of its shape."""
    sizes = x.shape[:-1]
    fits = mask.ndim == len(sizes) and all(
        length in (1, size) for length, size in zip(mask.shape, sizes, strict=True)
    )
    if not fits or mask.shape[:1] != sizes[:1]:
        raise ValueError(
            f"mask marks positions [batch, *spatial] of activations of shape {x.shape}, with 1 in "
            f"place of a spatial size, got shape {mask.shape}"
        )
    return mask[..., None]


def is_known(values: Any) -> bool:
    """Returns whether the values of an array can be read: not inside `jit`, not spread over hosts.

    Args:
        values: Array, tracer or any array-like value.
    """
    return not isinstance(values, Tracer) and getattr(values, "is_fully_addressable", True)


def checked_lengths(
    lengths: Any,
    batch: int,
    most: int,
    *,
    name: str = "lengths",
    counted: str = "number of time steps",
) -> Int[Array, "batch"]:
    """Checks the lengths of padded sequences and returns them as an array.

    Args:
        lengths: Length of each sequence, integers `[batch]` in `[0, most]`.
        batch: Number of sequences.
        most: Number of steps of a padded sequence.
        name: Name of the argument in error messages.
        counted: Description of `most` in error messages.

    Returns:
        `int32[batch]` in `[0, most]`. Values inside `jit` are unknown and cannot be checked: there
        a negative length becomes 0, and one beyond `most` becomes `most`.

    Raises:
        ValueError: If the shape is not `[batch]`, the dtype is not an integer type, or a known
            length lies outside `[0, most]`.
    """
    if not isinstance(lengths, jax.Array):
        lengths = np.asarray(lengths)
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be {batch} integers, one for each sequence of the batch, got "
            f"{lengths.dtype} of shape {lengths.shape}"
        )
    if is_known(lengths):
        values = np.asarray(lengths)
        wrong = values[(values < 0) | (values > most)]
        if wrong.size:
            raise ValueError(f"{name} must lie in 0..{most}, the {counted}, got {wrong[0]}")
    return jnp.clip(jnp.asarray(lengths), 0, most).astype(jnp.int32)


def time_mask(lengths: Int[Array, "batch"], time: int) -> Bool[Array, "batch time"]:
    """Marks the steps of padded sequences that are real.

    Args:
        lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`.
        time: Number of steps of the padded sequences.

    Returns:
        `bool[batch, time]`, true before the end of each sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.masks import time_mask
        >>> time_mask(jnp.array([1, 3]), 3).tolist()
        [[True, False, False], [True, True, True]]
    """
    return jnp.arange(time, dtype=lengths.dtype)[None] < lengths[:, None]


def reverse_within(
    x: Float[Array, "batch time features"], lengths: Int[Array, "batch"]
) -> Float[Array, "batch time features"]:
    """Reverses each sequence within its length; padding stays where it is.

    Args:
        x: Sequences `[batch, time, features]`.
        lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`.

    Returns:
        An array of the shape and dtype of `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.masks import reverse_within
        >>> x = jnp.array([1.0, 2.0, 3.0, 0.0]).reshape(1, 4, 1)
        >>> reverse_within(x, jnp.array([3])).ravel().tolist()
        [3.0, 2.0, 1.0, 0.0]
    """
    step = jnp.arange(x.shape[1], dtype=lengths.dtype)[None]
    index = jnp.where(step < lengths[:, None], lengths[:, None] - 1 - step, step)
    return jnp.take_along_axis(x, index[..., None], axis=1)
