"""Convolutions with a window of 3 x 3 by Winograd's F(4 x 4, 3 x 3), compiled.

References:
    Winograd, Arithmetic complexity of computations, 1980; Lavin & Gray, Fast algorithms for
    convolutional neural networks, CVPR 2016.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rcnn_jax.configuration import environment
from rcnn_jax.kernels.library import ROWS, SCRATCH, SUM, WHOLE, Call, Result, aligned

_PLACES = 36  # products of a tile

_TRANSFORM = Call(
    "RcnnTransformKernel",
    (WHOLE,),
    (Result(lambda kernel: (_PLACES, kernel.shape[3] // 16, kernel.shape[2], 16), WHOLE),),
)
_CONVOLVE = Call(
    "RcnnConvolve",
    (ROWS, WHOLE),
    (Result(lambda x, packed: (*x.shape[:3], 16 * packed.shape[1])),),
)


def parts(images: int) -> int:
    """Returns the number of runs of images whose kernel gradients are summed apart.

    It depends on the number of cores, and on nothing that changes between two runs on one machine.

    Args:
        images: Number of images on this device.
    """
    return max(1, min(images, 2 * environment.cores()))


def _kernel_sums(x: Array, *others: Array) -> tuple[int, ...]:
    return (parts(x.shape[0]), _PLACES, x.shape[3], others[-1].shape[3])


KERNEL_GRADIENT = (
    Result(lambda x, *others: (3, 3, x.shape[3], others[-1].shape[3]), SUM),
    Result(_kernel_sums, SCRATCH),
)
"""Results of calls whose first argument are images and whose last are output gradients."""

_KERNEL_GRADIENT = Call("RcnnKernelGradient", (ROWS, ROWS), KERNEL_GRADIENT)


def transform(kernel: Float[Array, "3 3 inputs outputs"]) -> Float[Array, "36 panels inputs 16"]:
    """Returns the transformed kernel in panels of 16 outputs, as `convolve_packed` takes it.

    Args:
        kernel: Kernel `float32[3, 3, inputs, outputs]` with channels in multiples of 16.
    """
    return _TRANSFORM(kernel)[0]


def flipped(kernel: Float[Array, "3 3 inputs outputs"]) -> Float[Array, "3 3 outputs inputs"]:
    """Returns the kernel of the convolution that takes output gradients to input gradients.

    Args:
        kernel: Kernel `[3, 3, inputs, outputs]`.
    """
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def convolve_packed(
    x: Float[Array, "batch height width inputs"], packed: Float[Array, "36 panels inputs 16"]
) -> Float[Array, "batch height width outputs"]:
    """Computes a cross-correlation with zero padding that keeps the spatial shape.

    Args:
        x: Images `float32[batch, height, width, inputs]`.
        packed: Kernel as `transform` returns it.
    """
    return _CONVOLVE(x, packed)[0]


def kernel_gradient(
    x: Float[Array, "batch height width inputs"],
    gradient: Float[Array, "batch height width outputs"],
) -> Float[Array, "3 3 inputs outputs"]:
    """Computes the gradient of a kernel of 3 x 3.

    Args:
        x: Images `float32[batch, height, width, inputs]` that were convolved.
        gradient: Gradient of the output, `float32[batch, height, width, outputs]`.
    """
    return _KERNEL_GRADIENT(x, gradient)[0]


def convolve_3x3(
    x: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"]
) -> Float[Array, "batch height width outputs"]:
    """Computes a cross-correlation with zero padding that keeps the spatial shape.

    Args:
        x: Images `float32[batch, height, width, inputs]`.
        kernel: Kernel `float32[3, 3, inputs, outputs]`; both numbers of channels are multiples of
            16.

    Returns:
        Output `float32[batch, height, width, outputs]`. Only reverse-mode differentiation is
        defined.
    """
    return _convolve(*aligned(x, kernel))


@jax.custom_vjp
def _convolve(x: Array, kernel: Array) -> Array:
    return convolve_packed(x, transform(kernel))


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    return convolve_packed(gradient, transform(flipped(kernel))), kernel_gradient(x, gradient)


_convolve.defvjp(_forward, _backward)
