"""Positive numbers of any size: a mantissa in [1, 2) and an integer exponent of two.

The probability of a labelling is a sum of products of thousands of factors. As plain numbers they
underflow; as logarithms each sum costs an exponential and a logarithm, and a large sum of
logarithms has few digits left behind the point. With an exponent of their own, sums and products
are a handful of integer operations, and keep the relative precision of the dtype at any size.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

# Stands for zero. Adding two such exponents does not overflow.
ZERO_EXPONENT = -(2**30)
LN2 = 0.6931471805599453


class Wide(NamedTuple):
    """The numbers `mantissa * 2 ** exponent`; zero has an exponent near `ZERO_EXPONENT`.

    Attributes:
        mantissa: float32 or float64, in [1, 2).
        exponent: int32 or int64, of the same width and shape.
    """

    mantissa: Array
    exponent: Array


def _layout(dtype: Any) -> tuple[Any, int, int]:
    """The integer dtype of the same width, the bits of the fraction, the bias of the exponent."""
    return (jnp.int32, 23, 127) if dtype == jnp.float32 else (jnp.int64, 52, 1023)


def _power_of_two(exponent: Array, dtype: Any) -> Array:
    """`2 ** exponent` for exponents up to 1; zero where that is no normal number."""
    _, fraction, bias = _layout(dtype)
    return lax.bitcast_convert_type(jnp.maximum(exponent + bias, 0) << fraction, dtype)


def normalized(a: Wide) -> Wide:
    """The same numbers, any positive mantissa brought back to [1, 2)."""
    integer, fraction, bias = _layout(a.mantissa.dtype)
    bits = lax.bitcast_convert_type(a.mantissa, integer)
    shift = (bits >> fraction) - bias
    mantissa = lax.bitcast_convert_type(bits - (shift << fraction), a.mantissa.dtype)
    return Wide(mantissa, jnp.maximum(a.exponent + shift, ZERO_EXPONENT))


def constant(nonzero: Bool[np.ndarray | Array, "*shape"], dtype: Any) -> Wide:
    """One where `nonzero`, elsewhere zero."""
    integer = _layout(dtype)[0]
    exponent = jnp.where(nonzero, 0, ZERO_EXPONENT).astype(integer)
    return Wide(jnp.ones(exponent.shape, dtype), exponent)


def from_log(logarithm: Float[Array, "*shape"]) -> Wide:
    """`exp(logarithm)` for logarithms up to 0, of which one below about -7e8 gives zero."""
    integer = _layout(logarithm.dtype)[0]
    finite = jnp.maximum(logarithm, ZERO_EXPONENT * LN2)
    exponent = jnp.round(finite * (1 / LN2))
    # ln 2 in two parts, the first with few bits: its product with the exponent is then exact.
    high = 0.693145751953125
    rest = (finite - exponent * high) - exponent * (LN2 - high)
    # Of a huge logarithm not even the digits before the point are known: any rest is as good.
    rest = jnp.clip(rest, -1, 2)
    return normalized(Wide(jnp.exp(rest), exponent.astype(integer)))


def add(a: Wide, b: Wide) -> Wide:
    """`a + b`; its mantissa is at most the sum of both, which `normalized` mends in the end."""
    exponent = jnp.maximum(a.exponent, b.exponent)
    dtype = a.mantissa.dtype
    of_a = a.mantissa * _power_of_two(a.exponent - exponent, dtype)
    return Wide(of_a + b.mantissa * _power_of_two(b.exponent - exponent, dtype), exponent)


def multiply(a: Wide, b: Wide) -> Wide:
    """`a * b`; its mantissa is the product of both, which `normalized` mends in the end."""
    return Wide(a.mantissa * b.mantissa, jnp.maximum(a.exponent + b.exponent, ZERO_EXPONENT))


def is_zero(a: Wide) -> Array:
    """True where the number is zero; sums of zeros raise the exponent a little."""
    return a.exponent < ZERO_EXPONENT // 2


def log(a: Wide) -> Array:
    """Natural logarithm; `-inf` of zero."""
    value = a.exponent.astype(a.mantissa.dtype) * LN2 + jnp.log(a.mantissa)
    return jnp.where(is_zero(a), -jnp.inf, value)


def share(a: Wide, b: Wide, total: Wide) -> Array:
    """`a * b / total` as a plain number, for a result of at most about 1.

    0 where a factor is zero; no meaning where the total is.
    """
    # The mantissas give between 1/2 and 4, so a result of at most 1 has an exponent up to 1.
    exponent = jnp.minimum(a.exponent + (b.exponent - total.exponent), 1)
    value = a.mantissa * b.mantissa / total.mantissa * _power_of_two(exponent, a.mantissa.dtype)
    return jnp.where(is_zero(a) | is_zero(b), 0, value)
