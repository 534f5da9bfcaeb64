"""Measures this project beside PyTorch, prints a table and writes JSON.

    python tests/benchmarks/run.py                        # the usual rows
    python tests/benchmarks/run.py rcnn_train_lrn_128_32 'recurrent_*'
    python tests/benchmarks/run.py --list
    python tests/benchmarks/run.py --table=tests/benchmarks/results/cpu.json

See README.md beside this file.
"""

import math
import os
import pathlib
import sys
import time

import alternate
import machine
import row as row_lib
from absl import app, flags

import report
from rcnn_jax.errors import UserError
from rcnn_jax.output import tables

_RESULTS = pathlib.Path(__file__).resolve().parent / "results"

_LIST = flags.DEFINE_bool("list", False, "List the rows and end.")
_TABLE = flags.DEFINE_string("table", None, "Print a file of results as Markdown and end.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "File of results; rows in it that are measured now are replaced. cpu.json (or "
    "gpu.json) in the folder results, or for --quick none, unless given.",
)  # fmt: skip
_ROUNDS = flags.DEFINE_integer("rounds", 7, "How often the sides take turns.", lower_bound=1)
_WINDOW = flags.DEFINE_float("window", 0.6, "Seconds a side is timed in one turn, at least.", 0.0)
_OTHERS = flags.DEFINE_float(
    "others", 0.05, "Cores that others may keep busy before a row counts as disturbed.", 0.0
)
_LIMIT = flags.DEFINE_float("limit", 900.0, "Seconds that a side may be silent.", 1.0)
_SKIP = flags.DEFINE_list("skip", [], "Sides to leave out, such as 'torch.compile*'.")
_PLATFORM = flags.DEFINE_enum("platform", "cpu", list(machine.PLATFORMS), "What is measured.")
_MINUTES = flags.DEFINE_float(
    "minutes", None, "No row is begun that may not end within this time; none unless given.", 0.0
)
_MISSING = flags.DEFINE_bool("missing", False, "Leave out rows that the file of results has.")
_QUICK = flags.DEFINE_bool("quick", False, "Two rounds of tiny rows, to see that they work.")


def main(argv: list[str]) -> int:
    """Measures the rows that are named; returns the exit code."""
    rows = row_lib.discover()
    if _LIST.value:
        lines = [[name, "usual" if row.usual else "", row.about] for name, row in rows.items()]
        print(tables.table(lines, ["row", "", "what it measures"]))
        return 0
    if _TABLE.value:
        found = report.load(pathlib.Path(_TABLE.value))
        if not found:
            raise UserError(f"--table={_TABLE.value}: there is no such file, or nothing in it.")
        print(report.markdown(found))
        return 0
    chosen = row_lib.select(argv[1:], rows)
    output = None if _QUICK.value else _RESULTS / f"{_PLATFORM.value}.json"
    output = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else output
    if _MISSING.value and output is not None:
        there = report.load(output)
        chosen = [row for row in chosen if not report.has(there, row.name, _QUICK.value)]
    began, longest = time.monotonic(), 0.0
    until = math.inf if _MINUTES.value is None else began + 60 * _MINUTES.value
    for number, row in enumerate(chosen, start=1):
        row_began = time.monotonic()
        left = until - row_began
        if left < longest or left <= 0:
            names = ", ".join(row.name for row in chosen[number - 1 :])
            print(f"no time is left for {names}")
            break
        print(f"{row.name} ({number} of {len(chosen)}): {row.about}", flush=True)
        measured = alternate.measure(
            row,
            rounds=2 if _QUICK.value else _ROUNDS.value,
            quick=_QUICK.value,
            window=0.0 if _QUICK.value else _WINDOW.value,
            allowed_load=_OTHERS.value,
            limit=_LIMIT.value,
            skip=_SKIP.value,
            platform=_PLATFORM.value,
            say=lambda text: print(text, flush=True),
        )
        if output is not None:
            report.merge(output, row.name, measured)
        longest = max(longest, time.monotonic() - row_began)
        print(report.terminal({row.name: measured}), flush=True)
        print(f"{time.monotonic() - began:.0f} s so far\n", flush=True)
    if output is not None:
        print(f"written to {output}")
    return 0


def guarded(argv: list[str]) -> int:
    """A mistake of the user's ends in one sentence; Ctrl-C loses the row under way alone."""
    try:
        return main(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; rows that were measured are written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    app.run(guarded)
