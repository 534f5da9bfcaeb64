"""Tables on a terminal."""

import re
import statistics
from collections.abc import Sequence
from typing import Any, TypeGuard

_GREATEST = 1e300  # differences of larger values are no numbers


def number(name: str, value: Any) -> str:
    """A value as people read it: errors in percent, speeds without many digits."""
    if isinstance(value, float):
        if name == "epoch" or name.endswith("_per_s"):
            return f"{value:.1f}"
        return f"{100 * value:.2f} %" if "error" in name.split("_") else f"{value:.4g}"
    return str(value)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is finite and one that a float can be; whole numbers may be longer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _GREATEST


def mean_and_deviation(metric: str, values: Sequence[float | None]) -> str:
    """The mean of seeds, and the deviation of a sample (n - 1) where there are several.

    Args:
        metric: What was measured.
        values: One a seed; None where it was no number.

    Returns:
        As people read it; how many values it is of, where some are missing.
    """
    known = [value for value in values if is_number(value)]
    if not known:
        return ""
    text = number(metric, float(statistics.mean(known)))
    if len(known) > 1:
        text += f" ± {number(metric, float(statistics.stdev(known)))}"
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Lays out rows in columns, numbers to the right.

    Args:
        rows: The cells. Text of digits, in groups or not, counts as a number, and so does an
            empty cell beside numbers.
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
