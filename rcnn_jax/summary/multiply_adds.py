"""Counts the multiply-adds of a traced function."""

import math
from collections.abc import Iterator
from typing import Any


def multiply_adds(jaxpr: Any) -> int | None:
    """Multiply-adds of all convolutions and products in a program.

    The body of a loop over a given number of steps counts once a step, and of the branches of a
    condition the most expensive one does. Sums, pools, normalizations and everything else
    elementwise are left out, as is the custom of the field.

    Args:
        jaxpr: Of `jax.make_jaxpr`, its attribute `jaxpr`.

    Returns:
        Their number; None where a loop that runs until a condition holds has any in its body.
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
    """The programs inside an equation: bodies of loops and calls, branches of a condition."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            body = getattr(part, "jaxpr", part)
            if hasattr(body, "eqns"):
                yield body
