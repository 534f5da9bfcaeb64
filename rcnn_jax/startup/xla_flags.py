"""Compiler flags, set before jax starts and only where this version of jax knows them.

XLA ends the whole process on an unknown flag, and reads the environment once, when the first
backend is initialised. So the doors call `apply` before they import anything that imports jax.
"""

import importlib.metadata
import os
from collections.abc import Iterable

from rcnn_jax.errors import UsageError, nearest

# Flag name -> (first, last) minor version of jaxlib that is known to accept it.
ALLOWED: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    # Which operations the YNN library takes over; `-individual_convolution` leaves convolutions
    # to Eigen, 1.15 to 1.55 times faster in training.
    "xla_cpu_experimental_ynn_fusion_type": ((0, 10), (0, 12)),
    # Shows one CPU as several devices: for trying out multi-device runs.
    "xla_force_host_platform_device_count": ((0, 4), (0, 12)),
}

LARGE_FEED_FORWARD = ("xla_cpu_experimental_ynn_fusion_type=",)
"""For the forward pass of nets as large as VGG16 on a CPU: convolutions and products by Eigen."""


def jaxlib_version() -> tuple[int, int]:
    """The installed jaxlib's (major, minor) version, read without importing it."""
    major, minor = importlib.metadata.version("jaxlib").split(".")[:2]
    return int(major), int(minor)


def select(flags: Iterable[str], version: tuple[int, int], present: str) -> list[str]:
    """Chooses the flags that can be set.

    Args:
        flags: Flags as `name=value`, without leading dashes.
        version: The (major, minor) version of jaxlib.
        present: The user's own flags, which win.

    Returns:
        The flags to append, as `--name=value`.

    Raises:
        UsageError: A flag is not on the allow-list, and would end the process.
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
    """Appends `flags` to XLA_FLAGS, keeping what the user set there.

    Args:
        flags: Flags as `name=value`.

    Raises:
        UsageError: A flag is not on the allow-list.
    """
    present = os.environ.get("XLA_FLAGS", "")
    chosen = select(flags, jaxlib_version(), present)
    os.environ["XLA_FLAGS"] = " ".join([present, *chosen]).strip()
