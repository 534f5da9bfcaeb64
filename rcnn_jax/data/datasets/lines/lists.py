"""Lists of pictures or recordings and their texts, separated by tabs."""

from pathlib import Path

from rcnn_jax.data.datasets.lines import layouts
from rcnn_jax.data.datasets.lines.found import Found, Kind, Line, is_there, text_of
from rcnn_jax.data.files.text_lines import tab_separated

_LONGEST_NAME = 200  # number of characters; what is longer is a text in the place of a name


def read_list(path: Path, kind: Kind) -> Found:
    """Reads a list with one line for each file: the file, a tab, its text.

    Args:
        path: Path of the list, from whose folder files are named.
        kind: Kind of the files.

    Returns:
        The lines. A problem is a line without exactly one tab, a file that does not exist, and a
        text that is empty or of several lines.

    Raises:
        ValueError: If the list is not UTF-8, holds no line or is a list of another layout; the
            message says which, where it is known.
    """
    try:
        rows = tab_separated(path)
    except ValueError as error:
        what = layouts.of_file(path, kind)
        raise ValueError(f"{error}: {what}" if what else f"{error}") from error
    if not rows:
        raise ValueError(f"{path} holds no line")
    if layouts.has_boxes(path):
        raise ValueError(f"{path} has no texts behind its tabs: {layouts.of_file(path, kind)}")
    if all(len(fields) != 2 for _, fields in rows):
        where, fields = rows[0]
        what = layouts.of_file(path, kind) or kind.way_out
        raise ValueError(f"{_one_tab(where, fields)}: {what}")
    lines, problems = [], []
    for where, fields in rows:
        try:
            lines.append(_line(path, where, fields, kind))
        except ValueError as error:
            problems.append((_name(fields[0]), str(error)))
    return Found(lines, problems)


def _line(path: Path, where: str, fields: list[str], kind: Kind) -> Line:
    if len(fields) != 2:
        raise ValueError(_one_tab(where, fields))
    file_name, text = (text_of(field, where) for field in fields)
    if "\n" in text:
        raise ValueError(f"{where}: the text of one line was expected")
    file = path.parent / file_name
    if not is_there(file):
        hint = layouts.of_missing(file_name, path, where, text, kind)
        shown = file if len(file_name) <= _LONGEST_NAME else f"{file_name[:_LONGEST_NAME]}..."
        raise ValueError(f"{where}: there is no file {shown}{hint}")
    return Line(file, text, path, where, _name(file_name))


def _name(file: str) -> str:
    path = Path(file.strip())
    return (path.with_suffix("") if path.name else path).as_posix()


def _one_tab(where: str, fields: list[str]) -> str:
    return f"{where}: one tab between file and text was expected, got {len(fields) - 1}"
