"""Which form of an operation runs, and why: the rules in one place.

Every function returns the reason for XLA's form, empty if the compiled kernel runs. The rules on
shapes are measured, see `tests/benchmarks/README.md`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.configuration.environment import cores
from rcnn_jax.kernels import library

CHANNELS = 16
"""Numbers of channels are multiples of it, the columns of a panel."""

FEWEST_CHANNELS = 32
"""Least number of channels: transforming an image costs the same however few outputs it has."""


def _arrays(*arrays: Any) -> str:
    """Returns why no kernel takes arrays like these, whatever their shapes, empty if one may."""
    others = sorted({str(array.dtype) for array in arrays if array.dtype != jnp.float32})
    if others:
        return f"{', '.join(others)}, not float32"
    if not all(isinstance(side, int) for side in arrays[0].shape):
        # A program that `jax.export` makes for any number of rows is meant for any device, too.
        return "a batch without a fixed size"
    return ""


def _panels(channels: int) -> str:
    return f"{channels} channels, no multiple of {CHANNELS}" if channels % CHANNELS else ""


def convolution(x: Any, kernel: Any) -> str:
    """Returns why a convolution of stride 1 runs in XLA's form, empty if it is compiled.

    Args:
        x: Images `[batch, height, width, inputs]`, an array or anything with shape and dtype.
        kernel: Kernel `[*window, inputs, outputs]`, in the same form.
    """
    if kernel.ndim != 4 or tuple(kernel.shape[:2]) != (3, 3):
        return f"a window of {' x '.join(map(str, kernel.shape[:-2]))}, not 3 x 3"
    return _arrays(x, kernel) or _images(x, kernel.shape[2:]) or library.problem()


def patches(x: Any, kernel: Any) -> str:
    """Returns why a convolution of images with few channels is not compiled, empty if it is.

    Args:
        x: Images `[batch, height, width, inputs]`, an array or anything with shape and dtype.
        kernel: Kernel `[h, w, inputs, outputs]`, in the same form.
    """
    if kernel.ndim != 4 or any(side % 2 == 0 for side in kernel.shape[:2]):
        return f"a window of {' x '.join(map(str, kernel.shape[:-2]))}, not two odd sides"
    *window, inputs, outputs = kernel.shape
    if inputs >= CHANNELS or math.prod(window) * inputs > LARGEST_PATCH:
        return f"patches of {math.prod(window) * inputs} numbers from {inputs} channels"
    return _arrays(x, kernel) or _panels(outputs) or library.problem()


LARGEST_PATCH = 512
"""Largest number of values that an output of a convolution of few channels is a sum over."""


def _images(x: Any, channels: Sequence[int]) -> str:
    if any(number % CHANNELS or number < FEWEST_CHANNELS for number in channels):
        return f"{' and '.join(map(str, channels))} channels, no multiples of 16 from 32 on"
    batch, height, width = x.shape[:3]
    if batch * height * width < max(channels):
        return f"{batch * height * width} pixels, fewer than channels"
    return ""


def pooling(x: Any, window: Sequence[int]) -> str:
    """Returns why a max-pool runs in XLA's form, empty if it is compiled.

    Args:
        x: Input `[batch, *spatial, channels]`.
        window: Window size along each spatial axis.
    """
    if x.ndim != 4:
        return f"{x.ndim - 2} spatial axes, not 2"
    if why_not := _arrays(x) or _panels(x.shape[-1]):
        return why_not
    if math.prod(window) > 127:
        return f"a window of {math.prod(window)} places, more than 127"
    return library.problem()


def exponent(beta: float) -> str:
    """Returns why an exponent of local response normalization is not compiled, empty if it is.

    Args:
        beta: Exponent of the denominator.
    """
    quarters = round(4 * beta)
    fits = quarters == 4 * beta and 1 <= quarters <= 12
    return "" if fits else f"an exponent of {beta}, no multiple of 1/4 up to 3"


def response(x: Any, beta: float) -> str:
    """Returns why a local response normalization runs in XLA's form, empty if it is compiled.

    Args:
        x: Input `[..., channels]`.
        beta: Exponent of the denominator.
    """
    if x.ndim < 2:
        return "no batch"
    return _arrays(x) or _panels(x.shape[-1]) or exponent(beta) or library.problem()


def iterations(
    feedforward: Array, kernels: Array, options: dict[str, Any], *, norm: str, mask: Any
) -> str:
    """Returns why the iterations of an RCL run in XLA's form, empty if they are compiled.

    Args:
        feedforward: Convolved feed-forward input, `[batch, height, width, features]`.
        kernels: Tied recurrent kernel, or untied ones with a leading axis `[steps]`.
        options: Options of `rcnn_jax.layers.rcl.rcl`.
        norm: Kind of normalization.
        mask: Mask of padding, or None.
    """
    if norm not in ("batch", "batch_shared", "batch_split", "lrn"):
        return f"{norm} normalization"
    if options["gamma"] == 0:
        return "no feed-forward input after the first step"
    if options["unroll"] is not None or options["remat"]:
        return "unroll or remat is set"
    if mask is not None:
        return "padding is masked"
    if options["steps"] > MOST_STEPS:
        return f"{options['steps']} iterations, more than {MOST_STEPS}"
    one = kernels if kernels.ndim == feedforward.ndim else kernels[0]
    return convolution(feedforward, one) or _whole_images(feedforward)


MOST_STEPS = 64
"""Largest number of compiled iterations: the program has each of them, and no loop."""

LARGEST_IMAGE = 64 * 64
"""Largest number of pixels whose steps are compiled as one: an image is the work of one core."""


def _whole_images(x: Array) -> str:
    if x.shape[0] < cores():
        return f"{x.shape[0]} images for {cores()} cores"
    pixels = x.shape[1] * x.shape[2]
    return "" if pixels <= LARGEST_IMAGE else f"{pixels} pixels an image, more than {LARGEST_IMAGE}"
