"""A cache of compiled programs on disk, so that a second start of the same run compiles nothing.

jax keeps such a cache if it is given a folder. According to its source (jax 0.10.2 and 0.12.0), the
key of an entry holds the program, its compile options and XLA_FLAGS, the version of jaxlib, and the
topology, which names the instruction set of the CPU. Code for another CPU is therefore another
entry. The number of cores is not in the key, although compiled code may be cut into as many pieces;
it is part of the folder's name here.

jax's own bound on the size of the folder requires a package that it does not install (filelock),
and it does not write entries atomically: a killed process leaves an incomplete entry that is never
replaced. This module corrects both.
"""

import contextlib
import os
import pathlib
import re
import sys
import tempfile
import warnings
from typing import Any

from rcnn_jax.configuration.environment import COMPILATION_CACHE, cache_dir, cores, switched_on

MAX_BYTES = 2**30
"""Size limit of the cache on disk, unless the user has named its folder."""

_place: str | None = None

_PROBLEM = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([^']+)'")


def enable(
    folder: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES
) -> str | None:
    """Enables the cache of compiled programs on disk, for programs of any size.

    It must be called before the first array is created: jax looks for its cache at the first
    compilation and never again, so that a second call changes nothing. Any fault of the cache, from
    a full disk to a damaged entry, is reported in one line, and programs are compiled as without a
    cache.

    The folder is `folder`; or else that of `JAX_COMPILATION_CACHE_DIR`, if the user set it; or else
    `compiled` in the cache folder of this project. Except in the second case, programs are stored
    in a subfolder for each number of visible cores. A folder that the user named in the environment
    is left as it is: nothing in it is deleted. jax's own variables
    (`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` and so on) apply everywhere. A cache must not be
    writable by others, since its programs are executed.

    Args:
        folder: Folder of the cache. None selects one as described above.
        max_bytes: Size limit in bytes; the least recently used entries beyond it are deleted now.

    Returns:
        The folder, which is that of the first call. None if there is no cache, because it is
        switched off or cannot be written.

    Raises:
        UsageError: The environment variable `RCNN_JAX_COMPILATION_CACHE` is neither 0 nor 1.
    """
    import jax

    global _place
    if _place is not None:
        return _place
    on = switched_on(COMPILATION_CACHE, "no cache of compiled programs")
    settings: Any = jax.config  # its attributes are defined dynamically
    if not on or not settings.jax_enable_compilation_cache:
        settings.update("jax_compilation_cache_dir", None)
        return None

    named = os.environ.get("JAX_COMPILATION_CACHE_DIR") or settings.jax_compilation_cache_dir
    if named and folder is None:
        _place = str(named)  # perhaps on a file system that only jax can reach
        _watch(_place, heal=False)
    else:
        base = pathlib.Path(folder or cache_dir() / "compiled").expanduser()
        place = base / f"{cores()}_cores"
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700, exist_ok=True)
            _shrink(base, max_bytes)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            print(
                f"warning: compiled programs are not kept: {place} cannot be written "
                f"({error.strerror}); {COMPILATION_CACHE}=0 switches this off",
                file=sys.stderr,
            )
            settings.update("jax_compilation_cache_dir", None)
            return None
        _place = str(place)
        _watch(_place, heal=True)

    settings.update("jax_compilation_cache_dir", _place)
    for name, value in (
        ("jax_persistent_cache_min_compile_time_secs", 0.0),
        ("jax_persistent_cache_min_entry_size_bytes", -1),
    ):
        if name.upper() not in os.environ:
            settings.update(name, value)
    return _place


def _shrink(base: pathlib.Path, max_bytes: int) -> None:
    """Deletes the least recently used entries until the rest fits."""
    entries = []
    for path in base.glob("*_cores/*-cache"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process deletes entries, too
        # Some file systems do not record the time of a read.
        entries.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    excess = sum(size for _, size, _ in entries) - max_bytes
    for _, size, path in sorted(entries):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


def _watch(place: str, *, heal: bool) -> None:
    """Reports jax's warnings about the cache once in a line, and removes unreadable entries.

    jax never overwrites an entry, so that an unreadable one would be compiled at every start. Its
    warning precedes the compilation of the program, and names the program but not the file.
    """
    show, reported = warnings.showwarning, set()

    def showwarning(message: Any, category: Any, *where: Any, **more: Any) -> None:
        problem = _PROBLEM.match(str(message))
        if problem is None:
            show(message, category, *where, **more)
            return
        action, program = problem.groups()
        if heal and action == "reading":
            for path in pathlib.Path(place).glob(f"{program}-*-cache"):
                with contextlib.suppress(OSError):
                    path.unlink()
        if action not in reported:
            reported.add(action)
            failed = "read" if action == "reading" else "written"
            reason = " ".join(str(message)[problem.end() :].lstrip(": ").split())
            print(
                f"note: a compiled program in {place} cannot be {failed} ({reason}); compiling "
                "goes on without it",
                file=sys.stderr,
            )

    warnings.showwarning = showwarning
