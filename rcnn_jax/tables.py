"""Tables on a terminal, and the table of the parameters of a model."""

import math
import re
from collections.abc import Sequence
from typing import Any

MEGABYTE = 2**20
"""Bytes of a megabyte (MB) of parameters: 134,260,544 numbers in float32 are 512.16 MB."""


def number(name: str, value: Any) -> str:
    """A value as people read it: errors in percent, speeds without many digits."""
    if isinstance(value, float):
        if name == "epoch" or name.endswith("_per_s"):
            return f"{value:.1f}"
        return f"{100 * value:.2f} %" if "error" in name.split("_") else f"{value:.4g}"
    return str(value)


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
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        columns = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in columns).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) or re.fullmatch(r"[\d,]*|[\d.]+ %", str(cell)) is not None


def parameter_table(params: Any) -> str:
    """The parameters by path, with shape, type and number, and their total.

    Args:
        params: A tree of parameters, or of their shapes.

    Returns:
        The table as text; its megabytes are of 2^20 bytes.
    """
    import jax  # here, for tables are also wanted before jax may start

    rows, total, size = [], 0, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        count = math.prod(leaf.shape)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        shape = "x".join(map(str, leaf.shape)) or "scalar"
        rows.append([name, shape, str(leaf.dtype), f"{count:,}"])
        total, size = total + count, size + count * leaf.dtype.itemsize
    text = table(rows, ["parameter", "shape", "type", "number"])
    return f"{text}\ntotal {total:,} parameters, {size / MEGABYTE:.2f} MB"
