"""Elements of a page, with all text escaped, and the style that all pages share.

The output is valid both as HTML and as XML, so that a test can check it with a strict parser.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rcnn_jax.output import tables
from rcnn_jax.output.picture_style import COLOURS

ROWS = 50  # largest number of rows of a table; the file that it comes from has all
_LETTERS = 400  # largest number of characters of a cell
# Characters that a page must not hold: control characters, surrogates, and non-XML characters.
_STRANGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_EMPTY = ("meta", "img", "path")  # elements without content

# The colours are defined three times: for light screens, for dark screens and for print.
_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1d21; --faint: #61666f;
  --line: #d9dce1; --card: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --page: #15171b; --ink: #e8eaee; --faint: #9aa0aa;
  --line: #363a42; --card: #1f2228; } }
@media print { :root { color-scheme: light; --page: #ffffff; --ink: #000000; --faint: #444444;
  --line: #bbbbbb; --card: #ffffff; } figure, .card, tr { break-inside: avoid; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; } h3 { margin: 1.5rem 0 0.5rem; font-size: 1.05rem; }
a { color: inherit; } summary { cursor: pointer; font-weight: 600; }
.faint { color: var(--faint); } code { font-size: 0.92em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; white-space: pre-line; overflow-wrap: normal; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.matrix td, .matrix th { padding: 0.1rem 0.4rem; text-align: right; border: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
.facts td { overflow-wrap: anywhere; } .facts th { font-weight: normal; color: var(--faint); }
.charts, .gallery { display: grid; gap: 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.gallery { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
figure { margin: 0; } figure svg { display: block; width: 100%; height: auto; }
figcaption { font-weight: 600; }
svg text { fill: var(--faint); font: 13px system-ui, sans-serif; }
.grid { stroke: var(--line); stroke-width: 1; fill: none; }
.curve { fill: none; stroke: var(--own); stroke-width: 1.6; stroke-linejoin: round; }
.dot { fill: var(--own); }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: 0.85rem; color: var(--faint); }
.legend svg { display: inline-block; width: 1.8rem; height: 0.7rem; margin-right: 0.3rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: 0.7rem; }
.card img { display: block; max-width: 100%; height: auto; margin-bottom: 0.5rem; }
.card img.small { image-rendering: pixelated; }
.card p, .card ul { margin: 0.2rem 0; } .card ul { padding-left: 1.2rem; }
.badge { border: 1px solid currentColor; border-radius: 4px; padding: 0 0.3rem;
  font-size: 0.8rem; }
"""
_CURVES = "".join(f".c{number} {{ --own: {colour}; }}" for number, colour in enumerate(COLOURS))


class Markup(str):
    """Text that is markup already and is not escaped again."""


def escaped(value: Any) -> Markup:
    """Converts a value to the text of a page; markup stays as it is.

    Characters that a page must not hold become U+FFFD.

    Args:
        value: Value to convert.
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_STRANGE.sub("\ufffd", str(value))))


def joined(parts: Iterable[Any], between: str = "") -> Markup:
    """Joins markup and text, escaping the text.

    Args:
        parts: Markup, or values that are escaped.
        between: Separator, which is escaped too.
    """
    return Markup(between.join(escaped(part) for part in parts))


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Makes an element.

    Args:
        name: Name of the element.
        children: Markup, or values that are escaped.
        attributes: Attributes by name, with `_` for `-` and a trailing `_` for reserved words
            (`class_`); attributes with the value None are left out.

    Returns:
        The element as markup.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def document(title: str, *body: Any) -> str:
    """Makes a whole page that loads nothing and runs nothing.

    Args:
        title: Title of the page.
        body: Elements of the page.

    Returns:
        The HTML text of the file.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(_STYLE + _CURVES)),
    )
    whole = element("html", head, element("body", joined(body, "\n")), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def section(title: str, *parts: Any) -> Markup:
    """Makes a section of a page with a heading.

    Args:
        title: Text of the heading.
        parts: Markup, or values that are escaped.
    """
    return element("section", element("h2", title), joined(parts, "\n"))


def sentence(*parts: Any) -> Markup:
    """Makes a faint paragraph, such as a remark about the page itself.

    Args:
        parts: Markup, or values that are escaped.
    """
    return element("p", *parts, class_="faint")


def shown(name: str, value: Any) -> Markup:
    """Formats a value of a table as the terminal shows it.

    Args:
        name: Name of the column, which determines the number format.
        value: Value to format; the items of a list are shown on separate lines, None as nothing.
    """
    if isinstance(value, Markup):
        return value
    if isinstance(value, list):
        return joined((shown(name, item) for item in value), "\n")
    text = "" if value is None else tables.number(name, value)
    return escaped(text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup:
    """Makes a table in which columns of numbers are right-aligned.

    Args:
        header: Names of the columns.
        rows: Values or markup of each row, one for each column.

    Returns:
        A table of at most `ROWS` rows, with a line that says so if there are more.
    """
    kinds = [
        "number" if all(_is_number(row[place]) for row in rows) else None
        for place in range(len(header))
    ]

    def line(kind: str, cells: Iterable[Any]) -> Markup:
        pairs = zip(cells, kinds, strict=True)
        return element("tr", *(element(kind, cell, class_=name) for cell, name in pairs))

    body = [
        line("td", (shown(*pair) for pair in zip(header, row, strict=True))) for row in rows[:ROWS]
    ]
    whole = element(
        "div",
        element(
            "table", element("thead", line("th", header)), element("tbody", *body)
        ),
        class_="wide",
    )  # fmt: skip
    if len(rows) <= ROWS:
        return whole
    return joined([whole, sentence(f"The first {ROWS} of {len(rows):,}; the file has all.")])


def facts(rows: Iterable[tuple[str, Any]]) -> Markup:
    """Makes a table of names and their values, side by side.

    Args:
        rows: Pairs of a name and its value.
    """
    lines = (element("tr", element("th", name), element("td", value)) for name, value in rows)
    return element("table", element("tbody", *lines), class_="facts")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def records(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Makes a table of rows that are given as mappings from column to value.

    Args:
        rows: At least one row; the table has each column that any row has.

    Returns:
        A table of at most `ROWS` rows; see `table`.
    """
    header = list(dict.fromkeys(name for row in rows for name in row))
    return table(header, [[row.get(name) for name in header] for row in rows])
