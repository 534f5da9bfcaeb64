"""Listing of the keys of a config with their defaults and comments, read from its schema."""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rcnn_jax.configuration import schema
from rcnn_jax.errors import UsageError, nearest

_WIDTH = 88


class Key(NamedTuple):
    """Key of a config.

    Attributes:
        name: Dotted name, as in `--config.NAME=VALUE`.
        default: Default value as it is written in the schema; "" for a section.
        about: Comment of the schema on the key.
    """

    name: str
    default: str
    about: str


def keys() -> list[Key]:
    """Returns all keys, including sections, in the order of the schema."""
    source = inspect.getsource(schema)
    words = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {w.start[0]: w.string.lstrip("# ") for w in words if w.type == tokenize.COMMENT}
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "DEFAULTS":
            assert isinstance(node.value, ast.Dict)
            return list(_keys(node.value, "", lines, comments))
    raise AssertionError("the schema has no DEFAULTS")


def _keys(
    section: ast.Dict, prefix: str, lines: Sequence[str], comments: dict[int, str]
) -> Iterator[Key]:
    for key, value in zip(section.keys, section.values, strict=True):
        assert isinstance(key, ast.Constant)
        first = key.lineno
        while lines[first - 2].strip().startswith("#"):
            first -= 1
        # Comments are removed once used: one beside a section written in one line describes the
        # section and not its keys.
        remarks = [comments.pop(n) for n in range(first, key.lineno + 1) if n in comments]
        about = " ".join(remarks)
        inside = value if isinstance(value, ast.Dict) and value.keys else None
        yield Key(f"{prefix}{key.value}", "" if inside else ast.unparse(value), about)
        if inside is not None:
            yield from _keys(inside, f"{prefix}{key.value}.", lines, comments)


def key_listing(words: Sequence[str] = ()) -> str:
    """Formats the keys for reading.

    Args:
        words: Names of sections, or words that occur in the names of keys; only those keys are
            listed. Empty means all keys.

    Returns:
        A line `key = default` for each key, followed by its comment.

    Raises:
        UsageError: A word occurs in no key.
    """
    every = keys()
    for word in words:
        if not any(word in key.name for key in every):
            parts = {part for key in every for part in key.name.split(".")}
            raise UsageError(f"no config key has {word!r} in it: {nearest(word, parts)}.")
    blocks = []
    for key in every:
        if words and not any(word in key.name for word in words):
            continue
        head = f"{key.name} = {key.default}" if key.default else f"{key.name}:"
        about = textwrap.wrap(key.about, _WIDTH - 4) if key.about else []
        blocks.append("\n".join([head, *(f"    {line}" for line in about)]))
    open_sections = ", ".join(schema.OPEN_SECTIONS[:-1])
    usage = (
        "Set on the command line as --config.KEY=VALUE. The sections whose keys a `name` decides "
        f"({open_sections}) also take the arguments of what it names."
    )
    return "\n".join([*blocks, "", *textwrap.wrap(usage, _WIDTH)])
