"""Text files that are read line by line, where messages name each line by file and number."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

RELEASE_NOTE = "texts of a list that csv has put into quotation marks are read without these"
"""What data sets of lists say of their version 1.1.0, see `DatasetSpec.release_notes`."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """Reads a UTF-8 text file.

    Args:
        path: Path of the file.

    Returns:
        Pairs of `path:number`, for messages, and the line without its end. Blank lines are
        included, except one at the end of the file.

    Raises:
        ValueError: If a line is not UTF-8; the message names the line and the byte.
    """
    lines = path.read_bytes().split(b"\n")
    if not lines[-1].strip():
        lines.pop()
    places = [f"{path}:{number}" for number in range(1, len(lines) + 1)]
    return [(where, decode(raw, where)) for where, raw in zip(places, lines, strict=True)]


def decode(raw: bytes, where: str) -> str:
    r"""Decodes a line of UTF-8 and removes a byte order mark and the end of the line.

    Args:
        raw: The bytes of the line.
        where: Place of the line, for messages.

    Raises:
        ValueError: If the bytes are not UTF-8; the message names the first invalid byte.

    Example:
        >>> from rcnn_jax.data.files.text_lines import decode
        >>> decode(b"a line\r\n", "file.txt:1")
        'a line'
    """
    content = raw.removeprefix(_BYTE_ORDER_MARK)
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: byte {error.start} ({content[error.start]:#04x}) is no UTF-8"
        ) from None


def tab_separated(path: Path) -> list[tuple[str, list[str]]]:
    r"""Reads a UTF-8 list whose fields are separated by tabs, with or without the quotes of csv.

    Python's `csv`, pandas and spreadsheets put a field that needs it into quotation marks and
    double those inside, `"He said ""stop"", twice"`; other lists, such as those of Common Voice,
    hold every text as it is, `"Stop," he said`. A single line does not tell which, so that the
    whole file decides. It is read as csv if both hold:

    - Every field with a quotation mark begins and ends with one, and has only doubled ones inside.
    - Something had to be quoted: a quotation mark, a tab or a line break, or (as spreadsheets do)
      every field with a comma is quoted and no other one; or a column is quoted throughout.

    Otherwise every quotation mark belongs to the text.

    Args:
        path: Path of the file.

    Returns:
        Pairs of `path:number`, for messages, and the fields of the row that begins in that line.
        Lines of white space without a tab are left out. A field has line breaks only if it is
        quoted.

    Raises:
        ValueError: If a line is not UTF-8; the message names the line and the byte.

    Example:
        >>> import pathlib, tempfile
        >>> from rcnn_jax.data.files.text_lines import tab_separated
        >>> path = pathlib.Path(tempfile.mkdtemp(), "list.tsv")
        >>> _ = path.write_text('a.png\t"It says ""stop"" twice"\nb.png\tplain\n')
        >>> [fields for _, fields in tab_separated(path)]
        [['a.png', 'It says "stop" twice'], ['b.png', 'plain']]
    """
    lines = numbered_lines(path)
    literal = [(where, line.split("\t")) for where, line in lines if "\t" in line or line.strip()]
    # In a text of several lines, such as a page, a quotation that goes on in the next line is no
    # quoted field: rows are tried before fields with line breaks are.
    rows = literal if all(map(_is_whole, _fields(literal))) else _quoted_rows(lines)
    if not _quotes_are_of_the_file(rows):
        return literal
    return [(where, [_unquoted(field) for field in fields]) for where, fields in rows]


_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
_FIELD = re.compile(rf"({_QUOTED.pattern}|[^\"\t\n]*)(\t|\n|\Z)")


def _fields(rows: list[tuple[str, list[str]]]) -> Iterator[str]:
    return (field for _, fields in rows for field in fields)


def _is_whole(field: str) -> bool:
    """Returns whether a field is without quotation marks, or quoted as csv does."""
    return '"' not in field or _QUOTED.fullmatch(field) is not None


def _unquoted(field: str) -> str:
    return field[1:-1].replace('""', '"') if field[:1] == '"' else field


def _quoted_rows(lines: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Splits a file whose quoted fields hold tabs or line breaks; empty if it is no such file."""
    text = "\n".join(line for _, line in lines)
    rows, fields, line, place = [], [], 0, 0
    while (found := _FIELD.match(text, place)) is not None:
        field, end = found.groups()
        # Between the quotation marks of two rows stands the tab of the second.
        if "\n" in field and "\t" in field:
            return []
        fields.append(field)
        if end != "\t":
            if len(fields) > 1 or field.strip():
                rows.append((lines[line][0], fields))
            line += sum(field.count("\n") for field in fields) + 1
            fields = []
        if not end:
            return rows if len({len(fields) for _, fields in rows}) == 1 else []
        place = found.end()
    return []


def _quotes_are_of_the_file(rows: list[tuple[str, list[str]]]) -> bool:
    """Returns whether the quotation marks around fields were added by the writer of the file."""
    quoted = [field for field in _fields(rows) if field[:1] == '"']
    if not quoted:
        return False
    if any(mark in field[1:-1] for field in quoted for mark in ('""', "\t", "\n")):
        return True
    if all(("," in field) == (field[:1] == '"') for field in _fields(rows)):
        return True
    columns = itertools.zip_longest(*(fields for _, fields in rows), fillvalue="")
    return any({field[:1] for field in column if field} == {'"'} for column in columns)
