"""Positive numbers of any magnitude: a mantissa in [1, 2) and an integer exponent of two.

The probability of a labelling is a sum of products of thousands of factors. As plain numbers these
underflow; as logarithms each sum costs an exponential and a logarithm, and a sum of large
logarithms keeps few digits after the decimal point. With separate exponents, sums and products
take a handful of integer operations, and keep the relative precision of the dtype at any
magnitude.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

# The exponent of zero. The sum of two such exponents does not overflow.
ZERO_EXPONENT = -(2**30)
LN2 = 0.6931471805599453


class Wide(NamedTuple):
    """The numbers `mantissa * 2 ** exponent`; zero has an exponent near `ZERO_EXPONENT`.

    Attributes:
        mantissa: Float32 or float64 array of values in [1, 2).
        exponent: Int32 or int64 array of the same width and shape.
    """

    mantissa: Array
    exponent: Array


def _layout(dtype: Any) -> tuple[Any, int, int]:
    """Returns the integer dtype of the same width, the fraction's bits and the exponent's bias."""
    return (jnp.int32, 23, 127) if dtype == jnp.float32 else (jnp.int64, 52, 1023)


def _power_of_two(exponent: Array, dtype: Any) -> Array:
    """Returns `2 ** exponent` for exponents up to 1; zero where that is not a normal number."""
    _, fraction, bias = _layout(dtype)
    return lax.bitcast_convert_type(jnp.maximum(exponent + bias, 0) << fraction, dtype)


def normalized(a: Wide) -> Wide:
    """Returns the same numbers with any positive mantissa brought back to [1, 2).

    Args:
        a: Numbers whose mantissas are positive, of any size.
    """
    integer, fraction, bias = _layout(a.mantissa.dtype)
    bits = lax.bitcast_convert_type(a.mantissa, integer)
    shift = (bits >> fraction) - bias
    mantissa = lax.bitcast_convert_type(bits - (shift << fraction), a.mantissa.dtype)
    return Wide(mantissa, jnp.maximum(a.exponent + shift, ZERO_EXPONENT))


def constant(nonzero: Bool[np.ndarray | Array, "*shape"], dtype: Any) -> Wide:
    """Returns one where `nonzero` is true, and zero elsewhere.

    Args:
        nonzero: Booleans of any shape.
        dtype: Dtype of the mantissas, float32 or float64.
    """
    integer = _layout(dtype)[0]
    exponent = jnp.where(nonzero, 0, ZERO_EXPONENT).astype(integer)
    return Wide(jnp.ones(exponent.shape, dtype), exponent)


def from_log(logarithm: Float[Array, "*shape"]) -> Wide:
    """Returns `exp(logarithm)` for logarithms up to 0; one below about -7e8 gives zero.

    Args:
        logarithm: Natural logarithms of any shape, float32 or float64.
    """
    integer = _layout(logarithm.dtype)[0]
    finite = jnp.maximum(logarithm, ZERO_EXPONENT * LN2)
    exponent = jnp.round(finite * (1 / LN2))
    # Splits ln 2 in two parts. The first has few bits, so that its product with the exponent is
    # exact.
    high = 0.693145751953125
    rest = (finite - exponent * high) - exponent * (LN2 - high)
    # A huge logarithm is not known to the digits before the decimal point, so any rest will do.
    rest = jnp.clip(rest, -1, 2)
    return normalized(Wide(jnp.exp(rest), exponent.astype(integer)))


def add(a: Wide, b: Wide) -> Wide:
    """Returns `a + b`, whose mantissa is at most the sum of both, until `normalized` is applied.

    Args:
        a: First summands.
        b: Second summands of the same shape and dtype.
    """
    exponent = jnp.maximum(a.exponent, b.exponent)
    dtype = a.mantissa.dtype
    of_a = a.mantissa * _power_of_two(a.exponent - exponent, dtype)
    return Wide(of_a + b.mantissa * _power_of_two(b.exponent - exponent, dtype), exponent)


def multiply(a: Wide, b: Wide) -> Wide:
    """Returns `a * b`, whose mantissa is the product of both, until `normalized` is applied.

    Args:
        a: First factors.
        b: Second factors of the same shape and dtype.
    """
    return Wide(a.mantissa * b.mantissa, jnp.maximum(a.exponent + b.exponent, ZERO_EXPONENT))


def is_zero(a: Wide) -> Array:
    """Returns whether each number is zero; sums of zeros raise the exponent a little.

    Args:
        a: Numbers of any shape.
    """
    return a.exponent < ZERO_EXPONENT // 2


def log(a: Wide) -> Array:
    """Returns the natural logarithm, `-inf` for zero.

    Args:
        a: Numbers of any shape.
    """
    value = a.exponent.astype(a.mantissa.dtype) * LN2 + jnp.log(a.mantissa)
    return jnp.where(is_zero(a), -jnp.inf, value)


def share(a: Wide, b: Wide, total: Wide) -> Array:
    """Returns `a * b / total` as a plain number, for results of at most about 1.

    The result is 0 where a factor is zero, and undefined where the total is.

    Args:
        a: First factors.
        b: Second factors of the same dtype.
        total: Divisors of the same dtype.
    """
    # The mantissas contribute a factor in 1/2..4, so a result of at most 1 has an exponent up to 1.
    exponent = jnp.minimum(a.exponent + (b.exponent - total.exponent), 1)
    value = a.mantissa * b.mantissa / total.mantissa * _power_of_two(exponent, a.mantissa.dtype)
    return jnp.where(is_zero(a) | is_zero(b), 0, value)
