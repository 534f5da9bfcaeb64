"""Makes this project importable without installation, for `gpu.py` and the processes it starts.

Importing this module before anything of the project puts the checkout and its benchmarks on the
import path, in this process and in those that it starts. If `jaxtyping` is missing, a stand-in with
the few names that annotations need is put there, too.
"""

import importlib
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = CHECKOUT / "launch"
BENCHMARKS = CHECKOUT / "tests" / "benchmarks"
STAND_INS = LAUNCH / "stand_ins"


def folders(has_jaxtyping: bool) -> list[str]:
    """Lists the folders that are put on the import path.

    Args:
        has_jaxtyping: Whether `jaxtyping` is installed; the stand-in must never hide it.

    Returns:
        The paths of the folders.
    """
    paths = [CHECKOUT, BENCHMARKS, *([] if has_jaxtyping else [STAND_INS])]
    return [str(folder) for folder in paths]


def benchmark(name: str) -> Any:
    """Imports a module of the benchmarks.

    Args:
        name: Name of the module in `tests/benchmarks`.

    Returns:
        The module.
    """
    return importlib.import_module(name)


def device(platform: str, env: Mapping[str, str]) -> str:
    """Returns jax's name of the first device of a platform, determined in a separate process.

    This process does not import jax for it, which would occupy memory of the GPU.

    Args:
        platform: `gpu` or `cpu`.
        env: Environment of the separate process, which selects the platform for jax.

    Returns:
        The name of the device.

    Raises:
        UserError: There is no such device.
    """
    from rcnn_jax.errors import UserError

    code = "import jax; print(jax.devices()[0].device_kind)"
    asked = subprocess.run(
        [sys.executable, "-c", code], env=dict(env), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        message = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"--platform={platform}: jax finds no such device here ({message[:200]}); on a GPU it "
            "needs jax[cuda13] or jax[cuda12], and --platform=cpu --quick works everywhere."
        )
    return asked.stdout.strip()


def _extend_paths() -> None:
    wanted = folders(importlib.util.find_spec("jaxtyping") is not None)
    missing = [folder for folder in wanted if folder not in sys.path]
    sys.path[:0] = missing
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    handed_on = [folder for folder in missing if folder not in inherited]
    os.environ["PYTHONPATH"] = os.pathsep.join([*handed_on, *filter(None, inherited)])


_extend_paths()
