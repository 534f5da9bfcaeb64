"""The machine that measures: what it is, and what else it was doing meanwhile."""

import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import figures
from rcnn_jax.configuration import environment as switches
from rcnn_jax.startup import huge_pages

_PROC = pathlib.Path("/proc")
_HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
PLATFORMS = {"cpu": "cpu", "gpu": "cuda"}
"""What a run measures on -> what jax and torch call it."""

# What a worker sets for itself, or would measure something else for if it stood in the shell.
_OWN = (
    "XLA_FLAGS",
    "JAX_COMPILATION_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    switches.WINOGRAD,
    switches.KERNELS,
)
_CARD = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def environment(where: str = "cpu") -> dict[str, str]:
    """What a worker starts with: threads pinned alike, nothing compiled before, one platform."""
    count = str(len(cores()))
    env = {name: value for name, value in os.environ.items() if name not in _OWN}
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env |= {**dict.fromkeys(threads, count), "JAX_PLATFORMS": PLATFORMS[where]}
    if where == "gpu":
        # The first of several processes on one card would take most of its memory.
        env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    # What our doors ask for themselves; a user of torch may by hand.
    huge_pages.ask(env)
    return env


def device() -> str:
    """What torch calls the device of this process: that which `environment` gave to jax."""
    return PLATFORMS["gpu"] if os.environ.get("JAX_PLATFORMS") == PLATFORMS["gpu"] else "cpu"


def describe(where: str = "cpu") -> dict[str, Any]:
    """The machine, the versions, and the state of the working tree."""
    meminfo = _fields(_PROC / "meminfo", ":")
    governor = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _fields(_PROC / "cpuinfo", ":").get("model name", platform.machine()),
        "cores": len(cores()),
        "memory_gib": round(int(meminfo.get("MemTotal", "0 kB").split()[0]) / 2**20, 1),
        "governor": governor.read_text().strip() if governor.is_file() else None,
        "system": platform.platform(),
        "load": list(os.getloadavg()),
        "glibc_tunables": environment(where).get(huge_pages.VARIABLE, ""),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        **_commit(),
        **({"card": card()} if where == "gpu" else {}),
    }


def card() -> dict[str, str] | None:
    """What `nvidia-smi` says of the first GPU; None where there is no such program or no GPU."""
    query = [f"--query-gpu={','.join(_CARD)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    return dict(zip(_CARD, map(str.strip, lines[0].split(",")), strict=True)) if lines else None


def _fields(path: pathlib.Path, separator: str) -> dict[str, str]:
    """The first value of each `name: value` line."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        name, _, value = line.partition(separator)
        found.setdefault(name.strip(), value.strip())
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(_HERE), *words], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


class Load:
    """How many cores others kept busy during the windows that were measured.

    All but the process that is measured count as others, so that a side which spins while another
    runs is seen too. Where there is no /proc the share is unknown.
    """

    def __init__(self) -> None:
        self._busy = self._own = self._seconds = 0.0
        self._tick = os.sysconf("SC_CLK_TCK")
        self._known = (_PROC / "stat").is_file()

    @contextlib.contextmanager
    def window(self, pid: int) -> Iterator[None]:
        """What runs within it is the work of process `pid` and its children."""
        if not self._known:
            yield
            return
        began, busy, own = time.perf_counter(), self._all(), self._tree(pid)
        yield
        self._own += self._tree(pid) - own
        self._busy += self._all() - busy
        self._seconds += time.perf_counter() - began

    @property
    def others(self) -> float | None:
        """Cores that others kept busy; None where nothing is known."""
        if not self._known or not self._seconds:
            return None
        return figures.disturbance(self._busy, self._own, self._seconds)

    def _all(self) -> float:
        """Seconds that our cores were busy, also on behalf of other guests of the host."""
        mine, total = {f"cpu{core}" for core in cores()}, 0
        for line in (_PROC / "stat").read_text().splitlines():
            name, *numbers = line.split()
            if name in mine:
                # user nice system idle iowait irq softirq steal; guests are in user and nice.
                user, nice, system, _, _, irq, softirq, steal = map(int, numbers[:8])
                total += user + nice + system + irq + softirq + steal
        return total / self._tick

    def _tree(self, pid: int) -> float:
        """Seconds of CPU of a process, its descendants, and this one, which keeps the clock."""
        parents, times = {}, {}
        for path in _PROC.glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                # The name of a process may hold anything but its closing bracket is the last.
                fields = path.read_text().rpartition(")")[2].split()
                parents[int(path.parent.name)] = int(fields[1])
                # Of children that ended and were waited for, too.
                times[int(path.parent.name)] = sum(map(int, fields[11:15]))
        own = {pid}
        while grown := {p for p, parent in parents.items() if parent in own} - own:
            own |= grown
        total = sum(times.get(p, 0) for p in own) / self._tick
        here = os.times()
        return total + here.user + here.system


def versions_differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which of the facts that make figures comparable differ between two descriptions."""
    keys = ("processor", "cores", "python", *PACKAGES, "commit")
    return [key for key in keys if one.get(key) != other.get(key)]
