"""Measures a row: a process for each side, which take turns round by round.

Absolute times drift on a shared machine; what is compared is what ran within the same seconds.
"""

import contextlib
import fnmatch
import json
import math
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import machine
import numpy as np
from row import Row, Side

import figures

_WORKER = pathlib.Path(__file__).resolve().parent / "worker.py"
_REPOSITORY = _WORKER.parents[2]
_SETTLE = 0.02  # seconds: threads of the side before may still spin for a moment
_MOST_REPEATS = 50


class StoppedError(Exception):
    """A side cannot be measured, or no longer; `state` is `absent`, `failed` or `differs`."""

    def __init__(self, state: str, message: str):
        """Keeps the one sentence that the table shows."""
        super().__init__(message)
        self.state = state


def _tree_of(commit: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes the files of a commit into a folder, which it returns."""
    tree = folder / f"tree-{commit}"
    if not tree.exists():
        git = ["git", "-C", str(_REPOSITORY)]
        try:
            done = subprocess.run([*git, "archive", commit], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise StoppedError("absent", f"this checkout has no commit {commit}") from error
        tree.mkdir()
        subprocess.run(["tar", "-x", "-C", str(tree)], input=done.stdout, check=True)
    return tree


class Worker:
    """The process of one side."""

    def __init__(
        self,
        side: Side,
        arguments: Mapping[str, Any],
        folder: pathlib.Path,
        number: int,
        platform: str = "cpu",
    ):
        """Starts the process.

        Args:
            side: what it runs.
            arguments: all keyword arguments of the side's function.
            folder: of the row, for weights and answers.
            number: of the side in its row.
            platform: `cpu` or `gpu`.
        """
        self.answers = folder / f"answers{number}.npz"
        self._errors = folder / f"errors{number}.txt"
        request = {
            "set_up": side.set_up,
            "arguments": dict(arguments),
            "imports": list(side.imports),
            # Its compiler flags are for CPUs.
            "config": side.config if platform == "cpu" else "",
            "folder": str(folder),
            "answers": str(self.answers),
        }
        # A cache of its own, so that what it compiles was not compiled before.
        cache = tempfile.mkdtemp(dir=folder, prefix="compiled")
        env = machine.environment(platform) | {"TORCHINDUCTOR_CACHE_DIR": cache}
        program = _WORKER
        if side.commit:
            tree = _tree_of(side.commit, folder)
            program = tree / _WORKER.relative_to(_REPOSITORY)
            env["PYTHONPATH"] = str(tree)
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(program), json.dumps(request)],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.pid = self._process.pid

    def ready(self, limit: float) -> dict[str, Any]:
        """Waits until the side is warm; returns what is known of it."""
        return self._answer(limit)["ready"]

    def run(self, repeats: int, limit: float) -> dict[str, Any]:
        """Has the side warm up and work; returns `seconds` of each call and `peak_mib`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"repeats": repeats}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is said below
        return self._answer(limit)

    def _answer(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit)[0]:
            raise StoppedError("failed", f"it did not answer within {limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise StoppedError("failed", self._end())
        answer = json.loads(line)
        for state in ("absent", "failed"):
            if state in answer:
                raise StoppedError(state, answer[state])
        return answer

    def _end(self) -> str:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{hint}"
        said = self._errors.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        return f"its process ended with {code}: {last.strip()[:200]}"

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def measure(
    row: Row,
    *,
    rounds: int,
    quick: bool = False,
    window: float = 0.6,
    allowed_load: float = 0.05,
    limit: float = 900.0,
    skip: Sequence[str] = (),
    platform: str = "cpu",
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measures all points of a row.

    Args:
        row: what is measured.
        rounds: how often the sides take turns.
        quick: whether the row is made tiny.
        window: seconds that a side is timed in one turn, at least; one call at least.
        allowed_load: cores that others may have kept busy before the row counts as disturbed.
        limit: seconds that a side may be silent.
        skip: patterns of the names of sides that are left out.
        platform: what it is measured on, `cpu` or `gpu`.
        say: is told what is going on.

    Returns:
        The row as it is written: `points`, and `fits` over them.
    """
    points = []
    left = [s for s in row.sides if not any(fnmatch.fnmatchcase(s.name, p) for p in skip)]
    for at in row.points:
        if len(row.points) > 1:
            say(f"  {', '.join(f'{key} = {value}' for key, value in at.items())}")
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            point = _Point(row, left, at, quick, pathlib.Path(folder), limit, platform, say)
            take = point.compile_in_turns if row.compares == "compile" else point.take_turns
            with contextlib.closing(point):
                points.append({"at": dict(at), **take(rounds, window, allowed_load)})
    return {
        "about": row.about,
        "compares": row.compares,
        "quick": quick,
        "rounds": rounds,
        "machine": machine.describe(platform),
        "points": points,
        "fits": figures.fits(points),
    }


class _Point:
    """One point of a row while it is measured."""

    def __init__(
        self,
        row: Row,
        sides: Sequence[Side],
        at: Mapping[str, Any],
        quick: bool,
        folder: pathlib.Path,
        limit: float,
        platform: str,
        say: Callable[[str], None],
    ):
        self._row, self._all, self._at, self._quick = row, sides, at, quick
        self._folder = folder
        self._limit, self._platform, self._say = limit, platform, say
        self._tolerance = figures.DISAGREEMENT if row.tolerance is None else row.tolerance
        self._load = machine.Load()
        self._workers: dict[str, Worker] = {}
        self._sides: dict[str, dict[str, Any]] = {}
        self._agreement: dict[str, dict[str, float]] = {}
        self._references: dict[str, dict[str, np.ndarray]] = {}

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def take_turns(self, rounds: int, window: float, allowed_load: float) -> dict[str, Any]:
        """Prepares all sides, one after the other, and then has them work in turns."""
        for side in self._all:
            with self._stopping(side.name):
                self._start(side)
        times: dict[str, list[float]] = {name: [] for name in self._workers}
        repeats = {
            name: min(max(1, math.ceil(window / self._sides[name]["warm_s"])), _MOST_REPEATS)
            for name in self._workers
        }
        for number in range(rounds):
            order = list(self._workers)
            for name in reversed(order) if number % 2 else order:
                with self._stopping(name):
                    time.sleep(_SETTLE)
                    worker = self._workers[name]
                    with self._load.window(worker.pid):
                        answer = worker.run(repeats[name], self._limit)
                    times[name].append(statistics.median(answer["seconds"]))
                    self._sides[name] |= {"peak_mib": answer["peak_mib"]}
        for name in self._workers:
            warm = statistics.median(times[name])
            self._sides[name] |= {
                "repeats": repeats[name],
                "compile_s": max(self._sides[name]["first_s"] - warm, 0.0),
            }
        return self._result({name: times[name] for name in self._workers}, allowed_load)

    def compile_in_turns(self, rounds: int, window: float, allowed_load: float) -> dict[str, Any]:
        """Starts every side anew in every round: what counts is its first call."""
        del window
        times: dict[str, list[float]] = {side.name: [] for side in self._all}
        for number in range(rounds):
            # The first round keeps its order: its first side leaves the weights.
            for side in reversed(self._all) if number % 2 else self._all:
                if self._sides.get(side.name, {}).get("state", "measured") != "measured":
                    continue
                with self._stopping(side.name):
                    facts = self._start(side, watched=True)
                    times[side.name].append(max(facts["first_s"] - facts["warm_s"], 0.0))
                self.close()
        measured = {n: t for n, t in times.items() if self._sides[n]["state"] == "measured"}
        return self._result(measured, allowed_load)

    @contextlib.contextmanager
    def _stopping(self, name: str) -> Iterator[None]:
        """A side that stops here is left out from here on, and says why."""
        try:
            yield
        except StoppedError as stopped:
            self._sides[name] = {"state": stopped.state, "message": str(stopped)}
            self._say(f"  {name}: {stopped.state}: {stopped}")
            if name in self._workers:
                self._workers.pop(name).close()

    def _start(self, side: Side, watched: bool = False) -> dict[str, Any]:
        """Sets a side up and compares its answers; returns what is known of it."""
        number = self._all.index(side)
        tiny = self._row.quick if side.quick is None else side.quick
        arguments = {**side.arguments, **self._at, **(tiny if self._quick else {})}
        worker = Worker(side, arguments, self._folder, number, self._platform)
        self._workers[side.name] = worker
        with self._load.window(worker.pid) if watched else contextlib.nullcontext():
            facts = worker.ready(self._limit)
        self._say(f"  {side.name}: first call {facts['first_s']:.1f} s, then {facts['warm_s']:.4g}")
        if facts["answers"]:
            self._compare(side.name, worker.answers)
        self._sides[side.name] = {"state": "measured", "ours": side.ours, **facts}
        return facts

    def _compare(self, name: str, path: pathlib.Path) -> None:
        answers: dict[str, dict[str, np.ndarray]] = {}
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                answer, _, part = key.partition(":")
                answers.setdefault(answer, {})[part] = file[key]
        for answer, parts in answers.items():
            reference = self._references.setdefault(answer, parts)
            if reference is parts:
                continue
            try:
                distance = figures.relative_distance(reference, parts)
            except ValueError as error:
                raise StoppedError("differs", f"not timed: its {answer}: {error}") from error
            self._agreement.setdefault(name, {})[answer] = distance
            if distance > self._tolerance:
                raise StoppedError(
                    "differs",
                    f"not timed: its {answer} is another, at a relative L2 distance of "
                    f"{distance:.2g} where {self._tolerance:g} is allowed",
                )

    def _result(self, times: Mapping[str, Sequence[float]], allowed_load: float) -> dict[str, Any]:
        others = self._load.others
        for name, seconds in times.items():
            first, middle, third = figures.quartiles(seconds)
            side = self._sides[name]
            side |= {"seconds": middle, "first_quartile": first, "third_quartile": third}
            side |= {"rounds": list(seconds)}
            if side["work"]:
                side["per_s"] = side["work"] / middle
        result = {
            "sides": {side.name: self._sides[side.name] for side in self._all},
            "same_function": self._agreement,
            "others_cores": others,
            "disturbed": others is not None and others > allowed_load,
        }
        if self._row.compares == "rate":
            return result | {"shares": _shares(times, self._sides)}
        ours = [side.name for side in self._all if side.ours and side.name in times]
        ratios = [
            {"ours": own, "other": side.name, **figures.ratio(times[own], times[side.name])}
            for side in self._all
            if not side.ours and side.name in times
            for own in ours
        ]
        medians = {name: self._sides[name]["seconds"] for name in times}
        return result | {
            "ratios": ratios,
            "targets": figures.judge(self._row.targets, ratios, medians),
        }


def _shares(
    times: Mapping[str, Sequence[float]], sides: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The rate of each side over that of the first, round by round."""
    names = [name for name in times if sides[name]["work"]]
    found = []
    for name in names:
        work = sides[name]["work"] / sides[names[0]]["work"]
        first, middle, third = figures.quartiles(
            [work * a / b for a, b in zip(times[names[0]], times[name], strict=True)]
        )
        entry = {"share": middle, "first_quartile": first, "third_quartile": third}
        found.append({"side": name, "of": names[0], **entry})
    return found
