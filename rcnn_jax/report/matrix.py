"""Matrices of counts, such as confusion matrices, as shaded tables or, if large, as pictures."""

from collections.abc import Sequence
from typing import Any

from rcnn_jax.output.tables import is_number
from rcnn_jax.report.markup import Markup, element, joined, sentence

NUMBERED = 30  # largest number of rows or columns whose cells show their numbers
_LEVELS = 8  # shades of a picture
_CELL = 4  # side of a cell of a picture in SVG units


def is_matrix(value: Any) -> bool:
    """Returns whether a value is a matrix of counts.

    Args:
        value: Any value.

    Returns:
        True for a non-empty list of equally long, non-empty lists of numbers that are at least 0.
    """
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, list) and row and len(row) == len(value[0]) for row in value)
        and all(is_number(number) and number >= 0 for row in value for number in row)
    )


def draw(rows: Sequence[Sequence[float]]) -> Markup:
    """Draws a matrix of counts, each cell shaded by its share of its row.

    Args:
        rows: Matrix of non-negative numbers for which `is_matrix` holds.

    Returns:
        A table, whose diagonal has another colour if it is square; a picture without numbers if
        there are more than `NUMBERED` rows or columns.
    """
    about = "Rows and columns are numbered from 0; a cell is shaded by its share of its row."
    small = max(len(rows), len(rows[0])) <= NUMBERED
    return joined([sentence(about), _table(rows) if small else _picture(rows)])


def _shares(row: Sequence[float]) -> list[float]:
    total = sum(row) or 1.0
    return [value / total for value in row]


def _colour(number: int, column: int, square: bool) -> str:
    return "0, 114, 178" if square and number == column else "213, 94, 0"


def _table(rows: Sequence[Sequence[float]]) -> Markup:
    square = len(rows) == len(rows[0])

    def cell(number: int, column: int, value: float, share: float) -> Markup:
        # Even a share of one in a thousand must be visible.
        alpha = 0.08 + 0.5 * share if value else 0.0
        style = f"background: rgba({_colour(number, column, square)}, {alpha:.2f})"
        return element("td", f"{value:g}" if value else "", style=style if value else None)

    head = element("tr", element("th"), *(element("th", n) for n in range(len(rows[0]))))
    body = (
        element(
            "tr",
            element("th", n),
            *(cell(n, c, *pair) for c, pair in enumerate(zip(row, _shares(row), strict=True))),
        )
        for n, row in enumerate(rows)
    )
    whole = element("table", element("thead", head), element("tbody", *body), class_="matrix")
    return element("div", whole, class_="wide")


def _picture(rows: Sequence[Sequence[float]]) -> Markup:
    """Draws one path for each shade, since thousands of cells would be too many elements."""
    square = len(rows) == len(rows[0])
    paths: dict[tuple[str, int], list[str]] = {}
    for number, row in enumerate(rows):
        for column, share in enumerate(_shares(row)):
            if share:
                level = max(1, round(_LEVELS * share**0.5))
                place = f"M{column * _CELL} {number * _CELL}h{_CELL}v{_CELL}h-{_CELL}z"
                paths.setdefault((_colour(number, column, square), level), []).append(place)
    shades = [
        element("path", d="".join(places), fill=f"rgba({colour}, {level / _LEVELS:.2f})")
        for (colour, level), places in sorted(paths.items())
    ]
    width, height = len(rows[0]) * _CELL, len(rows) * _CELL
    frame = element("path", d=f"M0 0H{width}V{height}H0z", class_="grid")
    svg = element(
        "svg", frame, *shades, viewBox=f"0 0 {width} {height}", role="img", aria_label="matrix",
        style=f"max-width: {2 * width}px",
    )  # fmt: skip
    return element("figure", svg)
