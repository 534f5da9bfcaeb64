"""What annotations of arrays need at run time, for a Python without `jaxtyping`.

`checkout.py` puts this folder on the path only where the package is not installed. An
annotation such as `Float[Array, "batch features"]` then says its first part alone, `Array`, which
nothing checks: outside the tests nothing checks the other, either.
"""

from typing import Any

from jax import Array as Array


class _OfArrays:
    """A type of elements; in brackets the kind of array, and a shape that is not looked at."""

    def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
        return item[0]


class Bool(_OfArrays):
    """Arrays of truth values."""


class Float(_OfArrays):
    """Arrays of floating numbers."""


class Int(_OfArrays):
    """Arrays of whole numbers."""


class Key(_OfArrays):
    """Random keys."""


class Shaped(_OfArrays):
    """Arrays of anything."""


class UInt32(_OfArrays):
    """Arrays of 32 bits."""


class PyTree:
    """A tree of anything; what stands in brackets is not looked at."""

    def __class_getitem__(cls, item: Any) -> Any:
        return Any
