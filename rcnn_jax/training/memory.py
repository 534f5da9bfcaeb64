"""The largest memory that a process has needed, on the host and on its devices."""

import pathlib
import re
import resource
import sys
from typing import NamedTuple

import jax


class Peak(NamedTuple):
    """Largest memory so far, in MiB.

    Attributes:
        host: Memory of this process.
        device: Memory of the first device of this process; None if it keeps no statistics, as a
            CPU, whose memory is that of the process.
    """

    host: float
    device: float | None


def peak() -> Peak:
    """Returns the largest memory that this process has needed so far."""
    stats = jax.local_devices()[0].memory_stats() or {}
    device = stats.get("peak_bytes_in_use")
    return Peak(_of_host(), None if device is None else device / 2**20)


def _of_host() -> float:
    try:
        # The figure of `getrusage` is inherited from the process that started this one.
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        status = ""
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if found:
        return int(found[1]) / 2**10
    # Kilobytes on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
