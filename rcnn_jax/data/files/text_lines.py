"""Text files that are read line by line, where messages name each line by file and number."""

from pathlib import Path

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
