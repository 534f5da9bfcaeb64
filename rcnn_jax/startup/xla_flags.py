"""Compiler flags, which are set before jax starts and only if the installed version accepts them.

XLA ends the whole process on an unknown flag, and reads the environment once, when the first
backend is initialised. Commands therefore call `apply` before they import a module that imports
jax.
"""

import importlib.metadata
import os
from collections.abc import Iterable

from rcnn_jax.errors import UsageError, nearest

# Flag name -> (first, last) minor version of jaxlib that is known to accept it.
ALLOWED: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    # Operations that the YNN library computes. `-individual_convolution` leaves convolutions to
    # Eigen, which is 1.15 to 1.55 times faster in training.
    "xla_cpu_experimental_ynn_fusion_type": ((0, 10), (0, 12)),
    # Presents one CPU as several devices, for trying out multi-device runs.
    "xla_force_host_platform_device_count": ((0, 4), (0, 12)),
}

LARGE_FEED_FORWARD = ("xla_cpu_experimental_ynn_fusion_type=",)
"""Flags for the forward pass of nets as large as VGG16 on a CPU, with convolutions and products by
Eigen."""


def jaxlib_version() -> tuple[int, int]:
    """Returns the (major, minor) version of the installed jaxlib, read without importing it."""
    major, minor = importlib.metadata.version("jaxlib").split(".")[:2]
    return int(major), int(minor)


def select(flags: Iterable[str], version: tuple[int, int], present: str) -> list[str]:
    """Selects the flags that can be set.

    Args:
        flags: Flags as `name=value`, without leading dashes.
        version: The (major, minor) version of jaxlib.
        present: Value of XLA_FLAGS that the user set, whose flags take precedence.

    Returns:
        The flags to append, as `--name=value`.

    Raises:
        UsageError: A flag is not in `ALLOWED` and might end the process.
    """
    chosen = []
    for flag in flags:
        name = flag.lstrip("-").partition("=")[0]
        if name not in ALLOWED:
            raise UsageError(
                f"config.xla_flags: {name!r} is not on the list of flags known to be accepted "
                f"({nearest(name, ALLOWED)}); set others in the environment variable XLA_FLAGS."
            )
        first, last = ALLOWED[name]
        if first <= version <= last and f"--{name}=" not in present:
            chosen.append(f"--{flag.lstrip('-')}")
    return chosen


def apply(flags: Iterable[str]) -> None:
    """Appends flags to the environment variable XLA_FLAGS, keeping those that the user set there.

    Args:
        flags: Flags as `name=value`.

    Raises:
        UsageError: A flag is not in `ALLOWED`.
    """
    present = os.environ.get("XLA_FLAGS", "")
    chosen = select(flags, jaxlib_version(), present)
    os.environ["XLA_FLAGS"] = " ".join([present, *chosen]).strip()
