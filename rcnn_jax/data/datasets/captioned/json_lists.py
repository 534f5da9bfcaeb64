"""JSON files that list pictures: read in any encoding of JSON, with locations in every message."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.data.datasets.captioned import layouts


def read(path: Path) -> Any:
    """Reads a JSON file in UTF-8 or UTF-16, with or without a byte order mark.

    Args:
        path: Path of the file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no JSON; the message names the line or the byte.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a JSON file of captions")
    data = path.read_bytes()
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        if layouts.is_json_lines(data.decode("utf-8-sig", errors="replace")):
            raise ValueError(f"{path} is JSON lines: {layouts.OWN}") from None
        raise ValueError(f"{path}:{error.lineno}: no JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is no UTF-8") from None


def objects(content: Any, key: str) -> list[dict[str, Any]]:
    """Returns the objects in a list in a JSON object.

    Args:
        content: Content of the file.
        key: Key of the list.

    Returns:
        The objects; empty if there is no such list.
    """
    entries = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in entries or () if isinstance(entry, dict)] if entries else []


def refuse(content: Any, path: Path) -> None:
    """Raises an error for a JSON file of another kind, if its kind is known.

    Args:
        content: Content of the file.
        path: Path of the file, for the message.

    Raises:
        ValueError: If the kind is known.
    """
    if what := layouts.of_json(content):
        raise ValueError(f"{path} is {what}")


def list_of(holder: Any, key: str, where: str) -> Sequence[Any]:
    """Returns a list in a JSON object.

    Args:
        holder: The object.
        key: Key of the list.
        where: Location of the object, for messages.

    Raises:
        ValueError: If it has no such list.
    """
    return value_of(holder, key, list, where)


def value_of(holder: Any, key: str, kind: type, where: str) -> Any:
    """Returns a value in a JSON object, after checking its type.

    Args:
        holder: The object.
        key: Key of the value.
        kind: Type of the value.
        where: Location of the object, for messages.

    Raises:
        ValueError: If it has no such value, or an empty text.
    """
    value = holder.get(key) if isinstance(holder, dict) else None
    if type(value) is not kind or value == "":
        raise ValueError(
            f"{where} has no {key!r} of type {kind.__name__}: {json.dumps(value)[:80]}"
        )
    return value
