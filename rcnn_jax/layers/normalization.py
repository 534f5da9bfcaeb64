"""Batch, layer and group normalization, as functions on channels-last arrays.

Batch statistics are those of the global batch in every parallel mode. Under `jit` arrays are global
anyway; where the data axis is bound (`pmap`, `shard_map`) the moments are averaged over it.
Reductions run in float32 or wider, regardless of the dtype of the activations.

Padding contributes to no statistic. Rows of the batch are excluded by `real_rows`, for a whole
trace, and positions of an example by the argument `mask`, see `rcnn_jax.layers.masks`.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from rcnn_jax.layers.masks import weights
from rcnn_jax.layers.randomness import DATA_AXIS, data_axis_bound


@dataclasses.dataclass(frozen=True, eq=False)
class _Mask:
    """Mask of the rows of a batch, compared by identity because it may be traced."""

    rows: Float[Array, " batch"]


# A user context is part of JAX's cache keys: traces of different masks are kept apart.
_mask = jax.make_user_context(None)


@contextlib.contextmanager
def real_rows(mask: Float[Array, " batch"]) -> Iterator[None]:
    """Excludes rows of the batch whose mask is 0 from batch statistics, within this context.

    Args:
        mask: Mask `[batch]` of the rows that the caller holds, 1 for an example and 0 for padding.
    """
    with _mask(_Mask(mask)):
        yield


def rows_masked() -> bool:
    """Returns whether `real_rows` is in effect."""
    return _mask.value is not None


def total_over_data(value: Array) -> Array:
    """Sums an array over the devices of the data axis, where that is bound.

    Args:
        value: Array of any shape.
    """
    return lax.psum(value, DATA_AXIS) if data_axis_bound() else value


def batch_moments(
    x: Float[Array, "*batch channels"],
    mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Computes mean and biased variance of each channel over the global batch and all positions.

    The variance is computed from the centred values, so that a large mean costs no precision. Where
    the data axis is bound, both are means over its devices, which must hold equally many examples.
    Rows that `real_rows` marks as padding, and positions where `mask` is false, are excluded; if
    nothing is left, both moments are 0.

    Args:
        x: Activations `[..., channels]`.
        mask: Mask `bool[batch, *spatial]` that is true where a position contributes; a spatial axis
            may have size 1. None includes all positions.

    Returns:
        Mean and variance, each `[channels]`, in float32 or wider.

    Raises:
        ValueError: If the number of rows of `x` differs from that of `real_rows`, or `mask` does
            not fit `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.normalization import batch_moments
        >>> x = jnp.array([[1.0], [3.0], [100.0]])
        >>> mean, variance = batch_moments(x, jnp.array([True, True, False]))
        >>> mean.tolist(), variance.tolist()
        ([2.0], [1.0])
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    spread = data_axis_bound()
    if mask is not None or _mask.value is not None:
        return _masked_moments(wide, mask)
    mean = jnp.mean(wide, axes)
    if spread:
        mean = lax.pmean(mean, DATA_AXIS)
    variance = jnp.mean(jnp.square(wide - jnp.expand_dims(mean, axes)), axes)
    if spread:
        variance = lax.pmean(variance, DATA_AXIS)
    return mean, variance


def kept_share(momentum: float, mask: Bool[Array, "..."] | None = None) -> float | Float[Array, ""]:
    """Returns the fraction of the running statistics that an update keeps.

    Args:
        momentum: Fraction kept if at least one position of the global batch contributes.
        mask: Mask `bool[batch, *spatial]` of the positions that contribute. None includes all
            positions.

    Returns:
        `momentum`, or a scalar array that is 1 if all rows and positions are padding.
    """
    rows = None if _mask.value is None else _mask.value.rows
    if rows is None:
        if mask is None:
            return momentum
        counted = mask
    else:
        counted = rows if mask is None else mask * jnp.expand_dims(rows, tuple(range(1, mask.ndim)))
    count = jnp.sum(counted)
    if data_axis_bound():
        count = lax.psum(count, DATA_AXIS)
    return jnp.where(count > 0, momentum, 1.0)


def _masked_moments(
    x: Float[Array, "*batch channels"], mask: Bool[Array, "..."] | None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Computes `batch_moments` of the rows and positions that are not padding."""
    weight = None if mask is None else weights(mask, x)
    if _mask.value is not None:
        row_mask = _mask.value.rows
        if x.shape[0] != row_mask.shape[0]:
            raise ValueError(
                f"batch statistics of {x.shape[0]} rows, of which real_rows marks "
                f"{row_mask.shape[0]}"
            )
        rows = jnp.expand_dims(row_mask.astype(x.dtype), tuple(range(1, x.ndim)))
        weight = rows if weight is None else weight * rows
    assert weight is not None
    axes = tuple(range(x.ndim - 1))
    total = functools.partial(lax.psum, axis_name=DATA_AXIS) if data_axis_bound() else lambda s: s
    # A weight of size 1 along an axis applies to all positions of the axis.
    count = total(jnp.sum(weight)) * (math.prod(x.shape[:-1]) // weight.size)
    count = jnp.maximum(count, 1)
    mean = total(jnp.sum(x * weight, axes)) / count
    centred = jnp.square(x - jnp.expand_dims(mean, axes)) * weight
    return mean, total(jnp.sum(centred, axes)) / count


def standardize(
    x: Float[Array, "*batch channels"],
    mean: Float[Array, " channels"],
    variance: Float[Array, " channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    epsilon: float,
) -> Float[Array, "*batch channels"]:
    """Computes `(x - mean) / sqrt(variance + epsilon) * scale + bias`.

    Args:
        x: Activations `[..., channels]`.
        mean: Mean of each channel, `[channels]`.
        variance: Variance of each channel, `[channels]`.
        scale: Factor of each channel, `[channels]`.
        bias: Offset of each channel, `[channels]`.
        epsilon: Constant added to the variance.

    Returns:
        An array of the shape and dtype of `x`, computed in float32 or wider.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    axes = tuple(range(x.ndim - 1))
    factor = jnp.expand_dims(scale * lax.rsqrt(variance + epsilon), axes)
    centred = x.astype(wide) - jnp.expand_dims(mean, axes)
    return (centred * factor + jnp.expand_dims(bias, axes)).astype(x.dtype)


def batch_normalize(
    x: Float[Array, "*batch channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    epsilon: float,
    mask: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "*batch channels"], Float[Array, " channels"], Float[Array, " channels"]]:
    """Standardizes `x` by its `batch_moments`, then scales and shifts it.

    Args:
        x: Activations `[..., channels]`.
        scale: Factor of each channel, `[channels]`.
        bias: Offset of each channel, `[channels]`.
        epsilon: Constant added to the variance.
        mask: Mask `bool[batch, *spatial]` that is true where a position contributes to the moments;
            a spatial axis may have size 1. None includes all positions.

    Returns:
        An array of the shape and dtype of `x`, the mean and the variance. Only reverse-mode
        differentiation is defined, unless a mask is in use.

    Raises:
        ValueError: If the number of rows of `x` differs from that of `real_rows`, or `mask` does
            not fit `x`.

    References:
        Ioffe & Szegedy, ICML 2015, algorithm 1 and the gradients that follow it.
    """
    mean, variance = batch_moments(x, mask)
    if mask is not None or _mask.value is not None:
        return standardize(x, mean, variance, scale, bias, epsilon=epsilon), mean, variance
    fixed = lax.stop_gradient((mean, variance))
    return _standardize_by_own(epsilon, x, *fixed, scale, bias), mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _standardize_by_own(
    epsilon: float, x: Array, mean: Array, variance: Array, scale: Array, bias: Array
) -> Array:
    """Computes `standardize`, with a gradient that accounts for moments being functions of `x`."""
    return _own_forward(epsilon, x, mean, variance, scale, bias)[0]


def _own_forward(
    epsilon: float, x: Array, mean: Array, variance: Array, scale: Array, bias: Array
) -> tuple[Array, tuple[Array, ...]]:
    y = standardize(x, mean, variance, scale, bias, epsilon=epsilon)
    return y, (x, mean, variance, scale, bias)


def _own_backward(
    epsilon: float, residuals: tuple[Array, ...], gradient: Array
) -> tuple[Array, ...]:
    # Two sums over the batch and one pass. Differentiating each operation in turn takes three sums
    # and moves the centred values to and from memory.
    x, mean, variance, scale, bias = residuals
    axes = tuple(range(x.ndim - 1))
    total = functools.partial(lax.psum, axis_name=DATA_AXIS) if data_axis_bound() else lambda s: s
    inverse = lax.rsqrt(variance + epsilon)
    g, wide = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (gradient, x))
    centred = wide - jnp.expand_dims(mean, axes)
    bias_gradient = jnp.sum(g, axes)
    scale_gradient = jnp.sum(g * centred, axes) * inverse
    count = total(math.prod(x.shape[:-1]))
    shift = total(bias_gradient) / count
    slope = inverse * total(scale_gradient) / count
    x_gradient = jnp.expand_dims(scale * inverse, axes) * (
        g - jnp.expand_dims(shift, axes) - centred * jnp.expand_dims(slope, axes)
    )
    return (
        x_gradient.astype(x.dtype),
        jnp.zeros_like(mean),
        jnp.zeros_like(variance),
        scale_gradient.astype(scale.dtype),
        bias_gradient.astype(bias.dtype),
    )


_standardize_by_own.defvjp(_own_forward, _own_backward)


def group_norm(
    x: Float[Array, "batch *spatial channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    groups: int,
    epsilon: float = 1e-5,
    mask: Bool[Array, "..."] | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Normalizes each example over its positions and the channels of one group.

    A single group is layer normalization over all units of a layer.

    Args:
        x: Activations `[batch, *spatial, channels]`.
        scale: Factor of each channel, `[channels]`.
        bias: Offset of each channel, `[channels]`.
        groups: Number of groups of neighbouring channels, which must divide `channels`.
        epsilon: Constant added to the variance.
        mask: Mask `bool[batch, *spatial]` that is true where a position contributes to the
            statistics; a spatial axis may have size 1. None includes all positions.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: If `groups` does not divide the number of channels, or `mask` does not fit `x`.

    References:
        Wu & He, ECCV 2018; one group: Ba, Kiros & Hinton, 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.normalization import group_norm
        >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
        >>> y = group_norm(x, jnp.ones(4), jnp.zeros(4), groups=2)
        >>> [round(value, 3) for value in y[0].tolist()]
        [-1.0, 1.0, -1.0, 1.0]
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(
            f"group normalization needs a number of groups that divides the {channels} channels, "
            f"got {groups}"
        )
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    grouped = wide.reshape(x.shape[0], -1, groups, channels // groups)
    share = None
    if mask is not None:
        weight = jnp.broadcast_to(weights(mask, wide), (*x.shape[:-1], 1))
        weight = weight.reshape(x.shape[0], -1, 1, 1)
        share = weight / jnp.maximum(weight.sum(1, keepdims=True) * (channels // groups), 1)

    def mean_of(values: Array) -> Array:
        if share is None:
            return jnp.mean(values, (1, 3), keepdims=True)
        return jnp.sum(values * share, (1, 3), keepdims=True)

    mean = mean_of(grouped)
    centred = grouped - mean
    variance = mean_of(jnp.square(centred))
    normal = (centred * lax.rsqrt(variance + epsilon)).reshape(x.shape)
    axes = tuple(range(x.ndim - 1))
    return (normal * jnp.expand_dims(scale, axes) + jnp.expand_dims(bias, axes)).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalization with statistics of the global batch under `jit`, `pmap` and `shard_map`.

    The parameters are `scale` and `bias`, the collection `batch_stats` has `mean` and `var`; all
    are `[channels]` in `param_dtype`. The running variance averages the biased estimate.

    Attributes:
        momentum: Fraction of the running statistics that an update keeps.
        epsilon: Constant added to the variance.
        param_dtype: Dtype of parameters and running statistics.

    References:
        Ioffe & Szegedy, ICML 2015, algorithm 1.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        """Normalizes activations.

        Args:
            x: Activations `[..., channels]`.
            train: Whether to use and record the statistics of the batch instead of the running
                ones.
            mask: Mask `bool[batch, *spatial]` that is true where a position contributes to the
                statistics; a spatial axis may have size 1. None includes all positions.

        Returns:
            An array of the shape and dtype of `x`.
        """
        shape, dtype = (x.shape[-1],), jnp.dtype(self.param_dtype)
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        # Restored variables may be NumPy arrays.
        scale, bias = jnp.asarray(scale), jnp.asarray(bias)
        old_mean, old_var = jnp.asarray(running_mean.value), jnp.asarray(running_var.value)
        if not train:
            return standardize(x, old_mean, old_var, scale, bias, epsilon=self.epsilon)
        y, mean, variance = batch_normalize(x, scale, bias, epsilon=self.epsilon, mask=mask)
        if not self.is_initializing():
            keep = kept_share(self.momentum, mask)
            running_mean.value = (keep * old_mean + (1 - keep) * mean).astype(dtype)
            running_var.value = (keep * old_var + (1 - keep) * variance).astype(dtype)
        return y
