"""Environment variables: 0 switches something off, 1 (or unset) leaves it on."""

import os

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
