"""Environment variables: switches (0 is off, 1 or unset is on), choices and the cache folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from rcnn_jax.errors import UsageError

COMPILATION_CACHE = "RCNN_JAX_COMPILATION_CACHE"
"""Switch of the cache of compiled programs."""

WINOGRAD = "RCNN_JAX_WINOGRAD"
"""Switch of convolutions by minimal filtering."""

KERNELS = "RCNN_JAX_KERNELS"
"""Switch of the compiled kernels."""

KERNELS_ISA = "RCNN_JAX_KERNELS_ISA"
"""The widest instruction set that compiled kernels may use."""

INSTRUCTION_SETS = ("base", "avx2", "avx512")
"""Values of `RCNN_JAX_KERNELS_ISA`, from the compiler's default to the widest."""


def switched_on(variable: str, off: str) -> bool:
    """Returns whether a switch is on, which it is unless its variable is 0.

    Args:
        variable: Name of the environment variable.
        off: Description of what 0 means, for the error message.

    Raises:
        UsageError: The variable is neither 0 nor 1.
    """
    value = os.environ.get(variable, "1")
    if value not in ("0", "1"):
        raise UsageError(f"{variable}={value!r} must be 0 ({off}) or 1.")
    return value == "1"


def one_of(variable: str, allowed: Sequence[str]) -> str | None:
    """Returns the value of a variable, None if it is not set.

    Args:
        variable: Name of the environment variable.
        allowed: The values that it may have.

    Raises:
        UsageError: The variable has another value.
    """
    value = os.environ.get(variable)
    if value is not None and value not in allowed:
        raise UsageError(f"{variable}={value!r} must be one of {', '.join(allowed)}.")
    return value


def cache_dir() -> Path:
    """Returns the project's cache folder, `$XDG_CACHE_HOME/rcnn_jax` or `~/.cache/rcnn_jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rcnn_jax"


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
