"""The arithmetic of a comparison: medians, ratios, agreement, fits. It measures nothing."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from row import Target

DISAGREEMENT = 2e-3
"""Largest relative L2 distance of two answers that count as the same.

Flips of an arg-max have made up to 1.95e-3.
"""


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, of at least one value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, middle, third


def ratio(ours: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """What the rounds say of ours / other; each round gives one ratio."""
    first, middle, third = quartiles([a / b for a, b in zip(ours, other, strict=True)])
    return {"ratio": middle, "first_quartile": first, "third_quartile": third}


def reached(value: float, target: Target) -> str:
    """`aim`, `must` or `missed`."""
    return "aim" if value <= target.aim else "must" if value <= target.must else "missed"


def judge(
    targets: Sequence[Target],
    ratios: Sequence[Mapping[str, Any]],
    medians: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Holds every ratio of ours against the targets.

    Args:
        targets: of a row.
        ratios: entries with `ours`, `other` and `ratio`.
        medians: seconds of each side that was measured.

    Returns:
        For each target, and each side of ours, the ratio against the fastest of the sides that the
        target names. A target of which no such side was measured is `reached: None`.
    """
    found = []
    for target in targets:
        there = [name for name in target.against if name in medians]
        bounds = {"must": target.must, "aim": target.aim}
        against = min(there, key=medians.__getitem__) if there else None
        entries = [r for r in ratios if r["other"] == against]
        if not entries:
            found.append({"ours": None, "other": against, "reached": None, **bounds})
        for entry in entries:
            verdict = reached(entry["ratio"], target)
            found.append({"ours": entry["ours"], "other": against, "reached": verdict, **bounds})
    return found


def unsteady(value: float, first_quartile: float, third_quartile: float) -> bool:
    """Whether quartiles lie further apart than a fifth of the median.

    On an idle machine most rows have been within a tenth. What other guests of a virtual machine's
    host take of its caches and memory is seen in no process table, but in this.
    """
    return third_quartile - first_quartile > value / 5


def disturbance(busy: float, own: float, seconds: float) -> float:
    """How many cores others kept busy: time of all processes, less our own, over the time taken.

    The kernel counts the one in ticks and the other exactly, so that a small difference may come
    out negative; it is nothing.
    """
    return max(busy - own, 0.0) / seconds if seconds > 0 else 0.0


def relative_distance(
    reference: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> float:
    """The L2 distance of two answers of several arrays, over the norm of the first.

    Raises:
        ValueError: they hold other arrays, or arrays of other shapes.
    """
    shapes = [{name: np.shape(a) for name, a in answer.items()} for answer in (reference, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"answers of shapes {shapes[0]} and {shapes[1]} cannot be the same")
    square, norm = 0.0, 0.0
    for name, value in reference.items():
        wide = np.asarray(value, np.float64)
        square += float(np.sum(np.square(wide - np.asarray(other[name], np.float64))))
        norm += float(np.sum(np.square(wide)))
    if not math.isfinite(square):
        return math.inf
    return math.sqrt(square / norm) if norm else (0.0 if square == 0 else math.inf)


def fit(xs: Sequence[float], ys: Sequence[float]) -> dict[str, float]:
    """How a cost grows: a straight line, and the exponent of a power.

    Args:
        xs: at least three different numbers from 0 on, ascending.
        ys: positive costs.

    Returns:
        `intercept` and `slope` of least squares, `deviation`: the largest distance from that line
        as a share of the cost, and `exponent`: the slope of log y over log x. Where xs begin with
        0, the exponent is that of y - y(0), the cost beyond what is there at 0.
    """
    slope, intercept = np.polyfit(xs, ys, 1)
    line = intercept + slope * np.asarray(xs)
    rest = list(zip(xs, ys, strict=True))
    if xs[0] == 0:
        rest = [(x, y - ys[0]) for x, y in rest[1:]]
    positive = [(x, y) for x, y in rest if y > 0]
    exponent = math.nan
    if len(positive) >= 2:
        log_x, log_y = np.log(np.asarray(positive).T)
        exponent = float(np.polyfit(log_x, log_y, 1)[0])
    return {
        "intercept": float(intercept),
        "slope": float(slope),
        "deviation": float(np.max(np.abs(line / np.asarray(ys) - 1))),
        "exponent": exponent,
    }


def fits(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How time and memory of each side grow, where points differ in one number."""
    keys = {key for point in points for key in point["at"]}
    if len(points) < 3 or len(keys) != 1:
        return []
    key, found = keys.pop(), []
    for name in points[0]["sides"]:
        for cost in ("seconds", "peak_mib"):
            pairs = [
                (point["at"][key], point["sides"][name][cost])
                for point in points
                if point["sides"][name].get(cost)
            ]
            if len(pairs) >= 3:
                xs, ys = zip(*sorted(pairs), strict=True)
                found.append({"side": name, "of": cost, "over": key, **fit(xs, ys)})
    return found
