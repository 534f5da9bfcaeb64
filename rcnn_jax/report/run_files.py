"""Reads the files of a workdir; a damaged or missing file does not end the report."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.output import tables

TRAINING = "training"  # split of the lines of metrics.jsonl that name none


Points = list[tuple[float, float | None]]


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The contents of the files of a run.

    Attributes:
        path: Workdir of the run.
        config: Config of the run; empty without a config.json.
        curves: Mapping from split to metric to points (step, value) in the order of steps; None
            replaces a value that was NaN or infinite.
        epoch: Epoch of the last line of metrics; None if no line has one.
        unread: Number of lines of metrics.jsonl that cannot be read.
        evaluations: Results of `evaluate` by the name of the file.
        iterations: Result of `iterations`; None without an iterations.json.
        problems: A sentence for each file that exists but cannot be read.
    """

    path: pathlib.Path
    config: Mapping[str, Any]
    curves: Mapping[str, Mapping[str, Points]]
    epoch: float | None
    unread: int
    evaluations: Mapping[str, Mapping[str, Any]]
    iterations: Mapping[str, Any] | None
    problems: Sequence[str]

    @property
    def empty(self) -> bool:
        """Whether the folder holds nothing of a run."""
        anything = self.config or self.curves or self.evaluations or self.iterations
        return not anything and not self.problems

    @property
    def last_step(self) -> int | None:
        """The last step that has a line of metrics; None if there are no metrics."""
        ends = [points[-1][0] for metrics in self.curves.values() for points in metrics.values()]
        return int(max(ends)) if ends else None

    def setting(self, *keys: str) -> Any:
        """Returns a value of the config.

        Args:
            keys: Keys from the top of the config down to the value.

        Returns:
            The value; None if the config has no such key.
        """
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read(path: pathlib.Path) -> RunFiles:
    """Reads all files of a report except the pictures.

    Args:
        path: Workdir of the run.

    Returns:
        The contents of the files.
    """
    problems: list[str] = []
    curves, epoch, unread = read_metrics(path / "metrics.jsonl", problems)
    evaluations = {
        file.name: evaluation
        for file in sorted(path.glob("evaluation*.json"))
        if (evaluation := read_json(file, problems)) is not None
    }
    for name in [
        name for name, evaluation in evaluations.items() if not _is_evaluation(evaluation)
    ]:
        problems.append(f"{name} is no evaluation; it is left out.")
        del evaluations[name]
    iterations = read_json(path / "iterations.json", problems)
    if iterations is not None and not _are_rows(iterations.get("iterations")):
        problems.append("iterations.json has no rows; it is left out.")
        iterations = None
    return RunFiles(
        path=path,
        config=read_json(path / "config.json", problems) or {},
        curves=curves,
        epoch=epoch,
        unread=unread,
        evaluations=evaluations,
        iterations=iterations,
        problems=problems,
    )


def read_json(file: pathlib.Path, problems: list[str]) -> dict[str, Any] | None:
    """Reads a JSON object from a file.

    Args:
        file: Path of the file.
        problems: List to which a sentence is appended if the file exists but holds no JSON object.

    Returns:
        The object; None if the file does not exist or cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        why = f"a {type(content).__name__} and no object"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
    problems.append(f"{file.name} cannot be read ({why}); it is left out.")
    return None


def read_metrics(
    file: pathlib.Path, problems: list[str]
) -> tuple[dict[str, dict[str, Points]], float | None, int]:
    """Reads the curves from a metrics.jsonl.

    Args:
        file: Path of the file, which may be missing, be written at this moment or end in half a
            line.
        problems: List to which a sentence is appended if the file exists but cannot be read.

    Returns:
        The attributes `curves`, `epoch` and `unread` of `RunFiles`. Of two lines of one step the
        later one counts.
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}, None, 0
    except OSError as error:
        problems.append(f"{file.name} cannot be read ({error.strerror}); it is left out.")
        return {}, None, 0
    values_by_step: dict[str, dict[str, dict[float, float | None]]] = {}
    epoch, unread = None, 0
    for line in filter(str.strip, lines):
        entry = _entry(line)
        if entry is None:
            unread += 1
            continue
        step, split = entry.pop("step"), str(entry.pop("split", TRAINING))
        now = entry.pop("epoch", None)
        epoch = float(now) if tables.is_number(now) else epoch
        for name, value in entry.items():
            if value is None or isinstance(value, int | float):
                points = values_by_step.setdefault(split, {}).setdefault(name, {})
                points[step] = value if tables.is_number(value) else None
    curves = {
        split: {name: sorted(points.items()) for name, points in metrics.items()}
        for split, metrics in values_by_step.items()
    }
    return curves, epoch, unread


def _entry(line: str) -> dict[str, Any] | None:
    """Parses a line of metrics; returns None if it cannot be read."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and tables.is_number(entry.get("step")) else None


def _is_evaluation(found: Mapping[str, Any]) -> bool:
    return isinstance(found.get("metrics"), dict) and isinstance(found.get("details", {}), dict)


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
