"""Convolutions with a window of 3 x 3 by Winograd's F(4 x 4, 3 x 3), compiled."""

import os

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rcnn_jax.kernels.library import ROWS, SCRATCH, SUM, WHOLE, Call, Result

_PLACES = 36  # products of a tile

_TRANSFORM = Call(
    "RcnnTransformKernel",
    (WHOLE,),
    (Result(lambda w: (_PLACES, w.shape[3] // 16, w.shape[2], 16), WHOLE),),
)
_CONVOLVE = Call(
    "RcnnConvolve",
    (ROWS, WHOLE),
    (Result(lambda x, packed: (*x.shape[:3], 16 * packed.shape[1])),),
)


def _parts(images: int) -> int:
    """Returns into how many runs of images a kernel gradient is cut; each has a sum of its own."""
    return max(1, min(images, 2 * len(os.sched_getaffinity(0))))


_KERNEL_GRADIENT = Call(
    "RcnnKernelGradient",
    (ROWS, ROWS),
    (
        Result(lambda x, g: (3, 3, x.shape[3], g.shape[3]), SUM),
        Result(lambda x, g: (_parts(x.shape[0]), _PLACES, x.shape[3], g.shape[3]), SCRATCH),
    ),
)
