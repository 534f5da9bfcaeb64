"""Sides that compute next to nothing, for tests of the harness."""

import os
import pathlib
import signal
from typing import Any

import numpy as np
from row import AbsentError, Prepared


def square(
    folder: pathlib.Path, *, name: str, log: str, order: int = 3, off: float = 0
) -> Prepared:
    """Squares some numbers, and writes its name into a file whenever it is called."""
    now: dict[str, Any] = {}

    def run() -> None:
        with pathlib.Path(log).open("a") as file:
            file.write(name)
        now["squares"] = np.arange(1.0, order + 1) ** 2 + off

    return Prepared(run, lambda: {"squares": now["squares"]}, work=2 * order, unit="numbers")


def absent(folder: pathlib.Path) -> Prepared:
    """Cannot be had."""
    raise AbsentError("this machine has no such thing")


def wrong(folder: pathlib.Path) -> Prepared:
    """Has a mistake in it."""
    raise RuntimeError("the reason\nin two lines")


def killed(folder: pathlib.Path, *, after: int) -> Prepared:
    """Is killed at the call of this number, as for want of memory."""
    calls = []

    def run() -> None:
        calls.append(1)
        if len(calls) > after:
            os.kill(os.getpid(), signal.SIGKILL)

    return Prepared(run)


def cached(folder: pathlib.Path, *, log: str) -> Prepared:
    """Writes down where torch would keep what it compiles."""
    with pathlib.Path(log).open("a") as file:
        print(os.environ["TORCHINDUCTOR_CACHE_DIR"], file=file)
    return Prepared(lambda: None)
