"""Which code a run was started with: commits, changes, versions, kernels; one line a start."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from rcnn_jax.kernels import forms
from rcnn_jax.output.files import write_atomically

FILE = "provenance.jsonl"
"""The file in a workdir; each start of a training appends a line."""

# Git answers within milliseconds, unless its folder lies on a disk that does not.
_GIT_S = 10
# A longer difference is not kept: somebody has untracked data under version control.
_MOST_BYTES = 5_000_000


def versions() -> dict[str, str]:
    """Returns the versions of Python and of this package's installed dependencies, by name."""
    installed = {"python": platform.python_version()}
    try:
        required = importlib.metadata.requires("rcnn-jax") or []
        installed["rcnn-jax"] = importlib.metadata.version("rcnn-jax")
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        required = ["jax", "flax", "optax", "orbax-checkpoint", "numpy"]
    names = {re.split(r"[^\w.-]", entry, maxsplit=1)[0] for entry in required}
    for name in sorted(names | {"jaxlib"}):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that nobody installed
    return installed


def repository(folder: str | pathlib.Path) -> dict[str, Any] | None:
    """Returns the state of the Git repository that a folder belongs to.

    Args:
        folder: Any folder.

    Returns:
        `folder`, the top of the repository; `commit`, 40 hexadecimal digits, or None before the
        first one; `changes`, a line of `git status --porcelain` for each file that differs from
        the commit or is new; and `difference`, the text of `git diff HEAD`. None where the folder
        belongs to no repository or Git is not installed.
    """
    top = _top(folder)
    if top is None:
        return None
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(folder, "status", "--porcelain") or ""
    difference = (
        (_git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or "") if commit else ""
    )
    return {
        "folder": top,
        "commit": commit.strip() if commit else None,
        "changes": changes.splitlines(),
        "difference": difference,
    }


def record(workdir: str | pathlib.Path, folders: Iterable[str | pathlib.Path] = ()) -> None:
    """Appends what a run is started with to `provenance.jsonl` of its workdir.

    Local changes are kept as `provenance-DIGEST.diff` beside it, once for each different text.

    Args:
        workdir: The folder of the run.
        folders: Folders whose repositories count besides that of this package, such as that of the
            config file and the current one.

    Raises:
        OSError: The workdir cannot be written.
    """
    workdir = pathlib.Path(workdir)
    package = pathlib.Path(__file__).resolve().parents[2]
    # Most folders belong to one repository, whose state is asked for once.
    tops = dict.fromkeys(_top(folder) for folder in (package, *folders))
    states = [state for top in tops if top is not None and (state := repository(top))]
    for state in states:
        difference = state.pop("difference").encode()
        if difference and len(difference) <= _MOST_BYTES:
            name = f"provenance-{hashlib.sha256(difference).hexdigest()[:12]}.diff"
            if not (workdir / name).exists():
                write_atomically(workdir / name, difference)
            state["difference"] = name
    entry = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": versions(),
        "kernels": forms.summary(),
        "repositories": states,
    }
    with open(workdir / FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _top(folder: str | pathlib.Path) -> str | None:
    """Returns the top of the repository that a folder belongs to; None where there is none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    return None if top is None else top.strip()


def _git(folder: str | pathlib.Path, *arguments: str) -> str | None:
    """The answer of a Git command that changes nothing; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
