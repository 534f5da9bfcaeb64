"""Data sets of a path with options: `karpathy:coco/dataset.json?features=vgg.npz&held_out=0.2`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, nearest

_KINDS = (int, float, str)


def build(factory: Callable[..., Any], prefix: str, text: str) -> Any:
    """Calls what makes a data set of a path.

    Args:
        factory: takes the path and options that are numbers or texts, each by keyword or as a field
            of a dataclass that it takes.
        prefix: what the data set's name begins with, for messages.
        text: the path and, behind a question mark, options with `&` between them.

    Returns:
        What the factory returns.

    Raises:
        UsageError: an option is none that the factory takes, or has a value of another kind.
    """
    path, _, query = text.partition("?")
    takes = {name: hint for name, hint in importing.arguments(factory).items() if name != "path"}
    groups: dict[str, Any] = {
        name: hint for name, hint in takes.items() if dataclasses.is_dataclass(hint)
    }
    fields = {name: importing.arguments(hint) for name, hint in groups.items()}
    known = {k: v for own in (takes, *fields.values()) for k, v in own.items() if v in _KINDS}
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
