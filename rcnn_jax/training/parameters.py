"""Parameters addressed by path, as configs and messages name them: `rcl_1/recurrent_kernel`."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from rcnn_jax.errors import UsageError, nearest
from rcnn_jax.output.tables import table

PyTree = Any


def path_text(path: tuple) -> str:
    """Formats a key path of `jax.tree_util` as text, with parts joined by slashes.

    Args:
        path: Key path of a leaf.

    Returns:
        The path as text, such as `rcl_1/recurrent_kernel`.
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def flatten(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a tree by path, in the order of the tree.

    Args:
        tree: Any pytree.

    Returns:
        The leaves by path.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_text(path): leaf for path, leaf in leaves}


def map_paths(function: Callable[[str, Any], Any], tree: PyTree) -> PyTree:
    """Applies `function(path, leaf)` to every leaf of a tree.

    Args:
        function: Function of the path as text and the leaf.
        tree: Any pytree.

    Returns:
        A tree of the results with the structure of `tree`.
    """
    return jax.tree_util.tree_map_with_path(lambda p, x: function(path_text(p), x), tree)


def require_matches(patterns: Sequence[str], paths: Sequence[str], origin: str) -> None:
    """Checks that each regular expression matches the whole of at least one path.

    Args:
        patterns: Regular expressions.
        paths: Paths of all parameters.
        origin: Config key that states the patterns, for the error message.

    Raises:
        UsageError: A pattern is not a regular expression, or matches no path and would silently
            have no effect.
    """
    for pattern in patterns:
        try:
            matched = any(re.fullmatch(pattern, path) for path in paths)
        except re.error as error:
            raise UsageError(f"{origin}: {pattern!r} is no regular expression: {error}.") from error
        if not matched:
            raise UsageError(
                f"{origin}: the pattern {pattern!r} matches the whole path of no parameter: "
                f"{nearest(pattern, paths)}."
            )


MEGABYTE = 2**20
"""Bytes in a megabyte (MB) of parameters: 134,260,544 numbers in float32 are 512.16 MB."""


def parameter_table(params: Any) -> str:
    """Formats a table of all parameters with path, shape, type and size, and their total.

    Args:
        params: Tree of parameters, or of their shapes.

    Returns:
        The table as text. Its megabytes have 2^20 bytes.
    """
    rows, total, size = [], 0, 0
    for name, leaf in flatten(params).items():
        count = math.prod(leaf.shape)
        shape = "x".join(map(str, leaf.shape)) or "scalar"
        rows.append([name, shape, str(leaf.dtype), f"{count:,}"])
        total, size = total + count, size + count * leaf.dtype.itemsize
    text = table(rows, ["parameter", "shape", "type", "number"])
    return f"{text}\ntotal {total:,} parameters, {size / MEGABYTE:.2f} MB"
