"""Properties of machine and software, besides the state, that bit-identical results depend on."""

import importlib.metadata
import os
import pathlib
from typing import Any

import jax

from rcnn_jax.kernels import library
from rcnn_jax.layers import convolution

_CPUINFO = pathlib.Path("/proc/cpuinfo")
# Flags of /proc/cpuinfo and their instruction sets, the widest first: x86, then Arm.
_VECTORS = {
    "amx_tile": "AMX",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "avx": "AVX",
    "sse4_2": "SSE4.2",
    "sve": "SVE",
    "asimd": "NEON",
}
# Keys that checkpoints of older versions lack although their arithmetic may be the same.
_NOT_ALWAYS_NOTED = ("cpu",)
# What an older version had, whose checkpoints do not say so.
_BEFORE_NOTED = {"kernels": ""}


def current() -> dict[str, Any]:
    """Returns the properties of this process that bit-identical results depend on.

    Returns:
        Values by name, representable as JSON.
    """
    return {
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        # Kernels of matrix products are chosen by the CPU's instructions, and each sums in its own
        # order; `device_kind` is only "cpu".
        "cpu": cpu(_CPUINFO) if jax.default_backend() == "cpu" else None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "minimal filters": convolution.filters(),
        "kernels": _kernels(),
    }


def _kernels() -> str:
    """Returns the instruction set and the sources of compiled kernels, empty without them."""
    if library.problem():
        return ""
    return f"compiled, {library.instruction_set()}, sources {library.sources()[:8]}"


def cpu(cpuinfo: pathlib.Path) -> str | None:
    """Names the model of the first CPU and its widest vector or matrix instructions.

    Args:
        cpuinfo: Path of the file in which Linux describes the CPUs.

    Returns:
        Both, as in "AMD EPYC 7763 64-Core Processor, AVX2". None if the file does not exist, as on
        other systems, or states neither.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return None
    fields: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", "")).split()
    widest = next((vectors for flag, vectors in _VECTORS.items() if flag in flags), None)
    named = [name for name in (fields.get("model name"), widest) if name]
    return ", ".join(named) or None


def changes(before: dict[str, Any]) -> list[str]:
    """Compares the topology of a checkpoint with that of this process.

    A property that an older version did not record counts as a difference, except for the CPU,
    since otherwise every run of such a version would be reported as moved.

    Args:
        before: Topology of the checkpoint, from `current` at the time it was saved.

    Returns:
        One line for each difference.
    """
    now, before = current(), _BEFORE_NOTED | before
    return [
        f"{key} was {before.get(key)!r} and is {now[key]!r}"
        for key in now
        if before.get(key) != now[key] and (key in before or key not in _NOT_ALWAYS_NOTED)
    ]
