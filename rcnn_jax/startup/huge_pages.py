"""Memory in large pages for the process of a door, on Linux.

On a CPU, XLA takes the memory of a step anew at every call and gives it back behind it. For a
training step of RCNN-96 with 128 images of 32 pixels that was 717 MiB when it was measured, which
the kernel hands over, cleared, in 184,000 pages of 4 KiB: a fifth of the time of the step. In pages
of 2 MiB it is a five-hundredth of the faults. The GNU C library (2.35 and later) asks for those
where its tunable `glibc.malloc.hugetlb=1` stands in the environment before the process starts, and
nothing that a running process can call does the same without holding freed memory back. So a door
that finds it absent starts itself once more, before anything heavy is imported.
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
    """Whether asking for large pages would have an effect and nobody has decided on it yet.

    Args:
        environment: Of the process. A user's own setting of the tunable, also 0, is a decision.
        policy: When the kernel gives large pages, such as `always [madvise] never`.
        libc: The C library, such as `glibc 2.36`; empty where it does not say.
    """
    if TUNABLE in environment.get(VARIABLE, "") or "[madvise]" not in policy:
        return False
    name, _, version = libc.partition(" ")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    return name == "glibc" and tuple(numbers) >= _FIRST_GLIBC


def here(environment: Mapping[str, str]) -> bool:
    """`missing` for this machine."""
    try:
        policy = POLICY.read_text()
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError, AttributeError):  # another kernel, another C library
        return False
    return missing(environment, policy, libc)


def ask(environment: MutableMapping[str, str]) -> None:
    """Adds the tunable to an environment that a process will start with, if it is missing."""
    if here(environment):
        others = environment.get(VARIABLE, "")
        environment[VARIABLE] = f"{others}{':' * bool(others)}{TUNABLE}=1"


def start_with_them() -> None:
    """Starts this process once more if large pages are missing; returns only if it does not.

    It does not where jax is there already, where a debugger would lose the process, and where the
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
