"""The page of a sweep: means and deviations of each variant, and the curves of all runs."""

import pathlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rcnn_jax.output import tables
from rcnn_jax.report import run_files
from rcnn_jax.report.chart import Series, line_chart
from rcnn_jax.report.markup import Markup, document, element, section, sentence, table
from rcnn_jax.report.page import is_percent
from rcnn_jax.report.run_files import TRAINING, Points

# Keys of a run in sweep.json that are not names of splits.
_ABOUT = ("variant", "seed", "config", "seconds", "starts")


class _Run(NamedTuple):
    variant: str
    seed: str
    seconds: float
    evaluations: Mapping[str, Mapping[str, Any]]  # by split
    folder: pathlib.Path | None  # None if there is no such folder inside that of the sweep


def make(path: pathlib.Path) -> str:
    """Makes the page of a sweep.

    Args:
        path: Folder of the sweep; only files in it are read.

    Returns:
        The HTML text of the page.
    """
    problems: list[str] = []
    sweep = run_files.read_json(path / "sweep.json", problems) or {}
    listed = sweep.get("runs")
    rows = listed if isinstance(listed, list) else []
    runs = [_run(path, row) for row in rows if isinstance(row, dict)]
    if not runs and not problems:
        problems.append("sweep.json names no runs.")
    name = path.resolve().name
    return document(
        name,
        element("h1", name),
        *(sentence(problem) for problem in problems),
        *([_variants(runs), _curves(runs), _runs(runs)] if runs else ()),
    )


def _run(path: pathlib.Path, row: Mapping[str, Any]) -> _Run:
    variant, seed = str(row.get("variant", "")), str(row.get("seed", ""))
    seconds: Any = row.get("seconds")
    evaluations = {
        split: result["metrics"]
        for split, result in row.items()
        if split not in _ABOUT
        and isinstance(result, dict)
        and isinstance(result.get("metrics"), dict)
    }
    return _Run(
        variant,
        seed,
        float(seconds) if tables.is_number(seconds) else 0.0,
        evaluations,
        _inside(path, variant, seed),
    )


def _inside(path: pathlib.Path, variant: str, seed: str) -> pathlib.Path | None:
    """Returns the folder of a run; None if it does not exist or lies outside the sweep's folder."""
    folder = path / variant / seed
    try:
        inside = folder.resolve().is_relative_to(path.resolve())
        return folder if inside and folder.is_dir() else None
    except (OSError, ValueError):
        return None


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _variants(runs: Sequence[_Run]) -> Markup:
    parts = []
    for split in _in_order(split for run in runs for split in run.evaluations):
        evaluated = [run for run in runs if split in run.evaluations]
        metrics = _in_order(name for run in evaluated for name in run.evaluations[split])
        rows = []
        for variant in _in_order(run.variant for run in runs):
            seeds = [run for run in evaluated if run.variant == variant]
            cells = [
                tables.mean_and_deviation(name, [run.evaluations[split].get(name) for run in seeds])
                for name in metrics
            ]
            spent = round(statistics.mean(run.seconds for run in seeds)) if seeds else None
            rows.append([variant, len(seeds), *cells, spent])
        parts += [
            element("h3", split),
            table(["variant", "seeds", *metrics, "seconds"], rows),
        ]
    about = "Means over seeds ± the deviation of a sample (n - 1); seconds are those of training."
    remark = sentence(about) if parts else sentence("No run has been evaluated yet.")
    return section("Variants", remark, *parts)


def _curves(runs: Sequence[_Run]) -> Markup:
    """Draws one chart for each metric, with a colour for each variant and a line for each seed."""
    problems: list[str] = []
    series: dict[tuple[str, str], list[tuple[str, Points]]] = {}
    unread = 0
    for run in runs:
        if run.folder is None:
            continue
        curves, _, damaged = run_files.read_metrics(run.folder / "metrics.jsonl", problems)
        unread += damaged
        for split, metrics in curves.items():
            for name, points in metrics.items():
                if split != TRAINING or name == "loss":
                    series.setdefault((split, name), []).append((run.variant, points))
    styles = {variant: n for n, variant in enumerate(_in_order(run.variant for run in runs))}
    charts = [
        line_chart(
            f"{split} {name}",
            [Series(variant, points, styles[variant]) for variant, points in series[split, name]],
            "step",
            percent=is_percent(name),
        )
        # Metrics of evaluated splits come first.
        for split, name in sorted(series, key=lambda pair: pair[0] == TRAINING)
    ]
    parts = [sentence(problem) for problem in problems]
    if unread:
        parts.append(sentence(f"Lines of metrics.jsonl that could not be read: {unread:,}."))
    drawn = element("div", *charts, class_="charts") if charts else sentence("There are none yet.")
    about = sentence("A line is a seed, a colour a variant.")
    return section("Curves", about, drawn, *parts)


def _runs(runs: Sequence[_Run]) -> Markup:
    """Makes the table of all runs; `report` also makes a page of the folder of each."""

    def state(run: _Run) -> str:
        if run.folder is None:
            return "its folder is not there"
        return ", ".join(run.evaluations) or "not evaluated"

    rows = [[run.variant, run.seed, round(run.seconds), state(run)] for run in runs]
    return section("Runs", table(["variant", "seed", "seconds", "evaluated on"], rows))
