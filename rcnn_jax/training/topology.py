"""What bit-identical arithmetic depends on besides the state."""

import importlib.metadata
import os
from typing import Any

import jax

from rcnn_jax.layers import convolution


def current() -> dict[str, Any]:
    """What bit-identical arithmetic depends on besides the state."""
    return {
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "minimal filters": convolution.filters(),
    }


def changes(before: dict[str, Any]) -> list[str]:
    """Compares the topology of a checkpoint with that of this process, one line a difference.

    What an older version did not write down counts as a difference.
    """
    now = current()
    return [
        f"{key} was {before.get(key)!r} and is {now[key]!r}"
        for key in now
        if before.get(key) != now[key]
    ]
