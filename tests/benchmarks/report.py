"""Results as a file, as a table on a terminal and as Markdown."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import machine

import figures
from rcnn_jax.errors import UserError
from rcnn_jax.output import results, tables

HEADER = (
    "row", "side", "ms", "per second", "compile s", "peak MiB", "ours / it", "quartiles", "must",
    "aim", "reached", "disturbed",
)  # fmt: skip


def load(path: pathlib.Path) -> dict[str, Any]:
    """The rows of a file, by name; none where there is no file.

    Raises:
        UserError: it is no file of results.
    """
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no results of benchmarks ({error}).") from error


def has(rows: Mapping[str, Any], name: str, quick: bool) -> bool:
    """Whether a row was measured, at every point by one of its sides at least.

    Args:
        rows: From `load`.
        name: of the row.
        quick: whether the tiny row is meant.
    """
    row = rows.get(name)
    return (
        row is not None
        and row["quick"] == quick
        and all(
            any(side["state"] == "measured" for side in point["sides"].values())
            for point in row["points"]
        )
    )


def merge(path: pathlib.Path, name: str, row: Mapping[str, Any]) -> None:
    """Writes one row into a file, in place of an earlier one of its name; others stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {**load(path), name: row}
    results.save(path, {"rows": dict(sorted(rows.items()))}, quiet=True)


def _number(value: float | None, digits: int = 3) -> str:
    """So many digits, or as many as there are before the point; one less below 1."""
    if value is None:
        return ""
    if abs(value) < 1:
        return f"{value:.{digits - 1}g}"
    return f"{value:.{max(digits - len(str(int(abs(value)))), 0)}f}"


def _cells(name: str, point: Mapping[str, Any], compares: str) -> list[list[str]]:
    """The lines of one point: one for each side, and one more for each further side of ours."""
    at = ", ".join(f"{key} = {value}" for key, value in point["at"].items())
    label = f"{name}, {at}" if at else name
    disturbed = f"by {point['others_cores']:.2f} cores" if point["disturbed"] else ""
    lines = []
    for side, facts in point["sides"].items():
        if facts["state"] != "measured":
            text = f"{side}: {facts['state']}: {facts['message']}"
            lines.append([label, text, *[""] * (len(HEADER) - 3), disturbed])
            continue
        per_s = f"{_number(facts['per_s'])} {facts['unit']}" if facts.get("per_s") else ""
        seconds = facts["seconds"]
        start = [
            label,
            side,
            "" if compares == "compile" else _number(1e3 * seconds),
            "" if compares == "compile" else per_s,
            _number(seconds if compares == "compile" else facts["compile_s"]),
            _number(facts.get("peak_mib", facts["peak_with_compilation_mib"])),
        ]
        for *end, steady in _endings(side, point):
            lines.append([*start, *end, ", ".join(filter(None, (disturbed, steady)))])
    return lines


def _endings(side: str, point: Mapping[str, Any]) -> list[list[str]]:
    """What the last columns say of a side: its ratios and targets, or its share of a rate.

    The very last one says `unsteady` where the rounds disagree.
    """
    for share in point.get("shares", ()):
        if share["side"] == side:
            value, spread = _number(share["share"]), _spread(share)
            return [[f"{value} of {share['of']}", spread, "", "", "", _steady("share", share)]]
    endings = []
    ratios = [ratio for ratio in point.get("ratios", ()) if ratio["other"] == side]
    for ratio in ratios:
        targets = [
            target
            for target in point["targets"]
            if (target["ours"], target["other"]) == (ratio["ours"], side)
        ]
        several = len({r["ours"] for r in ratios}) > 1
        value = _number(ratio["ratio"]) + (f" ({ratio['ours']})" if several else "")
        bounds = [["", "", ""]]
        if targets:
            bounds = [[f"{t['must']:g}", f"{t['aim']:g}", t["reached"]] for t in targets]
        steady = _steady("ratio", ratio)
        endings += [[value, _spread(ratio), *bound, steady] for bound in bounds]
    return endings or [[""] * 6]


def _steady(kind: str, entry: Mapping[str, float]) -> str:
    quartiles = entry["first_quartile"], entry["third_quartile"]
    return "unsteady" if figures.unsteady(entry[kind], *quartiles) else ""


def _spread(entry: Mapping[str, float]) -> str:
    return f"{_number(entry['first_quartile'])} to {_number(entry['third_quartile'])}"


def _all_cells(rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    lines, above = [], None
    for name, row in rows.items():
        for point in row["points"]:
            shown = f"{name} (tiny)" if row["quick"] else name
            for label, *rest in _cells(shown, point, row["compares"]):
                lines.append(["" if label == above else label, *rest])
                above = label
    return lines


def _fit_lines(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, row in rows.items():
        for fit in row["fits"]:
            beyond = row["points"][0]["at"].get(fit["over"]) == 0
            what = f"{fit['of']} beyond that at 0" if beyond else fit["of"]
            exponent = fit["exponent"]
            power = "as no power of" if exponent is None else f"as the power {exponent:.2f} of"
            lines.append(
                f"{name}, {fit['side']}: {what} grows {power} {fit['over']}; the straight line "
                f"{fit['intercept']:.3g} + {fit['slope']:.3g} {fit['over']} is off by at most "
                f"{100 * fit['deviation']:.0f} %."
            )
    return lines


def terminal(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of some rows for a terminal, without columns that are empty."""
    cells = _all_cells(rows)
    used = [i for i in range(len(HEADER)) if any(line[i] for line in cells)]
    table = tables.table([[line[i] for i in used] for line in cells], [HEADER[i] for i in used])
    return "\n".join([table, *_fit_lines(rows)])


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of all rows of a file, with what is needed to read it."""
    lines = [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    lines += [f"| {' | '.join(cells)} |" for cells in _all_cells(rows)]
    fits = _fit_lines(rows)
    if fits:
        lines += ["", *(f"- {line}" for line in fits)]
    return "\n".join([*lines, "", *_conditions(rows)])


def _conditions(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """On which machine and with which versions, once for rows that were measured alike."""
    groups: list[tuple[Mapping[str, Any], list[str]]] = []
    for name, row in rows.items():
        for facts, names in groups:
            if not machine.versions_differ(facts, row["machine"]):
                names.append(name)
                break
        else:
            groups.append((row["machine"], [name]))
    lines = []
    for facts, names in groups:
        of = "" if len(groups) == 1 else f"{', '.join(names)}: "
        versions = ", ".join(f"{p} {facts[p]}" for p in ("python", *machine.PACKAGES) if facts[p])
        tree = f"commit {facts['commit'][:10]}" if facts["commit"] else "no commit"
        dirty = ", with changes" if facts["dirty"] else ""
        lines.append(
            f"{of}{facts['cores']} cores of {facts['processor']}, {facts['memory_gib']} GiB; "
            f"{versions}; {tree}{dirty}; {facts['date'][:10]}."
        )
    return lines
