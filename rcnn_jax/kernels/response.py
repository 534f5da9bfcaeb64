"""Local response normalization across channels, compiled."""

from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Array

from rcnn_jax.kernels.library import ROWS, WHOLE, Call, Result


class Response(NamedTuple):
    """Local response normalization `a / (k + alpha / size sum of a^2) ** (quarters / 4)`.

    Attributes:
        size: Number of channels in the window.
        quarters: Exponent in quarters, from 1 to 12.
        alpha: Strength of the normalization.
        k: Offset of the denominator.
        rectify: Whether a is rectified before.
    """

    size: int
    quarters: int
    alpha: float
    k: float = 1.0
    rectify: bool = True

    @classmethod
    def of(
        cls, size: int, alpha: float, beta: float, k: float = 1.0, *, rectify: bool = True
    ) -> Self:
        """Returns the normalization with an exponent that `choice.exponent` allows.

        Args:
            size: Number of channels in the window.
            alpha: Strength of the normalization.
            beta: Exponent of the denominator, a multiple of 1/4.
            k: Offset of the denominator.
            rectify: Whether the input is rectified before.
        """
        return cls(size, round(4 * beta), float(alpha), float(k), rectify)

    def attributes(self) -> dict[str, Any]:
        """Returns the attributes of a call."""
        return {
            "size": np.int64(self.size),
            "quarters": np.int64(self.quarters),
            "rectify": np.int64(self.rectify),
            "alpha": np.float32(self.alpha),
            "k": np.float32(self.k),
        }


_RESPOND = Call("RcnnRespond", (ROWS, WHOLE), (Result(lambda z, bias: z.shape),))
_RESPOND_GRADIENT = Call(
    "RcnnRespondGradient", (ROWS, ROWS, WHOLE), (Result(lambda g, z, bias: z.shape),)
)


def respond(response: Response, z: Array, bias: Array) -> Array:
    """Computes the normalization of `z + bias`.

    Args:
        response: Local response normalization.
        z: Array `float32[..., channels]`, the channels a multiple of 16.
        bias: Bias `[channels]`.
    """
    rows = z.reshape(-1, z.shape[-1])
    return _RESPOND(rows, bias, **response.attributes())[0].reshape(z.shape)


def respond_gradient(response: Response, g: Array, z: Array, bias: Array) -> Array:
    """Computes the gradient of `respond` with respect to z.

    Args:
        response: Local response normalization.
        g: Gradient of the result, `float32[..., channels]`.
        z: First argument of `respond`.
        bias: Second argument of `respond`.
    """
    g, rows = (a.reshape(-1, a.shape[-1]) for a in (g, z))
    return _RESPOND_GRADIENT(g, rows, bias, **response.attributes())[0].reshape(z.shape)
