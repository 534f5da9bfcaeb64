"""Tables on a terminal."""

import re
import statistics
from collections.abc import Sequence
from typing import Any, TypeGuard

_GREATEST = 1e300  # differences of larger values may overflow


def number(name: str, value: Any) -> str:
    """Formats a value for reading: errors in percent, throughput and epochs with one decimal.

    Args:
        name: Name of the value, which determines its format.
        value: Value; only floats are formatted.
    """
    if isinstance(value, float):
        if name == "epoch" or name.endswith("_per_s"):
            return f"{value:.1f}"
        return f"{100 * value:.2f} %" if "error" in name.split("_") else f"{value:.4g}"
    return str(value)


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a value is finite and can be represented as a float.

    Integers may be too large for that; booleans do not count as numbers.

    Args:
        value: Any value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _GREATEST


def mean_and_deviation(metric: str, values: Sequence[float | None]) -> str:
    """Formats the mean over several seeds, with the sample standard deviation (n - 1).

    Args:
        metric: Name of the metric, which determines its format.
        values: One value for each seed; None, or a value that is not finite, is left out.

    Returns:
        The text; the deviation is given for at least two values, and the number of values if some
        are left out. "" if there is no value.
    """
    known = [value for value in values if is_number(value)]
    if not known:
        return ""
    text = number(metric, float(statistics.mean(known)))
    if len(known) > 1:
        text += f" ± {number(metric, float(statistics.stdev(known)))}"
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Formats rows as columns, with numbers aligned to the right.

    Args:
        rows: Cells of each row. Text of digits, with or without commas, counts as a number, and so
            does an empty cell in a column of numbers.
        header: Names of the columns.

    Returns:
        The table as text.
    """
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [all(_is_shown_as_number(row[i]) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        columns = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in columns).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def _is_shown_as_number(cell: Any) -> bool:
    return isinstance(cell, int | float) or re.fullmatch(r"[\d,]*|[\d.]+ %", str(cell)) is not None
