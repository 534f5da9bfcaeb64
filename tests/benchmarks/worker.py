"""The process of one side: sets itself up, then works whenever it is told to over a pipe.

    python worker.py REQUEST

REQUEST and all messages are JSON. The first answer says what the first call took, or in one
sentence why there is none; then each line `{"repeats": n}` on standard input is answered by n
times in seconds, behind one call more that is not timed. Between lines the process waits in a read.
What libraries print goes to standard error.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import machine
import numpy as np
from row import AbsentError

_WARM_CALLS = 4
_WARM_SECONDS = 2.0
_MIB = 2**10


def highest_memory(kind: str = "VmHWM") -> float | None:
    """The highest resident memory in MiB (`VmRSS`: that of now); None where it is not told.

    Not `getrusage`, whose maximum is inherited from the process that started this one. On a GPU
    that of the card, as the library's own allocator counts it.
    """
    if machine.device() != "cpu":
        return _memory_of_card(kind)
    try:
        text = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{kind}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / _MIB if found else None


def _memory_of_card(kind: str) -> float | None:
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None:
        peak = kind == "VmHWM"
        held = torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
        return held / 2**20
    told = (jax.local_devices()[0].memory_stats() or {}) if jax is not None else {}
    value = told.get("peak_bytes_in_use" if kind == "VmHWM" else "bytes_in_use")
    return None if value is None else value / 2**20


def forget_highest_memory() -> bool:
    """Starts the highest memory anew from what is held now; False where that is not allowed.

    What the compiler had and gave back is returned to the system before. The allocator of jax
    on a card cannot forget: its highest memory is that of compiling too.
    """
    if machine.device() != "cpu":
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.cuda.reset_peak_memory_stats()
        return torch is not None
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def timed(run: Any) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def sentence(error: BaseException) -> str:
    """An error as one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def save_answers(path: str, answers: Mapping[str, Any]) -> None:
    """Writes arrays by `answer` or `answer:array`."""
    flat = {}
    for name, value in answers.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name}:{part}": np.asarray(array) for part, array in parts.items()}
    np.savez(path, **flat)


def prepare(request: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Sets the side up and calls it until it is warm; returns it and what is known of it."""
    if request["config"]:
        from rcnn_jax.configuration import loading
        from rcnn_jax.startup import xla_flags

        config: Any = loading.load(request["config"])
        xla_flags.apply(config.xla_flags)
    for name in request["imports"]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise AbsentError(f"{name} is not installed: pip install 'rcnn-jax[bench]'") from error
    module, _, function = request["set_up"].partition(":")
    set_up = getattr(importlib.import_module(module), function)
    held = highest_memory("VmRSS")
    prepared = set_up(folder=pathlib.Path(request["folder"]), **request["arguments"])
    first = timed(prepared.run)
    if prepared.answers is not None:
        save_answers(request["answers"], prepared.answers())
    warm = []
    while not warm or (len(warm) < _WARM_CALLS and sum(warm) < _WARM_SECONDS):
        warm.append(timed(prepared.run))
    facts = {
        "first_s": first,
        "warm_s": statistics.median(warm),
        "work": prepared.work,
        "unit": prepared.unit,
        "answers": prepared.answers is not None,
        "settings": dict(prepared.settings),
        "held_mib": held,
        "peak_with_compilation_mib": _above(held),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    gc.collect()
    return prepared, facts | {"peak_is_of_running": forget_highest_memory()}


def _above(held: float | None) -> float | None:
    now = highest_memory()
    return None if held is None or now is None else now - held


def main() -> None:
    """Answers until its input ends."""
    request = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    try:
        prepared, facts = prepare(request)
    except AbsentError as error:
        reply({"absent": str(error)})
        return
    except Exception as error:
        reply({"failed": sentence(error)})
        raise
    reply({"ready": facts})
    held = facts["held_mib"]
    for line in sys.stdin:
        repeats = json.loads(line)["repeats"]
        try:
            gc.disable()
            # While it waited others filled the caches, and the system may have taken memory back
            # (a virtual machine hands freed pages to its host within seconds), which in training
            # never happens between two steps.
            prepared.run()
            seconds = [timed(prepared.run) for _ in range(repeats)]
            gc.enable()
        except Exception as error:
            reply({"failed": sentence(error)})
            raise
        reply({"seconds": seconds, "peak_mib": _above(held)})


if __name__ == "__main__":
    main()
