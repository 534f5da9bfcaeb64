"""Local response normalization across channels, as functions on channels-last arrays.

Sums are computed in float32 or wider, regardless of the dtype of the activations.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rcnn_jax.kernels import choice, forms
from rcnn_jax.kernels import response as compiled


def lrn_window(features: int) -> int:
    """Returns the number of channels in the paper's normalization window, `features / 8 + 1`.

    Args:
        features: Number of channels, a positive multiple of 8.

    Raises:
        ValueError: If `features` is not a positive multiple of 8.

    References:
        Liang & Hu, CVPR 2015.

    Example:
        >>> from rcnn_jax.layers.local_response import lrn_window
        >>> lrn_window(96)
        13
    """
    if features < 8 or features % 8:
        raise ValueError(
            f"local response normalization has a window of features / 8 + 1 channels: features "
            f"must be a positive multiple of 8, got {features}"
        )
    return features // 8 + 1


def _window_sum(x: Array, before: int, after: int) -> Array:
    """Sums channels `k - before .. k + after` for each channel k, clipped at both ends.

    Windows of 1, 2, 4, ... channels are built by doubling and then joined, so that a window of N
    channels costs about 2 log2(N) shifted additions and no product with a banded matrix.
    """
    channels, axis = x.shape[-1], x.ndim - 1
    edges = [(0, 0, 0)] * axis + [(before, after, 0)]
    block = lax.pad(x, jnp.zeros((), x.dtype), edges)
    parts, width, covered, left = [], 1, 0, before + 1 + after
    while True:
        if left & 1:
            parts.append(lax.slice_in_dim(block, covered, covered + channels, axis=axis))
            covered += width
        left >>= 1
        if not left:
            return functools.reduce(lax.add, parts)
        length = block.shape[-1]
        block = lax.slice_in_dim(block, 0, length - width, axis=axis) + lax.slice_in_dim(
            block, width, length, axis=axis
        )
        width *= 2


def _power(denominator: Array, exponent: float) -> Array:
    """Computes `denominator ** -exponent`, by square roots alone for multiples of 1/4."""
    quarters = round(exponent * 4)
    if quarters != exponent * 4 or not 0 <= quarters <= 12:
        return jnp.exp(-exponent * jnp.log(denominator))
    return lax.integer_pow(jnp.sqrt(lax.rsqrt(denominator)), quarters)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3, 4))
def _lrn(rectify: bool, size: int, alpha: float, beta: float, k: float, x: Array) -> Array:
    return _lrn_forward(rectify, size, alpha, beta, k, x)[0]


def _lrn_forward(
    rectify: bool, size: int, alpha: float, beta: float, k: float, x: Array
) -> tuple[Array, Array]:
    if forms.compiled("local response normalization", choice.response(x, beta)):
        response = compiled.Response.of(size, alpha, beta, k, rectify=rectify)
        return compiled.respond(response, x, jnp.zeros(x.shape[-1:], x.dtype)), x
    activity = lax.max(x, jnp.zeros((), x.dtype)) if rectify else x
    wide = activity.astype(jnp.promote_types(x.dtype, jnp.float32))
    denominator = _lrn_denominator(wide, size, alpha, k)
    return (wide * _power(denominator, beta)).astype(x.dtype), activity


def _lrn_denominator(x: Array, size: int, alpha: float, k: float) -> Array:
    before = size // 2
    return k + (alpha / size) * _window_sum(x * x, before, size - 1 - before)


def _lrn_backward(
    rectify: bool,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    activity: Array,
    gradient: Array,
) -> tuple[Array]:
    # With d = k + alpha/N sum x^2 and y = x d^-beta, and j over the windows that hold i:
    #   dL/dx_i = g_i d_i^-beta - 2 alpha beta / N  x_i  sum_j g_j x_j d_j^(-beta-1)
    # d is recomputed: XLA merges it with the d of the forward pass where this is faster.
    if not choice.response(activity, beta):
        response = compiled.Response.of(size, alpha, beta, k, rectify=rectify)
        bias = jnp.zeros(activity.shape[-1:], activity.dtype)
        return (compiled.respond_gradient(response, gradient, activity, bias),)
    x, g = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (activity, gradient))
    d = _lrn_denominator(x, size, alpha, k)
    scaled = g * _power(d, beta)
    before = size // 2
    shared = _window_sum(scaled * x / d, size - 1 - before, before)
    result = scaled - (2 * alpha * beta / size) * x * shared
    if rectify:
        result = jnp.where(x > 0, result, jnp.zeros_like(result))
    return (result.astype(activity.dtype),)


_lrn.defvjp(_lrn_forward, _lrn_backward)


def local_response_norm(
    x: Float[Array, "*batch channels"],
    *,
    size: int,
    alpha: float = 1e-3,
    beta: float = 0.75,
    k: float = 1.0,
) -> Float[Array, "*batch channels"]:
    """Divides each channel by the activity of neighbouring channels at the same position.

    `y_i = x_i / (k + alpha / size * sum_j x_j^2) ** beta`, where j runs over the `size` channels
    around i (`size // 2` before it, the rest from i on), clipped at the first and last channel.
    alpha is divided by the window size, never by the number of channels left after clipping.

    Args:
        x: Activations `[..., channels]`.
        size: Number of channels in the window, at least 1; the paper uses `lrn_window(channels)`.
        alpha: Strength of the normalization.
        beta: Exponent of the denominator; multiples of 1/4 are computed by square roots.
        k: Offset of the denominator, positive.

    Returns:
        An array of the shape and dtype of `x`. Only reverse-mode differentiation is defined.

    Raises:
        ValueError: If `size < 1` or `k <= 0`.

    References:
        Liang & Hu, CVPR 2015, equation 4 (with k = 1); Krizhevsky et al., NIPS 2012.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.local_response import local_response_norm
        >>> y = local_response_norm(jnp.ones((1, 4)), size=3, alpha=3.0, beta=1.0)
        >>> [round(value, 3) for value in y[0].tolist()]
        [0.333, 0.25, 0.25, 0.333]
    """
    _check_lrn(size, k)
    return _lrn(False, size, alpha, beta, k, x)


def relu_lrn(
    x: Float[Array, "*batch channels"],
    *,
    size: int,
    alpha: float = 1e-3,
    beta: float = 0.75,
    k: float = 1.0,
) -> Float[Array, "*batch channels"]:
    """Computes `local_response_norm(relu(x))` with a single backward pass for both.

    Args:
        x: Pre-activations `[..., channels]`.
        size: Number of channels in the window, at least 1.
        alpha: Strength of the normalization.
        beta: Exponent of the denominator; multiples of 1/4 are computed by square roots.
        k: Offset of the denominator, positive.

    Returns:
        An array of the shape and dtype of `x`. Only reverse-mode differentiation is defined.

    Raises:
        ValueError: If `size < 1` or `k <= 0`.
    """
    _check_lrn(size, k)
    return _lrn(True, size, alpha, beta, k, x)


def _check_lrn(size: int, k: float) -> None:
    if size < 1:
        raise ValueError(
            f"local response normalization needs a window of at least 1 channel, got size {size}"
        )
    if k <= 0:
        raise ValueError(f"local response normalization needs an offset k > 0, got {k}")
