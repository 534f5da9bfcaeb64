"""Output of measurements: tables on the terminal and JSON files."""

import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.errors import UserError
from rcnn_jax.output import tables
from rcnn_jax.output.files import write_atomically

_SHOWN = 12  # number of rows of a table on the terminal; the file has all


def save(path: str | pathlib.Path, result: Mapping[str, Any], quiet: bool = False) -> None:
    """Writes a result as JSON, with lists of numbers on one line each, and prints the path.

    Args:
        path: Path of the file.
        result: Measured values by name.
        quiet: Whether the path is not printed.

    Raises:
        UserError: The file cannot be written.
    """
    text = re.sub(
        r"\[[\s\d.,eE+-]+\]",
        lambda row: " ".join(row[0].split()).replace("[ ", "[").replace(" ]", "]"),
        json.dumps(plain(result), indent=2, ensure_ascii=False),
    )
    try:
        write_atomically(pathlib.Path(path), text + "\n")
    except OSError as error:
        raise UserError(
            f"the result above was not saved: {path} cannot be written ({error.strerror}); "
            "name another file with --output."
        ) from error
    if not quiet:
        print(f"written to {path}")


def plain(value: Any) -> Any:
    """Replaces numbers that JSON cannot represent, such as the NaN of an empty ratio, by None.

    Args:
        value: Number, text, list or mapping.

    Returns:
        The value with None in place of NaN and infinities.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(title: str, rows: Sequence[Mapping[str, Any]], limit: int = _SHOWN) -> None:
    """Prints rows with the same keys as a table.

    Args:
        title: Heading of the table.
        rows: Values of each row by column; None gives an empty cell.
        limit: Largest number of rows that are printed. The heading says so if there are more.
    """
    some = "" if len(rows) <= limit else f", the first {limit} of {len(rows)}"
    cells = [
        [
            "" if v is None else tables.number(k, v) if isinstance(v, float) else v
            for k, v in row.items()
        ]
        for row in rows[:limit]
    ]
    print(f"\n{title}{some}")
    print(tables.table(cells, list(rows[0])))
