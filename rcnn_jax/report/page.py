"""The page of a run: what was trained, its curves, its evaluations and their pictures."""

import base64
import json
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rcnn_jax.output import tables
from rcnn_jax.report import gallery, matrix, run_files
from rcnn_jax.report.chart import Series, line_chart
from rcnn_jax.report.markup import (
    Markup,
    document,
    element,
    escaped,
    facts,
    joined,
    records,
    section,
    sentence,
    table,
)
from rcnn_jax.report.run_files import TRAINING, RunFiles

_ENLARGED = 160  # small pictures are enlarged to about this many pixels along the longer side
_PREFORMATTED = 4000  # largest number of characters of a value that is shown as JSON


def make(path: pathlib.Path) -> str:
    """Makes the page of a workdir.

    Args:
        path: Workdir of the run; only files in it are read.

    Returns:
        The HTML text of the page; an empty string if the folder holds nothing of a run.
    """
    run = run_files.read(path)
    if run.empty:
        return ""
    name = path.resolve().name
    return document(
        name,
        element("h1", name),
        *(sentence(problem) for problem in run.problems),
        _what_was_trained(run),
        _curves(run),
        *_evaluations(run),
        _iterations(run),
        _whole_config(run),
    )


def is_percent(metric: str) -> bool:
    """Returns whether a metric is shown in percent.

    Args:
        metric: Name of the metric.
    """
    return tables.number(metric, 1.0).endswith("%")


def _what_was_trained(run: RunFiles) -> Markup:
    if not run.config:
        return section("What was trained", sentence("The folder holds no config.json."))

    def chosen(section: str) -> str:
        """Formats a section of the config as a call of its `name` with the other keys."""
        values = run.setting(section)
        if not isinstance(values, Mapping) or not values.get("name"):
            return ""
        options = ", ".join(f"{key}={values[key]!r}" for key in values if key != "name")
        return f"{values['name']}({options})" if options else str(values["name"])

    data = {
        key: run.setting("data", key)
        for key in ("train", "validation", "preprocess", "augment", "evaluate")
        if run.setting("data", key)
    }
    named = ", ".join(f"{key}={value!r}" for key, value in data.items())
    steps = run.setting("steps") or ""
    epochs = run.setting("epochs")
    planned = f"{steps} steps" if steps else f"{epochs} epochs" if epochs else ""
    taken = "" if run.last_step is None else f"{run.last_step:,} steps"
    if taken and run.epoch is not None:
        taken += f", {tables.number('epoch', run.epoch)} epochs"
    schedule = run.setting("schedule", "name"), run.setting("schedule", "value")
    rows = {
        "task": chosen("task"),
        "model": chosen("model"),
        "data": f"{run.setting('data', 'name')}: {named}" if named else run.setting("data", "name"),
        "encoder": chosen("encoder"),
        "examples a step": run.setting("batch_size"),
        "planned": planned,
        "taken, by metrics.jsonl": taken,
        "optimizer": run.setting("optimizer", "name"),
        "learning rate": ", ".join(str(part) for part in schedule if part is not None),
        "precision": run.setting("precision"),
        "starts from": run.setting("init_from"),
        "seed": run.setting("seed"),
    }
    shown = [(name, str(value)) for name, value in rows.items() if value not in (None, "")]
    return section("What was trained", facts(shown))


def _curves(run: RunFiles) -> Markup:
    notes = []
    if run.unread:
        left_out = "1 line" if run.unread == 1 else f"{run.unread:,} lines"
        why = "a run that is stopped by force leaves half a line"
        notes.append(sentence(f"Without {left_out} of metrics.jsonl that cannot be read: {why}."))
    if not run.curves:
        command = _command("train", run.path, " --config=CONFIG")
        notes.append(sentence("There are no curves yet; this begins or goes on: ", command))
        return section("Curves", *notes)
    evaluated = [
        name
        for split, metrics_of_split in run.curves.items()
        if split != TRAINING
        for name in metrics_of_split
    ]
    # The metric that ranks checkpoints comes first, then the loss, then all metrics of the
    # evaluated splits. The remaining ones, such as times, are folded away.
    best = str(run.setting("best_metric"))
    metrics = dict.fromkeys(
        name for metrics_of_split in run.curves.values() for name in metrics_of_split
    )
    first = [name for name in dict.fromkeys([best, "loss", *evaluated]) if name in metrics]
    rest = [name for name in metrics if name not in first]
    parts = [_charts(run.curves, first), *notes]
    if rest:
        summary = element("summary", "How the run went")
        parts.append(element("details", summary, _charts(run.curves, rest)))
    return section("Curves", _best_and_last(run), *parts)


def _best_and_last(run: RunFiles) -> Markup:
    """Makes the table of the best and the last evaluation that the end of training prints, too."""
    best, metrics = run.setting("best_metric"), run.curves.get("validation", {})
    points = [(step, value) for step, value in metrics.get(str(best), ()) if value is not None]
    if not points:
        return Markup("")
    sign = -1 if run.setting("best_mode") == "max" else 1
    chosen = min(reversed(points), key=lambda point: sign * point[1])[0]
    values = {name: dict(series) for name, series in metrics.items()}
    rows = [
        {"validation": name, "step": int(step)}
        | {metric: values[metric].get(step) for metric in values}
        for name, step in (("best", chosen), ("last", points[-1][0]))
    ]
    return records(rows)


def _charts(curves: Mapping[str, Mapping[str, run_files.Points]], names: Sequence[str]) -> Markup:
    splits = sorted(curves, key=lambda split: split != TRAINING)
    drawn = []
    for name in names:
        series = [
            Series(split, curves[split][name], style, marked=split != TRAINING)
            for style, split in enumerate(splits)
            if name in curves[split]
        ]
        drawn.append(line_chart(name, series, "step", percent=is_percent(name)))
    return element("div", *drawn, class_="charts")


def _evaluations(run: RunFiles) -> Iterator[Markup]:
    if not run.evaluations:
        command = _command("evaluate", run.path)
        yield section("Evaluation", sentence("There is none yet; this makes one: ", command))
    for file, evaluation in run.evaluations.items():
        split, details = str(evaluation.get("split", "")), evaluation.get("details", {})
        about = f"{evaluation.get('n')} examples of {split}, step {evaluation.get('step')}"
        changed = evaluation.get("changed", {})
        about += "".join(f", {key}={value}" for key, value in changed.items())
        metrics = [[name, _number(name, value)] for name, value in evaluation["metrics"].items()]
        parts = [sentence(f"{about}; {file}"), table(["metric", "value"], metrics)]
        pictured = dict(gallery.cards(details))
        parts += [_detail(name, value) for name, value in details.items() if name not in pictured]
        parts += [_gallery(run.path, split, name, rows) for name, rows in pictured.items()]
        yield section(f"Evaluation: {split}", *parts)


def _command(door: str, path: pathlib.Path, more: str = "") -> Markup:
    """Formats the command line of a command of the package."""
    return element("code", f"python -m rcnn_jax.{door}{more} --workdir={shlex.quote(str(path))}")


def _number(name: str, value: Any) -> Markup:
    """Formats a value of a column in which each row is another metric."""
    return escaped("" if value is None else tables.number(name, value))


def _detail(name: str, value: Any) -> Markup:
    heading = element("h3", name)
    if value in (None, [], {}):
        return joined([heading, sentence("Nothing.")])
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return joined([heading, records(value)])
    if matrix.is_matrix(value):
        known = "A row is a true class, a column an answer."
        about = [sentence(known)] if name == "confusion" else []
        return joined([heading, *about, matrix.draw(value)])
    if isinstance(value, dict):
        return joined([heading, facts((key, _number(key, item)) for key, item in value.items())])
    text = json.dumps(value, ensure_ascii=False)
    cut = "" if len(text) <= _PREFORMATTED else f"… ({len(text):,} letters)"
    return joined([heading, element("pre", text[:_PREFORMATTED], cut, class_="wide")])


def _gallery(
    path: pathlib.Path, split: str, name: str, rows: Sequence[Mapping[str, Any]]
) -> Markup:
    shown = rows[: gallery.MOST]
    more = f", the first {len(shown)} of {len(rows):,}" if len(rows) > len(shown) else ""
    return joined(
        [
            element("h3", f"{name}{more}"),
            element("div", *(_card(path, split, row) for row in shown), class_="gallery"),
        ]
    )


def _card(path: pathlib.Path, split: str, row: Mapping[str, Any]) -> Markup:
    """Shows an example: its picture, its first text in bold, and the row's other keys in order."""
    number = gallery.example_of(row)
    assert number is not None
    rest = {key: value for key, value in row.items() if key not in ("example", "file")}
    file = str(row.get("file") or "")
    about = element("p", " ".join(filter(None, (f"#{number}", file))), class_="faint")
    parts = [_picture(gallery.read(path, split, number), file or f"example {number}"), about]
    headline = next((key for key, value in rest.items() if isinstance(value, str)), None)
    for key, value in rest.items():
        if key == headline:
            parts.append(element("p", element("b", value or "(nothing)"), dir="auto"))
        elif isinstance(value, bool):
            # A flag, such as one for combinations that training never saw.
            parts += [element("p", element("span", key, class_="badge"))] if value else []
        elif isinstance(value, list) and value:
            items = (element("li", item, dir="auto") for item in value)
            parts.append(joined([element("p", key, class_="faint"), element("ul", *items)]))
        elif value not in (None, []):
            name = element("span", f"{key} ", class_="faint")
            parts.append(element("p", name, tables.number(key, value), dir="auto"))
    return element("div", *parts, class_="card")


def _picture(found: tuple[bytes, int, int] | None, about: str) -> Markup:
    if found is None:
        return Markup("")
    content, width, height = found
    times = max(1, _ENLARGED // max(width, height))
    return element(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(content).decode()}",
        alt=about,
        width=width * times,
        height=height * times,
        class_="small" if times > 1 else None,
    )


def _iterations(run: RunFiles) -> Markup:
    saved = run.iterations
    if saved is None:
        return Markup("")
    rows = [row for row in saved["iterations"] if tables.is_number(row.get("iterations"))]
    names = list(dict.fromkeys(key for row in rows for key in row))
    plain = [
        name for name in names if name != "iterations" and not name.endswith(tuple(_SUFFIXES)[1:])
    ]

    def value(row: Mapping[str, Any], name: str) -> float | None:
        return row[name] if tables.is_number(row.get(name)) else None

    def series(metric: str) -> list[Series]:
        return [
            Series(meaning, [(row["iterations"], value(row, metric + suffix)) for row in rows],
                   style, marked=True)
            for style, (suffix, meaning) in enumerate(_SUFFIXES.items())
            if metric + suffix in names
        ]  # fmt: skip

    drawn = [
        line_chart(metric, series(metric), "iterations", percent=is_percent(metric))
        for metric in plain
    ]
    about = (
        f"{saved.get('n')} examples of {saved.get('split')}, step {saved.get('step')}, trained for "
        f"{saved.get('trained')} iterations{saved.get('note', '')}"
    )
    return section(
        "Other numbers of iterations",
        sentence(about),
        element("div", *drawn, class_="charts"),
        records(rows) if rows else sentence("There are no rows."),
    )


_SUFFIXES = {
    "": "statistics of training",
    "_recalibrated": "statistics measured anew",
    "_anytime": "answer on the way",
}


def _whole_config(run: RunFiles) -> Markup:
    if not run.config:
        return Markup("")
    text = json.dumps(run.config, indent=2, ensure_ascii=False)
    inside = element("pre", text, class_="wide")
    return section(
        "Config", element("details", element("summary", "The complete config.json"), inside)
    )
