"""Stride-1 convolution over any number of spatial axes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rcnn_jax.configuration.environment import WINOGRAD, switched_on
from rcnn_jax.kernels import choice, forms
from rcnn_jax.kernels.convolution import convolve_3x3
from rcnn_jax.kernels.patches import convolve_patches
from rcnn_jax.layers.winograd import FILTERS, winograd_convolve, winograd_pays

# A user context is part of JAX's cache keys: traces inside `direct_convolutions` stay inside.
_direct = jax.make_user_context(False)


@contextlib.contextmanager
def direct_convolutions() -> Iterator[None]:
    """Makes `convolve` use direct convolutions only, within this context.

    Counting the arithmetic of a program needs each convolution as a single operation.
    """
    with _direct(True):
        yield


def _dimension_numbers(rank: int) -> tuple[str, str, str]:
    """Returns the dimension numbers of channels-last arrays with `rank` spatial axes."""
    axes = "".join(chr(ord("W") - rank + 1 + axis) for axis in range(rank))
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def convolve(
    x: Float[Array, "batch *spatial channels"],
    kernel: Float[Array, "*window channels features"],
    *,
    in_loop: bool = False,
) -> Float[Array, "batch *spatial features"]:
    """Computes a cross-correlation with zero padding that keeps the spatial shape.

    In a loop XLA's CPU backend evaluates the kernel gradient of a convolution in a layout that runs
    as a naive nest of loops, about 30 times slower than outside. With `in_loop` the gradient is an
    ordinary convolution of transposed operands: channels as batch, batch as channels, and the
    output gradient as a kernel as large as the image.

    On a CPU windows of 3 x 3, and images with few channels, are computed by compiled kernels in
    float32, if their shapes fit (`rcnn_jax.kernels.choice`). What follows is the form that XLA
    compiles otherwise.

    Outside loops, kernels of width 3 in float32 are computed by `winograd_convolve`
    where `winograd_pays`: rounding errors are at most three times those of a direct convolution,
    the speed is 1.05 to 1.65 times as high where measured, and only reverse-mode differentiation is
    defined. `RCNN_JAX_KERNELS=0` and `RCNN_JAX_WINOGRAD=0` in the environment, or
    `direct_convolutions`, make all convolutions direct. They act while a function is traced; a
    compiled function does not change.

    Args:
        x: Input `[batch, *spatial, channels]`.
        kernel: Kernel `[*window, channels, features]`, one window size for each spatial axis.
        in_loop: Whether to use the backward pass that stays fast inside a `while` loop. Values and
            gradients are the same, but only reverse-mode differentiation is defined.

    Returns:
        Output `[batch, *spatial, features]`.

    Raises:
        UsageError: If the environment variable `RCNN_JAX_WINOGRAD` is neither 0 nor 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.convolution import convolve
        >>> x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
        >>> convolve(x, jnp.ones((3, 1, 1))).ravel().tolist()
        [3.0, 6.0, 5.0]
    """
    compiled = _compiled(x, kernel)
    if compiled is not None:
        return compiled(x, kernel)
    if in_loop:
        return _convolve_in_loop(x, kernel)
    if _by_winograd(x, kernel):
        return winograd_convolve(x, kernel)
    return _convolve(x, kernel)


def filters() -> str:
    """Returns the minimal filters that convolutions of this process may use, such as `F(4, 3)`.

    Returns:
        Names separated by commas, empty if all convolutions are direct.
    """
    return ", ".join(f"F({one.tile}, 3)" for one in FILTERS) if _filtering() else ""


def _filtering() -> bool:
    """Returns whether this process may use minimal filters."""
    return switched_on(WINOGRAD, "direct convolutions") and jax.default_backend() == "cpu"


def convolutions_are_direct() -> bool:
    """Returns whether `direct_convolutions` is in effect."""
    return _direct.value


def _compiled(x: Array, kernel: Array) -> Callable[[Array, Array], Array] | None:
    """Returns the compiled kernel that convolves `x` with `kernel`, None if XLA does."""
    why_not = "convolutions are direct" if _direct.value else choice.convolution(x, kernel)
    few = bool(why_not) and not _direct.value and not choice.patches(x, kernel)
    if forms.compiled("convolution", "" if few else why_not):
        return convolve_patches if few else convolve_3x3
    return None


def _by_winograd(x: Array, kernel: Array) -> bool:
    """Returns whether the convolution of `x` with `kernel` is computed by `winograd_convolve`."""
    return (
        x.dtype == kernel.dtype == jnp.float32
        # A program that `jax.export` makes for any number of rows is meant for any device, too.
        and all(isinstance(side, int) for side in x.shape)
        and winograd_pays(x.shape, kernel.shape)
        and not _direct.value
        and _filtering()
    )


def conv_general_dilated(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Array:
    """Computes `lax.conv_general_dilated` as `nn.Conv` calls it, with the fast paths of `convolve`.

    It is meant for `nn.Conv(..., conv_general_dilated=conv_general_dilated)`. Anything but a plain
    convolution of stride 1 that keeps the spatial shape is passed on to `lax`.

    Args:
        x: Input `[batch, *spatial, channels]`.
        kernel: Kernel `[*window, channels, features]`.
        strides: Stride along each spatial axis.
        padding: `"SAME"`, `"VALID"` or (before, after) pairs, one for each spatial axis.
        **options: Further arguments of `lax.conv_general_dilated`.

    Returns:
        Output `[batch, *out, features]`.
    """
    same = "SAME", [(side // 2, side // 2) for side in kernel.shape[:-2]]
    dilations = (options.get("lhs_dilation"), options.get("rhs_dilation"))
    plain = (
        all(step == 1 for steps in (strides, *dilations) for step in steps or ())
        and (padding if isinstance(padding, str) else [tuple(pad) for pad in padding]) in same
        and options.get("feature_group_count", 1) == 1
        and options.get("precision") is None
    )
    compiled = _compiled(x, kernel) if plain else None
    if compiled is not None:
        return compiled(x, kernel)
    if plain and _by_winograd(x, kernel):
        return winograd_convolve(x, kernel)
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


def _convolve(x: Array, kernel: Array, padding: str | Sequence[tuple[int, int]] = "SAME") -> Array:
    rank = kernel.ndim - 2
    return lax.conv_general_dilated(
        x, kernel, (1,) * rank, padding, dimension_numbers=_dimension_numbers(rank)
    )


@jax.custom_vjp
def _convolve_in_loop(x: Array, kernel: Array) -> Array:
    return _convolve(x, kernel)


def _convolve_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _convolve_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    rank = kernel.ndim - 2
    spatial = tuple(range(1, rank + 1))
    flipped = jnp.flip(kernel, tuple(range(rank))).swapaxes(-1, -2)
    # Without the barrier XLA folds the transposes back into the slow form.
    images, window, flipped = lax.optimization_barrier(
        (x.transpose(rank + 1, *spatial, 0), gradient.transpose(*spatial, 0, rank + 1), flipped)
    )
    pads = lax.padtype_to_pads(x.shape[1:-1], kernel.shape[:-2], (1,) * rank, "SAME")
    kernel_gradient = _convolve(images, window, pads)
    # The output is as large as the input, so padding before and after is exchanged.
    input_gradient = _convolve(gradient, flipped, [(after, before) for before, after in pads])
    return input_gradient, kernel_gradient.transpose(*spatial, 0, rank + 1)


_convolve_in_loop.defvjp(_convolve_forward, _convolve_backward)
