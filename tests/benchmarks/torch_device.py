"""Where torch works in this process: on the cores of the machine, or on its first GPU."""

from typing import Any

import machine
import torch
from row import AbsentError


def use() -> torch.device:
    """Takes as many threads as there are cores; returns the device.

    Raises:
        AbsentError: a GPU is measured, and torch has none.
    """
    torch.set_num_threads(len(machine.cores()))
    if machine.device() != "cpu" and not torch.cuda.is_available():
        raise AbsentError(f"torch {torch.__version__} has no GPU here")
    return torch.device(machine.device())


def wait() -> None:
    """Returns when all that was asked of the device is computed."""
    if machine.device() != "cpu":
        torch.cuda.synchronize()


def settings() -> dict[str, Any]:
    """What decides how exact and how fast products are."""
    cudnn = torch.backends.cudnn
    return {
        "cudnn.allow_tf32": cudnn.allow_tf32,
        "cuda.matmul.allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn.benchmark": cudnn.benchmark,
        "device": "cpu" if machine.device() == "cpu" else torch.cuda.get_device_name(),
    }
