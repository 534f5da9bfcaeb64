"""Where `gpu.py` and what it starts find this project, which need not be installed.

Importing it, before anything of the project, puts the checkout and its benchmarks on the path, here
and in processes that this one starts; and where there is no `jaxtyping`, the few names of it that
annotations need.
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
    """What is put on the path.

    Args:
        has_jaxtyping: Whether the package is installed; a stand-in must never hide it.
    """
    own = [CHECKOUT, BENCHMARKS, *([] if has_jaxtyping else [STAND_INS])]
    return [str(folder) for folder in own]


def benchmark(name: str) -> Any:
    """A module of the benchmarks."""
    return importlib.import_module(name)


def device(platform: str, env: Mapping[str, str]) -> str:
    """What jax calls the first device of a platform, asked in a process of its own.

    This one stays without jax, which would hold memory of a card.

    Args:
        platform: `gpu` or `cpu`.
        env: The environment of what is started, which names the platform to jax.

    Raises:
        UserError: There is no such device.
    """
    from rcnn_jax.errors import UserError

    code = "import jax; print(jax.devices()[0].device_kind)"
    asked = subprocess.run(
        [sys.executable, "-c", code], env=dict(env), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        said = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"--platform={platform}: jax finds no such device here ({said[:200]}); on a GPU it "
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
