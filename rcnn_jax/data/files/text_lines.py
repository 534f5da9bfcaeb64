"""Text files that are read line by line, each line known by its file and number."""

from pathlib import Path

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """Reads a UTF-8 text file.

    Args:
        path: The file.

    Returns:
        Pairs (`path:number` for messages, line without its end), blank lines included but for one
        at the end of the file.

    Raises:
        ValueError: A line is no UTF-8; the sentence names it and the byte.
    """
    lines = path.read_bytes().split(b"\n")
    if not lines[-1].strip():
        lines.pop()
    places = [f"{path}:{number}" for number in range(1, len(lines) + 1)]
    return [(where, decode(raw, where)) for where, raw in zip(places, lines, strict=True)]


def decode(raw: bytes, where: str) -> str:
    """Decodes UTF-8, without a byte order mark and the end of a line.

    Args:
        raw: The bytes.
        where: Their place, for messages.

    Raises:
        ValueError: They are no UTF-8; the sentence names the byte.
    """
    content = raw.removeprefix(_BYTE_ORDER_MARK)
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: byte {error.start} ({content[error.start]:#04x}) is no UTF-8"
        ) from None
