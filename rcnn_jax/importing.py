"""Objects named by import path, as `my_fork.models:Mine`, and built with checked arguments."""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from rcnn_jax.errors import UsageError, describe, did_you_mean, nearest


def resolve(path: str, what: str) -> Any:
    """Imports what a config names.

    Args:
        path: `package.module:Name`.
        what: What the config wants there, for messages: a key, or "transform".

    Returns:
        The object.

    Raises:
        UsageError: It cannot be imported; the message says why and what to do.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name.isidentifier():
        raise UsageError(f"{what} {path!r} is no import path like 'my_fork.module:Name'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # A missing package is the user's to install; anything else is a fault inside theirs.
        missing = getattr(error, "name", None) or ""
        hint = describe(error, path)
        if isinstance(error, ImportError) and f"{module_name}.".startswith(f"{missing}."):
            hint = (
                f"no module {missing!r} was found; install the package, or put its folder on "
                "PYTHONPATH"
            )
        raise UsageError(f"{what} {path!r} cannot be imported: {hint}") from error
    if not hasattr(module, name):
        public = [n for n in dir(module) if not n.startswith("_")]
        hint = did_you_mean(name, public)
        raise UsageError(f"{what} {path!r}: {module_name} has no {name}{hint}")
    return getattr(module, name)


def arguments(target: Any) -> dict[str, Any]:
    """The keyword arguments that `target` takes, without Linen's own, with their annotations.

    A function that hands what it does not know (`**attributes`) to the class that it returns takes
    the arguments of that class too.
    """
    try:
        hints = typing.get_type_hints(target)
    except (AttributeError, NameError, TypeError):
        hints = {}  # an annotation that means nothing at run time says nothing about values
    if dataclasses.is_dataclass(target):
        names = [field.name for field in dataclasses.fields(target) if field.init]
        found = {name: hints.get(name, Any) for name in names}
    else:
        signature = inspect.signature(target).parameters.values()
        found = {p.name: hints.get(p.name, Any) for p in signature if p.kind is not p.VAR_KEYWORD}
        made = hints.get("return")
        hands_on = len(found) < len(signature) and dataclasses.is_dataclass(made)
        found = (arguments(made) if hands_on else {}) | found
    return {name: hint for name, hint in found.items() if name not in ("parent", "name")}


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value is of an annotated type; annotations not known here accept everything."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(choice, value) for choice in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if hint in (bool, int, float, str):
        if isinstance(value, bool) or hint is bool:
            return isinstance(value, bool) and hint is bool
        return isinstance(value, (int, float) if hint is float else hint)
    if origin in (Sequence, tuple, list):
        items = [item for item in typing.get_args(hint) if item is not ...]
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        return len(items) != 1 or all(accepts(items[0], item) for item in value)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping)
    return True


def readable(hint: Any) -> str:
    """An annotation as people read it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", "")


def checked(
    stated: Mapping[str, Any], origin: str, name: str, allowed: Mapping[str, Any]
) -> dict[str, Any]:
    """What a config states as keyword arguments of what is built.

    Args:
        stated: Arguments by name.
        origin: The section's name, for messages.
        name: Import path of what takes them, for messages.
        allowed: What it takes, see `arguments`.

    Returns:
        The arguments; whole numbers are floats where these are wanted.

    Raises:
        UsageError: It does not take one of them, or its value.
    """
    # A section inside a section arrives as what the config is made of.
    keys = {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in stated.items()}
    for key, value in keys.items():
        if key not in allowed:
            raise UsageError(
                f"{origin}.{key}: {name} takes no argument {key!r}: {nearest(key, allowed)}."
            )
        if not accepts(allowed[key], value):
            raise UsageError(
                f"{origin}.{key}={value!r}: {name} takes a value of type {readable(allowed[key])}."
            )
        choices = typing.get_args(allowed[key]) or (allowed[key],)
        if type(value) is int and float in choices and int not in choices:
            keys[key] = float(value)
    return keys


def build(section: Mapping[str, Any], origin: str, **given: Any) -> Any:
    """Calls what a config section names with the section's other keys.

    Args:
        section: `name`, an import path, and keyword arguments.
        origin: The section's name, for messages.
        **given: Further arguments; those that the target does not take are left out.

    Returns:
        What the call returns.

    Raises:
        UsageError: The target cannot be imported, does not take one of the section's keys or its
            value, or misses one that it needs.
    """
    target = resolve(section["name"], f"{origin}.name")
    allowed = arguments(target)
    stated = {key: value for key, value in section.items() if key != "name"}
    keys = checked(stated, origin, section["name"], allowed)
    try:
        return target(**{k: v for k, v in given.items() if k in allowed} | keys)
    except TypeError as error:
        raise UsageError(f"{origin}: {section['name']} cannot be built: {error}.") from error
