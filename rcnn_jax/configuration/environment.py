"""What environment variables say: switches (0 is off, 1 or unset is on) and the cache folder."""

import os
from pathlib import Path

from rcnn_jax.errors import UsageError

COMPILATION_CACHE = "RCNN_JAX_COMPILATION_CACHE"
"""The cache of compiled programs."""

WINOGRAD = "RCNN_JAX_WINOGRAD"
"""Convolutions by minimal filtering."""


def switched_on(variable: str, off: str) -> bool:
    """Whether a switch is on: it is unless its variable is 0.

    Args:
        variable: name of the environment variable.
        off: what 0 means, for the message.

    Raises:
        UsageError: the variable is neither 0 nor 1.
    """
    value = os.environ.get(variable, "1")
    if value not in ("0", "1"):
        raise UsageError(f"{variable}={value!r} must be 0 ({off}) or 1.")
    return value == "1"


def cache_dir() -> Path:
    """This project's cache folder: `$XDG_CACHE_HOME/rcnn_jax` or `~/.cache/rcnn_jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rcnn_jax"
