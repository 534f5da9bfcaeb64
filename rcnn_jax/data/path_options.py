"""Data sets named by a path with options: `karpathy:dataset.json?features=vgg.npz&held_out=0.2`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, nearest

_KINDS = (int, float, str)


def build(factory: Callable[..., Any], prefix: str, text: str) -> Any:
    """Calls the factory of a data set with a path and the options behind it.

    Args:
        factory: Takes the path, and options that are numbers or texts, each as a keyword argument
            or as a field of a dataclass that it takes.
        prefix: Prefix of the data set's name, such as `karpathy`, for messages.
        text: The path, optionally followed by a question mark and options `key=value` separated by
            `&`.

    Returns:
        The result of the factory.

    Raises:
        UsageError: If an option is unknown to the factory, is given twice, is not of the form
            `key=value`, or has a value of another type.

    Example:
        >>> from rcnn_jax.data.path_options import build
        >>> def factory(path: str, rate: int = 8000):
        ...     return path, rate
        >>> build(factory, "recordings", "clips?rate=16000")
        ('clips', 16000)
    """
    path, _, query = text.partition("?")
    takes = {name: hint for name, hint in importing.arguments(factory).items() if name != "path"}
    groups: dict[str, Any] = {
        name: hint for name, hint in takes.items() if dataclasses.is_dataclass(hint)
    }
    fields = {name: importing.arguments(hint) for name, hint in groups.items()}
    known = {k: v for hints in (takes, *fields.values()) for k, v in hints.items() if v in _KINDS}
    options = {}
    for option in query.split("&") if query else ():
        key, sign, value = option.partition("=")
        if not sign or key not in known or key in options:
            again = " a second time" if key in options else ""
            raise UsageError(
                f"data set {prefix}:{text}: {option!r}{again} is no option like 'key=value': "
                f"{nearest(key, known)}"
            )
        try:
            options[key] = known[key](value)
        except ValueError:
            raise UsageError(
                f"data set {prefix}:{text}: {key} is of type {known[key].__name__}, got {value!r}"
            ) from None
    given = {key: value for key, value in options.items() if key in takes}
    for name, group in groups.items():
        given[name] = group(**{key: options[key] for key in fields[name] if key in options})
    return factory(path, **given)
