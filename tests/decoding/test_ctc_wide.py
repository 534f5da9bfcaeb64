"""Numbers with an exponent of their own, against Python's integers and fractions."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.decoding.ctc import wide

PRECISIONS = pytest.mark.parametrize("precision", ["float32", "float64"])


def exact(a):
    """The numbers as fractions; zero where the exponent says so."""
    parts = zip(np.ravel(a.mantissa).tolist(), np.ravel(a.exponent).tolist(), strict=True)
    return [Fraction(m) * Fraction(2) ** e if e > -(2**29) else Fraction(0) for m, e in parts]


def random_numbers(rng, precision, count=300):
    """Exponents close together, far apart, and zeros."""
    exponent = -rng.integers(0, 60, count) * rng.choice([1, 7, 100], count)
    exponent[rng.random(count) < 0.1] = wide.ZERO_EXPONENT
    integer = {"float32": np.int32, "float64": np.int64}[precision]
    mantissa = rng.uniform(1, 2, count).astype(precision)
    return wide.Wide(jnp.asarray(mantissa), jnp.asarray(exponent.astype(integer)))


@PRECISIONS
def test_sums_products_and_shares(precision):
    rng = np.random.default_rng(0)
    with jax.enable_x64(precision == "float64"):
        a, b = random_numbers(rng, precision), random_numbers(rng, precision)
        both = jax.jit(lambda a, b: (wide.add(a, b), wide.multiply(a, b)))(a, b)
        tidy = jax.jit(lambda x: jax.tree.map(wide.normalized, x, is_leaf=_is_wide))(both)
    step = float(np.finfo(precision).eps)
    pairs = list(zip(exact(a), exact(b), strict=True))
    for found in (both, tidy):
        for own, expected in zip(
            found, ([x + y for x, y in pairs], [x * y for x, y in pairs]), strict=True
        ):
            assert (np.asarray(own.exponent) >= wide.ZERO_EXPONENT).all()
            for got, wanted in zip(exact(own), expected, strict=True):
                assert abs(got - wanted) <= wanted * Fraction(step)
    for own in tidy:
        assert ((np.asarray(own.mantissa) >= 1) & (np.asarray(own.mantissa) < 2)).all()


def _is_wide(x):
    return isinstance(x, wide.Wide)


@PRECISIONS
def test_shares_of_a_total(precision):
    """Also one that rounding makes a little more than everything, and one far below a float."""
    with jax.enable_x64(precision == "float64"):
        one = wide.from_log(jnp.zeros(4, precision))
        below_one = np.nextafter(np.ones(1, precision), 0)[0]
        total = wide.normalized(wide.Wide(one.mantissa * below_one, one.exponent))
        a = wide.Wide(one.mantissa, one.exponent + np.array([0, -3, -5000, wide.ZERO_EXPONENT]))
        share = np.asarray(wide.share(a, one, total))
        # Both factors and the total lie below the smallest float; what they make does not.
        tiny = wide.Wide(one.mantissa, one.exponent - 5000)
        total = wide.Wide(one.mantissa, one.exponent - 9999)
        np.testing.assert_array_equal(wide.share(tiny, tiny, total), np.full(4, 0.5))
    np.testing.assert_allclose(share[:2], [1, 0.125], rtol=1e-6)
    assert share[2:].tolist() == [0, 0]


@PRECISIONS
def test_logarithms_there_and_back(precision):
    values = [0.0, -1e-6, -0.3, -math.log(2), -1.0, -87.5, -745.0, -12345.6, -1e6, -np.inf]
    with jax.enable_x64(precision == "float64"):
        logarithm = jnp.asarray(values, precision)
        number = wide.from_log(logarithm)
        back = np.asarray(wide.log(number))
        zero = np.asarray(wide.is_zero(number))
    step = float(np.finfo(precision).eps)
    given = np.asarray(logarithm)
    np.testing.assert_allclose(back[:-1], given[:-1], rtol=2 * step, atol=step)
    assert back[-1] == -np.inf
    assert zero.tolist() == [False] * 9 + [True]
    for own, wanted in zip(exact(number)[:6], given[:6].astype(float), strict=True):
        assert float(own) == pytest.approx(math.exp(wanted), rel=4 * step)


def test_zeros_stay_zero_over_many_steps():
    """A chain of a million sums and products of zeros neither wraps round nor becomes something."""
    zero = wide.constant(np.zeros(2, bool), jnp.float32)
    one = wide.constant(np.ones(2, bool), jnp.float32)

    def step(_, numbers):
        summed, multiplied = numbers
        return (
            wide.normalized(wide.add(summed, summed)),
            wide.normalized(wide.multiply(multiplied, zero)),
        )

    summed, multiplied = jax.jit(lambda x: jax.lax.fori_loop(0, 1_000_000, step, x))((zero, one))
    for number in (summed, multiplied):
        assert wide.is_zero(number).all()
        np.testing.assert_array_equal(wide.log(number), [-np.inf] * 2)
        np.testing.assert_array_equal(wide.add(number, one).mantissa, [1, 1])
