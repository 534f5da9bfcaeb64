"""Memory in large pages for the process of a command, on Linux.

On a CPU, XLA allocates the memory of a step anew at every call and frees it afterwards. For a
training step of RCNN-96 with 128 images of 32 pixels this was 717 MiB when it was measured, which
the kernel provides, cleared, in 184,000 pages of 4 KiB: a fifth of the time of the step. Pages of 2
MiB cause a five-hundredth of the page faults. The GNU C library (2.35 and later) requests them if
its tunable `glibc.malloc.hugetlb=1` is in the environment before the process starts. No call of a
running process has the same effect without retaining freed memory. A command that finds the tunable
absent therefore restarts itself before any large package is imported.
"""

import os
import pathlib
import sys
from collections.abc import Mapping, MutableMapping

VARIABLE = "GLIBC_TUNABLES"
TUNABLE = "glibc.malloc.hugetlb"
POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")

_FIRST_GLIBC = (2, 35)
_DEBUGGERS = ("debugpy", "pydevd")


def missing(environment: Mapping[str, str], policy: str, libc: str) -> bool:
    """Returns whether requesting large pages would have an effect and no user has decided on it.

    Args:
        environment: Environment of the process. A user's setting of the tunable, including 0, is a
            decision.
        policy: Kernel's policy on large pages, such as `always [madvise] never`.
        libc: Name and version of the C library, such as `glibc 2.36`; empty if unknown.
    """
    if TUNABLE in environment.get(VARIABLE, "") or "[madvise]" not in policy:
        return False
    name, _, version = libc.partition(" ")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    return name == "glibc" and tuple(numbers) >= _FIRST_GLIBC


def here(environment: Mapping[str, str]) -> bool:
    """Returns `missing` for this machine.

    Args:
        environment: Environment of the process.
    """
    try:
        policy = POLICY.read_text()
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError, AttributeError):  # another kernel, another C library
        return False
    return missing(environment, policy, libc)


def ask(environment: MutableMapping[str, str]) -> None:
    """Adds the tunable to an environment in which a process will start, if it is missing.

    Args:
        environment: Environment, changed in place.
    """
    if here(environment):
        others = environment.get(VARIABLE, "")
        environment[VARIABLE] = f"{others}{':' * bool(others)}{TUNABLE}=1"


def start_with_them() -> None:
    """Restarts this process if large pages are missing; returns only if it does not.

    It does not restart if jax is already imported, if a debugger would lose the process, or if the
    program cannot be read again, as from standard input.
    """
    debugged = sys.gettrace() is not None or any(name in sys.modules for name in _DEBUGGERS)
    if debugged or "jax" in sys.modules:
        return
    if not here(os.environ) or not pathlib.Path(sys.argv[0]).is_file() or not sys.executable:
        return
    ask(os.environ)
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:
        return
