"""What the files of a workdir say; one that is damaged or missing does not end the report."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.output import tables

TRAINING = "training"  # what lines of metrics.jsonl without a split are of


Points = list[tuple[float, float | None]]


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """A run as its files have it.

    Attributes:
        path: The workdir.
        config: Its config, {} where there is none.
        curves: split -> metric -> (step, value) in the order of steps; None where a value was NaN
            or infinite.
        epoch: That of the last line of metrics, or None.
        unread: Lines of metrics.jsonl that are none.
        evaluations: Name of the file -> what `evaluate` found.
        iterations: What `iterations` found, or None.
        problems: A sentence for each file that is there and cannot be read.
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
        found = self.config or self.curves or self.evaluations or self.iterations
        return not found and not self.problems

    @property
    def last_step(self) -> int | None:
        """The last step that a line of metrics is of."""
        ends = [points[-1][0] for own in self.curves.values() for points in own.values()]
        return int(max(ends)) if ends else None

    def setting(self, *keys: str) -> Any:
        """A value of the config by its path; None where it has none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read(path: pathlib.Path) -> RunFiles:
    """Reads all that a report is made of but the pictures.

    Args:
        path: The workdir.

    Returns:
        What is there.
    """
    problems: list[str] = []
    curves, epoch, unread = read_metrics(path / "metrics.jsonl", problems)
    evaluations = {
        file.name: found
        for file in sorted(path.glob("evaluation*.json"))
        if (found := read_json(file, problems)) is not None
    }
    for name in [name for name, found in evaluations.items() if not _is_evaluation(found)]:
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
    """A JSON object from a file.

    Args:
        file: Where it is.
        problems: A sentence is appended where the file is there and holds none.

    Returns:
        The object; None where there is none.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        why = f"a {type(found).__name__} and no object"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
    problems.append(f"{file.name} cannot be read ({why}); it is left out.")
    return None


def read_metrics(
    file: pathlib.Path, problems: list[str]
) -> tuple[dict[str, dict[str, Points]], float | None, int]:
    """The curves of a metrics.jsonl.

    Args:
        file: Where it is; it may be missing, be written at this moment or end in half a line.
        problems: See `read_json`.

    Returns:
        As in `RunFiles`: curves, epoch and unread. Of two lines of one step the later counts.
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}, None, 0
    except OSError as error:
        problems.append(f"{file.name} cannot be read ({error.strerror}); it is left out.")
        return {}, None, 0
    found: dict[str, dict[str, dict[float, float | None]]] = {}
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
                points = found.setdefault(split, {}).setdefault(name, {})
                points[step] = value if tables.is_number(value) else None
    curves = {
        split: {name: sorted(points.items()) for name, points in own.items()}
        for split, own in found.items()
    }
    return curves, epoch, unread


def _entry(line: str) -> dict[str, Any] | None:
    """A line of metrics; None for one that is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and tables.is_number(entry.get("step")) else None


def _is_evaluation(found: Mapping[str, Any]) -> bool:
    return isinstance(found.get("metrics"), dict) and isinstance(found.get("details", {}), dict)


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
