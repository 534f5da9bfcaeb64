"""Counts the multiply-adds of a traced function."""

import math
from collections.abc import Iterator
from typing import Any


def multiply_adds(jaxpr: Any) -> int | None:
    """Counts the multiply-adds of all convolutions and matrix products in a program.

    The body of a loop with a known number of steps counts once for each step, and of the branches
    of a condition only the most expensive one counts. Sums, pooling, normalization and all other
    elementwise operations are left out, as is customary in the field.

    Args:
        jaxpr: The attribute `jaxpr` of the result of `jax.make_jaxpr`.

    Returns:
        The number of multiply-adds; None if a loop that runs until a condition holds has any in its
        body.
    """
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [multiply_adds(body) for body in _bodies(equation.params)]
        if None in inner or (name == "while" and any(inner)):
            return None
        counts = [count for count in inner if count is not None]
        if name == "cond":
            total += max(counts)
        else:
            total += (equation.params["length"] if name == "scan" else 1) * sum(counts)
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = equation.params["dimension_numbers"].rhs_spec[0]
            total += equation.outvars[0].aval.size * (math.prod(kernel) // kernel[features])
        elif name == "dot_general":
            (summed, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in summed)
    return total


def _bodies(params: dict[str, Any]) -> Iterator[Any]:
    """Yields the programs inside an equation: bodies of loops and calls, branches of conditions."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            body = getattr(part, "jaxpr", part)
            if hasattr(body, "eqns"):
                yield body
