"""Convolutions of images with few channels, such as colours, compiled."""

import functools

import jax
from jax import lax
from jaxtyping import Array, Float

from rcnn_jax.kernels.convolution import parts
from rcnn_jax.kernels.library import ROWS, SCRATCH, SUM, WHOLE, Call, Result, aligned


def _depth(kernel_shape: tuple[int, ...]) -> int:
    height, width, inputs, _ = kernel_shape
    return height * width * inputs


_CONVOLVE = Call(
    "RcnnConvolvePatches",
    (ROWS, WHOLE),
    (
        Result(lambda x, kernel: (*x.shape[:3], kernel.shape[3])),
        Result(lambda x, kernel: (kernel.shape[3] // 16, _depth(kernel.shape), 16), SCRATCH),
    ),
)


@functools.cache
def _gradient(window: tuple[int, int]) -> Call:
    def shape(x: Array, g: Array) -> tuple[int, ...]:
        return (*window, x.shape[3], g.shape[3])

    def sums(x: Array, g: Array) -> tuple[int, ...]:
        return (parts(x.shape[0]), _depth(shape(x, g)), g.shape[3])

    return Call("RcnnPatchesGradient", (ROWS, ROWS), (Result(shape, SUM), Result(sums, SCRATCH)))


def convolve_patches(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "h w inputs outputs"]
) -> Float[Array, "batch height width outputs"]:
    """Computes a cross-correlation with zero padding that keeps the spatial shape.

    Args:
        x: Images `float32[batch, height, width, inputs]`.
        kernel: Kernel `float32[h, w, inputs, outputs]` with odd h and w; the number of outputs is a
            multiple of 16.

    Returns:
        Output `float32[batch, height, width, outputs]`. Only reverse-mode differentiation is
        defined.
    """
    return _convolve(*aligned(x, kernel))


@jax.custom_vjp
def _convolve(x: Array, kernel: Array) -> Array:
    return _CONVOLVE(x, kernel)[0]


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residuals

    def convolve(x: Array) -> Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    # The gradient of images is not compiled: it is asked for by few, and removed for others.
    (x_gradient,) = jax.vjp(convolve, x)[1](gradient)
    window = (kernel.shape[0], kernel.shape[1])
    return x_gradient, _gradient(window)(x, gradient)[0]


_convolve.defvjp(_forward, _backward)
