"""Builds the library of compiled kernels from `native/`.

    python -m rcnn_jax.kernels.build

The command builds into the folder of this package, for a checkout that was never installed and for
an installation that was made without a compiler. `pip install` runs the same code through
`hatch_build.py`, which loads this file by its path: it imports neither jax nor this package.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""The folder of this package; its `native` holds the sources."""

LIBRARY = "librcnn_kernels.so"
"""File name of the library, on every system."""

REPORT = "build.txt"
"""File beside the library. Its first line says what it was built by, or why there is none."""

SWITCH = "RCNN_JAX_BUILD_KERNELS"
"""Environment variable; 0 installs without compiling."""

COMMAND = "python -m rcnn_jax.kernels.build"
"""The command that builds anew."""

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden")
_WIDE = {"isa_avx2.cc": "-march=x86-64-v3", "isa_avx512.cc": "-march=x86-64-v4"}
_COMPILERS = ("c++", "g++", "clang++")
# Whatever a compiler of C++17 with its standard library can do at least.
_TRIAL = """
#include <atomic>
#include <optional>
#include <string>
extern "C" int trial() {
  if (std::optional<std::string> text = "17"; text) return static_cast<int>(text->size());
  return 0;
}
"""


class BuildError(Exception):
    """The library was not built. The first line of the message says why."""


@dataclasses.dataclass(frozen=True)
class Headers:
    """The headers of XLA that a library is built with.

    Attributes:
        folder: The folder to include.
        version: The version of jaxlib that they belong to, such as `0.10.2`.
    """

    folder: Path
    version: str


def switched_off() -> bool:
    """Returns whether the environment asks for an installation without compiling.

    Raises:
        BuildError: The variable is neither 0 nor 1.
    """
    value = os.environ.get(SWITCH, "1")
    if value not in ("0", "1"):
        raise BuildError(f"{SWITCH}={value!r} must be 0 (install without compiling) or 1.")
    return value == "0"


def compiler() -> list[str] | None:
    """Returns the command of the first compiler of C++17 that works, None if there is none.

    `$CXX` alone counts where it is set; else `c++`, `g++` and `clang++` are tried.
    """
    if os.name != "posix":
        return None
    chosen = shlex.split(os.environ.get("CXX", ""))
    for command in [chosen] if chosen else [[name] for name in _COMPILERS]:
        if shutil.which(command[0]) and _works(command):
            return command
    return None


def headers() -> Headers:
    """Returns the headers of the installed jaxlib.

    Raises:
        BuildError: jaxlib is not installed.
    """
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or not spec.submodule_search_locations:
        raise BuildError("jaxlib, whose headers are needed, is not installed")
    package = Path(next(iter(spec.submodule_search_locations)))
    folder = package / "include"
    if not (folder / "xla/ffi/api/ffi.h").is_file():
        raise BuildError(f"there is no xla/ffi/api/ffi.h in {folder}")
    found = re.search(r'^_version = "([\d.]+)', (package / "version.py").read_text(), re.MULTILINE)
    return Headers(folder, found[1] if found else "unknown")


def digest(native: Path = FOLDER / "native") -> str:
    """Returns the digest of the sources, of the flags and of the kind of machine.

    A library holds the digest of what it was built from, so that a stale one is never used.

    Args:
        native: The folder of the sources.
    """
    text = hashlib.sha256(repr((_FLAGS, _WIDE, sys.platform, platform.machine())).encode())
    for file in sorted(native.iterdir()):
        if file.suffix in (".cc", ".h", ".inl"):
            content = file.read_bytes()
            text.update(f"\n{file.name} {len(content)}\n".encode())
            text.update(content)
    return text.hexdigest()[:32]


def is_current(library: Path, version: str, native: Path = FOLDER / "native") -> bool:
    """Returns whether a library was built from the sources as they are, with some headers.

    Args:
        library: File of the library; it need not exist.
        version: Version of jaxlib that the headers belong to.
        native: The folder of the sources.
    """
    return library.is_file() and f"{digest(native)} {version}\0".encode() in library.read_bytes()


def build(target: Path, extra: tuple[str, ...] = (), native: Path = FOLDER / "native") -> str:
    """Compiles and links the library, and replaces the target in one step.

    Args:
        target: File of the library to write.
        extra: Further flags of the compiler and the linker, such as `-fsanitize=address`.
        native: The folder of the sources.

    Returns:
        A line that names the compiler and the headers.

    Raises:
        BuildError: There is no compiler, no header, or the compilation fails.
    """
    command = compiler()
    if command is None:
        raise BuildError(_no_compiler())
    include = headers()
    mac = sys.platform == "darwin"
    flags = [*_FLAGS, "-pthread", f"-I{native}", f"-isystem{include.folder}", *extra]
    built_from = [f'-DRCNN_BUILT_FROM="{digest(native)} {include.version}"']
    with tempfile.TemporaryDirectory() as scratch:
        jobs, objects = [], []
        # Those that take longest first, so that all threads end at about the same time.
        for file in sorted(native.glob("*.cc"), key=_weight, reverse=True):
            wide = _WIDE.get(file.name)
            if wide and platform.machine() not in ("x86_64", "AMD64"):
                continue
            objects.append(f"{scratch}/{file.stem}.o")
            special = [wide] if wide else built_from if file.name == "built_from.cc" else []
            jobs.append([*command, *flags, *special, "-c", str(file), "-o", objects[-1]])
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(_run, jobs))
        linked = f"{scratch}/{LIBRARY}"
        hide = [] if mac else ["-Wl,--exclude-libs,ALL"]
        _run([*command, "-shared", *objects, "-o", linked, "-pthread", *hide, *extra])
        new = target.with_name(f"{target.name}.{os.getpid()}.new")
        try:
            shutil.copyfile(linked, new)
            os.replace(new, target)
        except OSError as error:
            raise BuildError(f"{target} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
    return f"built by {_named(command)} with the headers of jaxlib {include.version}"


def build_into(folder: Path, native: Path = FOLDER / "native") -> str:
    """Builds the library into a folder, and writes the report beside it.

    Where the library cannot be built, an old one is removed, so that the report is true.

    Args:
        folder: The folder of the library and of its report.
        native: The folder of the sources.

    Returns:
        The reason why there is no library, in one line; empty if there is one.
    """
    library, report = folder / LIBRARY, folder / REPORT
    try:
        if switched_off():
            raise BuildError(f"{SWITCH}=0 was set")
        text, reason = build(library, native=native), ""
    except BuildError as error:
        text = str(error)
        reason = text.splitlines()[0]
        with contextlib.suppress(OSError):
            library.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # A folder that nobody may write: the reason is returned.
        report.write_text(f"{text}\n", encoding="utf-8")
    return reason


def _no_compiler() -> str:
    chosen = os.environ.get("CXX", "")
    if os.name != "posix":
        return "they are built on Linux and macOS only"
    tried = f"CXX={chosen} does not work" if chosen else f"tried {', '.join(_COMPILERS)}"
    return f"no C++17 compiler was found ({tried})"


def _works(command: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "trial.cc")
        source.write_text(_TRIAL)
        try:
            _run([*command, *_FLAGS, "-shared", str(source), "-o", f"{scratch}/trial.so"])
        except BuildError:
            return False
    return True


def _run(command: list[str]) -> None:
    """Runs a compiler, and raises `BuildError` with its messages where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, stdin=subprocess.DEVNULL, text=True,
            errors="replace", env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        messages = done.stderr.strip()
        lines = messages.splitlines() or [f"exit code {done.returncode}"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(
            f"{command[0]} failed: {first.strip()}\n\n{shlex.join(command)}\n{messages}"
        )


def _weight(file: Path) -> int:
    """Returns a size by which files are compiled: the headers of XLA take the most time."""
    return file.stat().st_size + 10**6 * file.stem.endswith("_calls")


def _named(command: list[str]) -> str:
    """Returns the name and the version of a compiler."""
    lines: Iterator[str] = iter(())
    with contextlib.suppress(OSError):
        told = subprocess.run(
            [*command, "--version"], capture_output=True, check=False, text=True, errors="replace"
        )
        lines = iter(told.stdout.splitlines())
    return next(lines, shlex.join(command))


def main() -> int:
    """Builds the library into the folder of this package.

    Returns:
        The exit code: 0 if the library is there, else 1.
    """
    reason = build_into(FOLDER)
    if reason:
        report = FOLDER / REPORT
        print(f"error: the compiled kernels were not built: {reason}", file=sys.stderr)
        if report.is_file() and len(report.read_text(encoding="utf-8").splitlines()) > 1:
            print(f"The compiler's messages are in {report}", file=sys.stderr)
        return 1
    print(f"{FOLDER / LIBRARY}: {(FOLDER / REPORT).read_text(encoding='utf-8').strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
