"""Objects named by import path, as `my_fork.models:Mine`, and built with checked arguments."""

import dataclasses
import importlib
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rcnn_jax.configuration.moved import MOVED
from rcnn_jax.errors import (
    UsageError,
    UserError,
    describe,
    did_you_mean,
    fork_location,
    nearest,
)

_PATH = re.compile(r"(?<![\w.:])[A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*")


def current(path: str) -> str:
    """The address that an import path has today, see `MOVED`.

    Args:
        path: `package.module:Name`, as it is or once was.

    Returns:
        The path as it is; the same one where nothing has moved.
    """
    for _ in range(len(MOVED)):  # what moved may have moved again
        module, colon, name = path.partition(":")
        if path in MOVED:
            path = MOVED[path]
        elif module in MOVED:
            path = MOVED[module] + colon + name
        else:
            break
    return path


def with_current_paths(value: Any) -> Any:
    """A part of a config with the addresses that its import paths have today.

    Args:
        value: A text, a sequence, a mapping or anything else. Import paths may stand inside a text,
            as in a chain of transforms.

    Returns:
        The same, of the same types, with other texts.
    """
    if isinstance(value, str):
        return _PATH.sub(lambda match: current(match[0]), value)
    if isinstance(value, Mapping):
        return {key: with_current_paths(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(with_current_paths(each) for each in value)
    return value


def folders_of_code(config: Any) -> list[str]:
    """Returns the folders of the code that a config names by import path and that is imported.

    Args:
        config: A config, or a part of one.

    Returns:
        The current folder, and the folder of each module, each once.
    """
    paths: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            paths.extend(_PATH.findall(value))
        elif isinstance(value, Mapping):
            collect(list(value.values()))
        elif isinstance(value, list | tuple):
            for part in value:
                collect(part)

    collect(config)
    modules = [sys.modules.get(path.partition(":")[0]) for path in paths]
    files = [getattr(module, "__file__", None) for module in modules]
    return list(dict.fromkeys([os.getcwd(), *(os.path.dirname(file) for file in files if file)]))


def resolve(path: str, what: str) -> Any:
    """Imports what a config names.

    Args:
        path: `package.module:Name`; what has moved is found at its new address.
        what: What the config wants there, for messages: a key, or "transform".

    Returns:
        The object.

    Raises:
        UsageError: It cannot be imported; the message says why and what to do.
    """
    module_name, _, name = current(path).partition(":")
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
            value, misses one that it needs, or a fork's code raises an error when it is called.
    """
    target = resolve(section["name"], f"{origin}.name")
    stated = {key: value for key, value in section.items() if key != "name"}
    keys = checked(stated, origin, section["name"], arguments(target))
    return call(target, section["name"], origin, given, keys)


def call(
    target: Any, name: str, origin: str, given: Mapping[str, Any], keys: Mapping[str, Any]
) -> Any:
    """Calls what a config names.

    Args:
        target: From `resolve`.
        name: Its import path, for messages.
        origin: Where the config states its arguments, for messages.
        given: Arguments that it may take; those that it does not are left out.
        keys: Arguments that the config states, from `checked`; they count first.

    Returns:
        What the call returns.

    Raises:
        UsageError: It is nothing to be called, misses an argument, or a fork's code raises an
            error.
    """
    if not callable(target):
        raise UsageError(
            f"{origin}: {name} is a {type(target).__name__}, neither a class nor a function that "
            "makes one."
        )
    allowed = arguments(target)
    taken = {key: value for key, value in given.items() if key in allowed} | dict(keys)
    require_arguments(target, name, origin, taken, [key for key in given if key not in allowed])
    try:
        return target(**taken)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, TypeError) or fork_location(error, name):
            reason = describe(error, name)
            raise UsageError(f"{origin}: {name} cannot be built: {reason}.") from error
        raise


def required(target: Any) -> list[str]:
    """The arguments that `target` cannot be called without, of those that `arguments` lists."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return []  # some classes of extensions have no signature
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in named]
    return [name for name in needed if name not in ("parent", "name")]


def require_arguments(
    target: Any, name: str, origin: str, taken: Collection[str], left: Collection[str] = ()
) -> None:
    """Checks that something is called with every argument that it needs.

    Args:
        target: What is called.
        name: Its import path, for messages.
        origin: Where the config states its arguments, for messages.
        taken: The arguments it is called with.
        left: What is offered besides and has no place in it.

    Raises:
        UsageError: One is missing.
    """
    for key in required(target):
        if key not in taken:
            raise UsageError(
                f"{origin}: {name} cannot be built without the argument {key!r}, which {origin} "
                f"does not state and nothing offers{did_you_mean(key, left)}."
            )


def require_hashable(made: Any, name: str, origin: str) -> None:
    """Checks that a fork's object can be told from others by a compiled program.

    Args:
        made: The object.
        name: Its import path, for messages.
        origin: Where the config names it, for messages.

    Raises:
        UsageError: It has no hash, as a dataclass that may change has none.
    """
    try:
        hash(made)
    except TypeError as error:
        raise UsageError(
            f"{origin}: {name} must be hashable, and is not ({error}): decorate its class with "
            "@dataclasses.dataclass(frozen=True), and keep tuples in it instead of lists."
        ) from error


def check_parts(made: Any, names: Sequence[str], origin: str, protocol: str) -> None:
    """Checks that what a config names has the parts that will be asked for.

    Args:
        made: What was built.
        names: Attributes and methods that it needs.
        origin: Where it came from, for the message.
        protocol: Import path of the protocol that says what they are.

    Raises:
        UsageError: One is missing.
    """
    missing = [name for name in names if not hasattr(made, name)]
    if missing:
        raise UsageError(
            f"{origin}: {type(made).__name__} has no {missing[0]!r}, which "
            f"{protocol.partition(':')[2]} needs; see {protocol}."
        )
