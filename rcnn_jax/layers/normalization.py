"""Normalization: batch, layer and group, as functions on channels-last arrays.

Batch statistics are those of the global batch in every parallel mode. Under `jit` arrays are
global anyway; where the data axis is bound (`pmap`, `shard_map`) the moments are averaged over it.
Reductions run in float32 at least, whatever the dtype of the activations.

What is padding counts in no statistic: rows of the batch by `real_rows`, for a whole trace, and
positions of an example by the argument `live`, see `rcnn_jax.layers.masks`.
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
    """Which rows of the batch are real; equal only to itself, as it may be traced."""

    rows: Float[Array, " batch"]


# Known to jax, so that what it has traced under one mask is never taken for another's.
_mask = jax.make_user_context(None)


@contextlib.contextmanager
def real_rows(mask: Float[Array, " batch"]) -> Iterator[None]:
    """Within it, statistics of a batch leave out the rows whose mask is 0: they are padding.

    Args:
        mask: `[batch]`, 1 or 0, of the rows that the caller holds.
    """
    with _mask(_Mask(mask)):
        yield


def batch_moments(
    x: Float[Array, "*batch channels"],
    live: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Mean and biased variance of each channel over the global batch and all positions.

    The variance is that of the centred values, so that a large mean costs no precision. Where the
    data axis is bound, both are means over its devices, which must hold equally many examples.
    Rows that `real_rows` marks as padding, and positions that are not `live`, are left out; of
    nothing but padding both are 0.

    Args:
        x: activations `[..., channels]`.
        live: which positions count, `[batch, *spatial]` or 1 in place of a size. None: all.

    Returns:
        Mean and variance, each `[channels]`, in float32 or wider.

    Raises:
        ValueError: `real_rows` marks another number of rows than `x` has, or `live` does not fit.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    spread = data_axis_bound()
    if live is not None or _mask.value is not None:
        return _masked_moments(wide, live)
    mean = jnp.mean(wide, axes)
    if spread:
        mean = lax.pmean(mean, DATA_AXIS)
    variance = jnp.mean(jnp.square(wide - jnp.expand_dims(mean, axes)), axes)
    if spread:
        variance = lax.pmean(variance, DATA_AXIS)
    return mean, variance


def kept_share(momentum: float, live: Bool[Array, "..."] | None = None) -> float | Float[Array, ""]:
    """What an update keeps of running statistics: all of them, where nothing counted.

    Args:
        momentum: the share where something did.
        live: see `batch_moments`.
    """
    rows = None if _mask.value is None else _mask.value.rows
    if rows is None:
        if live is None:
            return momentum
        counted = live
    else:
        counted = rows if live is None else live * jnp.expand_dims(rows, tuple(range(1, live.ndim)))
    count = jnp.sum(counted)
    if data_axis_bound():
        count = lax.psum(count, DATA_AXIS)
    return jnp.where(count > 0, momentum, 1.0)


def _masked_moments(
    x: Float[Array, "*batch channels"], live: Bool[Array, "..."] | None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    weight = None if live is None else weights(live, x)
    if _mask.value is not None:
        mask = _mask.value.rows
        if x.shape[0] != mask.shape[0]:
            raise ValueError(
                f"batch statistics of {x.shape[0]} rows, of which real_rows marks {mask.shape[0]}"
            )
        rows = jnp.expand_dims(mask.astype(x.dtype), tuple(range(1, x.ndim)))
        weight = rows if weight is None else weight * rows
    assert weight is not None
    axes = tuple(range(x.ndim - 1))
    total = functools.partial(lax.psum, axis_name=DATA_AXIS) if data_axis_bound() else lambda s: s
    # A weight of size 1 along an axis stands for all positions there.
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
    """`(x - mean) / sqrt(variance + epsilon) * scale + bias`: computed wide, dtype of `x`."""
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
    live: Bool[Array, "..."] | None = None,
) -> tuple[Float[Array, "*batch channels"], Float[Array, " channels"], Float[Array, " channels"]]:
    """`x` standardized by its own `batch_moments`, then scaled and moved.

    Args:
        x: activations `[..., channels]`.
        scale: factor of each channel.
        bias: offset of each channel.
        epsilon: added to the variance.
        live: see `batch_moments`.

    Returns:
        An array of the shape and dtype of `x`, the mean and the variance. Only reverse mode is
        defined, unless something is padding.

    Raises:
        ValueError: see `batch_moments`.

    Reference:
        Ioffe & Szegedy, ICML 2015, algorithm 1 and the gradients that follow it.
    """
    mean, variance = batch_moments(x, live)
    if live is not None or _mask.value is not None:
        return standardize(x, mean, variance, scale, bias, epsilon=epsilon), mean, variance
    fixed = lax.stop_gradient((mean, variance))
    return _standardize_by_own(epsilon, x, *fixed, scale, bias), mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _standardize_by_own(
    epsilon: float, x: Array, mean: Array, variance: Array, scale: Array, bias: Array
) -> Array:
    """`standardize`, whose gradient with respect to `x` knows that the moments are those of `x`."""
    return _own_forward(epsilon, x, mean, variance, scale, bias)[0]


def _own_forward(
    epsilon: float, x: Array, mean: Array, variance: Array, scale: Array, bias: Array
) -> tuple[Array, tuple[Array, ...]]:
    y = standardize(x, mean, variance, scale, bias, epsilon=epsilon)
    return y, (x, mean, variance, scale, bias)


def _own_backward(
    epsilon: float, residuals: tuple[Array, ...], gradient: Array
) -> tuple[Array, ...]:
    # Two sums over the batch and one pass, where the derivative of each operation in turn takes
    # three sums and moves the centred values to and fro.
    x, mean, variance, scale, bias = residuals
    axes = tuple(range(x.ndim - 1))
    total = functools.partial(lax.psum, axis_name=DATA_AXIS) if data_axis_bound() else lambda s: s
    inverse = lax.rsqrt(variance + epsilon)
    g, wide = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (gradient, x))
    centred = wide - jnp.expand_dims(mean, axes)
    of_bias = jnp.sum(g, axes)
    of_scale = jnp.sum(g * centred, axes) * inverse
    count = total(math.prod(x.shape[:-1]))
    shift = total(of_bias) / count
    slope = inverse * total(of_scale) / count
    of_x = jnp.expand_dims(scale * inverse, axes) * (
        g - jnp.expand_dims(shift, axes) - centred * jnp.expand_dims(slope, axes)
    )
    return (
        of_x.astype(x.dtype),
        jnp.zeros_like(mean),
        jnp.zeros_like(variance),
        of_scale.astype(scale.dtype),
        of_bias.astype(bias.dtype),
    )


_standardize_by_own.defvjp(_own_forward, _own_backward)


def group_norm(
    x: Float[Array, "batch *spatial channels"],
    scale: Float[Array, " channels"],
    bias: Float[Array, " channels"],
    *,
    groups: int,
    epsilon: float = 1e-5,
    live: Bool[Array, "..."] | None = None,
) -> Float[Array, "batch *spatial channels"]:
    """Normalizes each example over its positions and the channels of one group.

    One group is layer normalization over all units of a layer.

    Args:
        x: activations `[batch, *spatial, channels]`.
        scale: factor of each channel.
        bias: offset of each channel.
        groups: number of groups of neighbouring channels; must divide `channels`.
        epsilon: added to the variance.
        live: which positions count in the statistics, see `batch_moments`. None: all.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `groups` does not divide the number of channels, or `live` does not fit.

    Reference:
        Wu & He, ECCV 2018; one group: Ba, Kiros & Hinton, 2016.
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
    if live is not None:
        weight = jnp.broadcast_to(weights(live, wide), (*x.shape[:-1], 1))
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

    Variables: parameters `scale`, `bias`; collection `batch_stats` with `mean`, `var`; all
    `[channels]` in `param_dtype`. The running variance is that of the biased estimate.

    Attributes:
        momentum: share of the running statistics kept at an update.
        epsilon: added to the variance.
        param_dtype: dtype of parameters and running statistics.

    Reference:
        Ioffe & Szegedy, ICML 2015, algorithm 1.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, live: Array | None = None) -> Array:
        """Normalizes `x: [..., channels]`; `train` uses and records the statistics of the batch.

        They are those of the `live` positions, see `batch_moments`.
        """
        shape, dtype = (x.shape[-1],), jnp.dtype(self.param_dtype)
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        if not train:
            moments = running_mean.value, running_var.value
            return standardize(x, *moments, scale, bias, epsilon=self.epsilon)
        y, mean, variance = batch_normalize(x, scale, bias, epsilon=self.epsilon, live=live)
        if not self.is_initializing():
            keep = kept_share(self.momentum, live)
            running_mean.value = (keep * running_mean.value + (1 - keep) * mean).astype(dtype)
            running_var.value = (keep * running_var.value + (1 - keep) * variance).astype(dtype)
        return y
