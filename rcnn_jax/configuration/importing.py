"""Objects named by import path, such as `my_fork.models:Mine`, and built with checked arguments."""

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
    """Returns the present address of an import path; see `MOVED`.

    Args:
        path: Import path `package.module:Name`, present or former.

    Returns:
        The present import path; `path` itself if nothing has moved.
    """
    for _ in range(len(MOVED)):  # an object may have moved more than once
        module, colon, name = path.partition(":")
        if path in MOVED:
            path = MOVED[path]
        elif module in MOVED:
            path = MOVED[module] + colon + name
        else:
            break
    return path


def with_current_paths(value: Any) -> Any:
    """Replaces the import paths in a part of a config by their present addresses.

    Args:
        value: Text, sequence, mapping or any other value. Import paths may occur inside a text, as
            in a chain of transforms.

    Returns:
        A value of the same types with the texts replaced.
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
    """Imports the object that a config names.

    Args:
        path: Import path `package.module:Name`. An object that has moved is found at its present
            address.
        what: Use of the object for error messages: a config key, or a word such as "transform".

    Returns:
        The object.

    Raises:
        UsageError: The object cannot be imported; the message states the reason and a remedy.
    """
    module_name, _, name = current(path).partition(":")
    if not module_name or not name.isidentifier():
        raise UsageError(f"{what} {path!r} is no import path like 'my_fork.module:Name'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # The user can install a missing package; any other error is inside the imported module.
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
    """Returns the keyword arguments of a class or function, without those that Linen adds.

    A function that passes unknown arguments (`**attributes`) to the dataclass that it returns also
    accepts the arguments of that class.

    Args:
        target: Class or function.

    Returns:
        Annotations by name of the argument; `Any` for an argument without annotation.
    """
    try:
        hints = typing.get_type_hints(target)
    except (AttributeError, NameError, TypeError):
        hints = {}  # annotations that cannot be evaluated at run time are not checked
    if dataclasses.is_dataclass(target):
        names = [field.name for field in dataclasses.fields(target) if field.init]
        allowed = {name: hints.get(name, Any) for name in names}
    else:
        signature = inspect.signature(target).parameters.values()
        allowed = {p.name: hints.get(p.name, Any) for p in signature if p.kind is not p.VAR_KEYWORD}
        made = hints.get("return")
        hands_on = len(allowed) < len(signature) and dataclasses.is_dataclass(made)
        allowed = (arguments(made) if hands_on else {}) | allowed
    return {name: hint for name, hint in allowed.items() if name not in ("parent", "name")}


def accepts(hint: Any, value: Any) -> bool:
    """Returns whether a value is of an annotated type.

    Args:
        hint: Annotation. Kinds of annotations not handled here accept every value.
        value: Any value.
    """
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
        items = typing.get_args(hint)
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        if origin is tuple and items and items[-1] is not ...:
            return len(items) == len(value) and all(map(accepts, items, value))
        return not items or all(accepts(items[0], item) for item in value)
    if origin in (Mapping, dict):
        items = typing.get_args(hint)
        return isinstance(value, Mapping) and (
            not items or all(accepts(items[1], item) for item in value.values())
        )
    return True


def readable(hint: Any) -> str:
    """Formats an annotation for reading.

    Args:
        hint: Annotation.
    """
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", "")


def checked(
    stated: Mapping[str, Any], origin: str, name: str, allowed: Mapping[str, Any]
) -> dict[str, Any]:
    """Checks the keyword arguments that a config states against those of their target.

    Args:
        stated: Arguments by name.
        origin: Name of the config section, for error messages.
        name: Import path of the target, for error messages.
        allowed: Annotations of the target's arguments by name, from `arguments`.

    Returns:
        The arguments, with integers converted to floats where floats are expected.

    Raises:
        UsageError: The target does not accept an argument or its value.
    """
    # A nested section arrives as a ConfigDict.
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
    """Builds the object that a config section describes.

    Args:
        section: `name`, an import path, and the keyword arguments of its target.
        origin: Name of the config section, for error messages.
        **given: Further arguments; those that the target does not accept are left out.

    Returns:
        The result of calling the target.

    Raises:
        UsageError: The target cannot be imported, does not accept a key of the section or its
            value, lacks a required argument, or is code of a fork that raises an error when it is
            called.
    """
    target = resolve(section["name"], f"{origin}.name")
    stated = {key: value for key, value in section.items() if key != "name"}
    keys = checked(stated, origin, section["name"], arguments(target))
    return call(target, section["name"], origin, given, keys)


def call(
    target: Any, name: str, origin: str, given: Mapping[str, Any], keys: Mapping[str, Any]
) -> Any:
    """Calls the class or function that a config names.

    Args:
        target: Class or function, from `resolve`.
        name: Import path of the target, for error messages.
        origin: Name of the config section that states its arguments, for error messages.
        given: Optional arguments; those that the target does not accept are left out.
        keys: Arguments that the config states, from `checked`. They take precedence.

    Returns:
        The result of the call.

    Raises:
        UsageError: The target is not callable, lacks a required argument, or is code of a fork that
            raises an error.
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
    """Returns the names of the arguments that have no default, among those that `arguments` lists.

    Args:
        target: Class or function.
    """
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
    """Checks that a call has all arguments that its target requires.

    Args:
        target: Class or function.
        name: Import path of the target, for error messages.
        origin: Name of the config section that states its arguments, for error messages.
        taken: Names of the arguments of the call.
        left: Names of further arguments on offer that the target does not accept; similar ones are
            suggested in the message.

    Raises:
        UsageError: A required argument is missing.
    """
    for key in required(target):
        if key not in taken:
            raise UsageError(
                f"{origin}: {name} cannot be built without the argument {key!r}, which {origin} "
                f"does not state and nothing offers{did_you_mean(key, left)}."
            )


def require_hashable(made: Any, name: str, origin: str) -> None:
    """Checks that an object of a fork can be a static argument of a compiled program.

    Args:
        made: The object.
        name: Import path of its class, for error messages.
        origin: Name of the config key that names it, for error messages.

    Raises:
        UsageError: The object is not hashable, as a dataclass that is not frozen.
    """
    try:
        hash(made)
    except TypeError as error:
        raise UsageError(
            f"{origin}: {name} must be hashable, and is not ({error}): decorate its class with "
            "@dataclasses.dataclass(frozen=True), and keep tuples in it instead of lists."
        ) from error


def check_parts(made: Any, names: Sequence[str], origin: str, protocol: str) -> None:
    """Checks that an object has the attributes and methods that it will be used by.

    Args:
        made: The object.
        names: Names of the required attributes and methods.
        origin: Name of the config key that it was built from, for error messages.
        protocol: Import path of the protocol that documents them.

    Raises:
        UsageError: An attribute or method is missing.
    """
    missing = [name for name in names if not hasattr(made, name)]
    if missing:
        raise UsageError(
            f"{origin}: {type(made).__name__} has no {missing[0]!r}, which "
            f"{protocol.partition(':')[2]} needs; see {protocol}."
        )
