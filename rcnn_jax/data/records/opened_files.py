"""The files that were opened while a data set was read, so that changes of them are detected."""

import contextlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.output.digests import json_digest

# The file lies beside prepared records and holds at most `MOST` opened files; a data set whose code
# opens more lists them in `files`.
NAME = "opened_files.json"
MOST = 10_000

_watching: list[set[str]] = []
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not writes:
            for opened in _watching:
                opened.add(os.fsdecode(arguments[0]))


@contextlib.contextmanager
def watch(folders: Sequence[Path], without: Collection[Path]) -> Iterator[set[str]]:
    """Records the files that Python code opens for reading.

    Args:
        folders: Only files below these folders are recorded; Python code and libraries are not.
        without: Files that are not recorded, and folders whose content is not.

    Yields:
        The set of their paths; it is complete once the context is left.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)  # An audit hook cannot be removed.
        _hooked = True
    opened: set[str] = set()
    _watching.append(opened)
    try:
        yield opened
    finally:
        # Compared by identity, because two sets may be equal.
        _watching[:] = [other for other in _watching if other is not opened]
        left_out = {path.resolve() for path in without}
        below = [folder.resolve() for folder in folders]
        for name in list(opened):
            path = Path(name).resolve()
            inside = any(path.is_relative_to(folder) for folder in below) and path.is_file()
            is_code = path.suffix in (".py", ".pyc", ".so")
            opened.discard(name)
            if inside and not is_code and left_out.isdisjoint({path, *path.parents}):
                opened.add(str(path))


def write(folder: Path, opened: Collection[str]) -> str:
    """Stores names, sizes and modification times of opened files beside records.

    Args:
        folder: Folder of the records.
        opened: Paths of the files, from `watch`.

    Returns:
        8 hexadecimal digits that identify what was stored; `""` if no file was opened.
    """
    if not opened:
        return ""
    facts = [_facts(path) for path in sorted(opened)[:MOST]]
    (folder / NAME).write_text(json.dumps(facts))
    return json_digest(facts)[:8]


def unchanged(folder: Path) -> bool:
    """Returns whether the files that were opened for the records in a folder are unchanged.

    Args:
        folder: Folder of the records.

    Returns:
        True also if no file was opened; false if what was stored cannot be read.
    """
    try:
        noted = json.loads((folder / NAME).read_text())
        return all(_facts(path) == [path, *facts] for path, *facts in noted)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, TypeError):
        return False


def _facts(path: str) -> list[Any]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return [path, None, None]
    return [path, status.st_size, status.st_mtime_ns]
