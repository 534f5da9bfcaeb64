"""Configs: Python files that describe an experiment, checked before anything starts.

A config is a file with a function `get_config()` that returns an `ml_collections.ConfigDict` (or a
plain dict), and optionally a table `VARIANTS` of named changes: `--config=FILE:variant`. It states
only what differs from `DEFAULTS`. Every key is checked against the defaults, so that a typing
mistake ends in an error message instead of a run with an unintended default.
"""

import ast
import importlib.util
import json
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.configuration import hints
from rcnn_jax.configuration.importing import with_current_paths
from rcnn_jax.configuration.schema import (
    DEFAULTS,
    EVALUATION_KEYS,
    NAME_LISTS,
    OPEN_SECTIONS,
    RUNTIME_KEYS,
    check,
)
from rcnn_jax.errors import UsageError, nearest


def shipped() -> dict[str, pathlib.Path]:
    """Returns the configs that come with the package, in a wheel or in a checkout.

    Returns:
        Path of each config by name.
    """
    here = pathlib.Path(__file__).resolve().parents[1]
    for folder in (here / "configs", here.parent / "configs"):
        if folder.is_dir():
            return {p.stem: p for p in sorted(folder.glob("*.py")) if p.stem != "__init__"}
    return {}


def load(text: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """Loads a config.

    Args:
        text: Path `configs/rcnn_digits.py` or shipped name `rcnn_digits`, followed by `:variant`
            (or `:one,two`) to apply variants of the config.
        overrides: Pairs (dotted key, value as typed by the user).

    Returns:
        The complete config, locked.

    Raises:
        UsageError: The file, a variant or a key does not exist, or a value has the wrong type.
    """
    path, variants = _find(text)
    module, given = _execute(path)
    config = complete(given, origin=str(path))
    table = getattr(module, "VARIANTS", {})
    for variant in variants:
        if variant not in table:
            raise UsageError(
                f"--config={text}: {path.name} has no variant {variant!r}: "
                f"{nearest(variant, table)}."
            )
        for key, value in table[variant].items():
            _assign(config, key, value, f"variant {variant!r} of {path.name}")
    for key, value in overrides:
        override(config, key, value)
    check(config, origin=f"--config={text}")
    return config


def _find(text: str) -> tuple[pathlib.Path, list[str]]:
    name, _, variants = text.partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        known = shipped()
        # `configs/rcnn_digits.py` also works for an installed package without a checkout.
        stem = path.stem if path.parent in (pathlib.Path(), pathlib.Path("configs")) else ""
        if stem not in known:
            raise UsageError(
                f"--config={text}: there is no file {name!r} and no shipped config of that name: "
                f"{nearest(path.stem, known)}."
            )
        path = known[stem]
    return path, [v for v in variants.split(",") if v]


def _execute(path: pathlib.Path) -> tuple[types.ModuleType, Any]:
    spec = importlib.util.spec_from_file_location(f"rcnn_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--config={path}: a config is a Python file whose name ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        given = module.get_config() if callable(getattr(module, "get_config", None)) else None
    except Exception as error:
        line = getattr(error, "lineno", None) or _line_in(error, path)
        raise UsageError(f"--config={path}: line {line} {hints.about_error(error)}") from error
    if not isinstance(given, Mapping | ConfigDict):
        raise UsageError(
            f"--config={path}: the file needs a function get_config() that returns a ConfigDict "
            f"or a dict, not {type(given).__name__}."
        )
    return module, given


def _line_in(error: BaseException, path: pathlib.Path) -> int:
    trace, line = error.__traceback__, 0
    while trace is not None:
        if pathlib.Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def complete(given: Mapping[str, Any] | ConfigDict, origin: str) -> ConfigDict:
    """Completes a config with `DEFAULTS`.

    Args:
        given: Contents of a config file or of a `config.json`.
        origin: Name of their file, for error messages.

    Returns:
        A locked config with all keys.

    Raises:
        UsageError: A key is unknown or a value has the wrong type.
    """
    config = ConfigDict(_tuples(DEFAULTS), convert_dict=True)
    for key, value in _leaves(given.to_dict() if isinstance(given, ConfigDict) else given):
        # An empty section changes none of its defaults.
        if value != {} or not isinstance(_lookup(config, key, origin), ConfigDict):
            _assign(config, key, value, origin)
    config.lock()
    return config


def override(config: ConfigDict, key: str, text: str) -> None:
    """Sets one key to a text that a user typed, parsed as the type of the value it replaces.

    Args:
        config: Complete config, changed in place.
        key: Dotted key, such as `optimizer.momentum`.
        text: Value as typed.

    Raises:
        UsageError: The key is unknown, or the text is not a value of its type.
    """
    origin = f"--config.{key}={text}"
    current = _lookup(config, key, origin)
    if isinstance(current, ConfigDict):
        inside = ", ".join(f"{key}.{k}" for k in sorted(current)) or f"{key}.ANYTHING"
        raise UsageError(f"{origin}: {key!r} is a section; set one of its keys: {inside}.")
    if isinstance(current, str):
        # A text is taken literally, except for `None`, which means None as in flags of other tools.
        value: Any = None if text == "None" else text
    elif isinstance(current, bool) and text.lower() in ("true", "false", "1", "0"):
        value = text.lower() in ("true", "1")
    else:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            # The value of a new key may be a boolean in the spelling of other tools.
            value = {"true": True, "false": False}.get(text, text)
    _assign(config, key, value, origin)


def _lookup(config: ConfigDict, key: str, origin: str) -> Any:
    node: Any = config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if isinstance(node, ConfigDict) and part in node:
            node = node[part]
            continue
        if isinstance(node, ConfigDict) and is_among(".".join(parts[: depth + 1]), OPEN_SECTIONS):
            return None  # checked against the target of `name` when that is built
        if depth and not isinstance(node, ConfigDict):
            parent = ".".join(parts[:depth])
            raise UsageError(f"{origin}: {parent!r} is the value {node!r} and has no keys.")
        hint = hints.about_key(key, config.to_dict())
        raise UsageError(f"{origin}: there is no config key {key!r}: {hint}")
    return node


def _assign(config: ConfigDict, key: str, value: Any, origin: str) -> None:
    current = _lookup(config, key, origin)
    value = _tuples(value)
    # The types that a key of an open section accepts besides None are known only when it is built.
    free = value is None and is_among(key, OPEN_SECTIONS)
    if current is not None and not free:
        if isinstance(current, float) and type(value) is int:
            value = float(value)
        if isinstance(current, tuple) and isinstance(value, str):
            names = value.split(",") if key in NAME_LISTS else [value]
            value = tuple(filter(None, names))
        if type(value) is not type(current) and not (
            isinstance(current, ConfigDict) and isinstance(value, dict)
        ):
            takes = f"takes a value of type {type(current).__name__} (as {current!r})"
            if isinstance(current, ConfigDict):
                takes = f"is a section of keys, such as {', '.join(list(current)[:3]) or 'name'}"
            raise UsageError(
                f"{origin}: {key} {takes}, not {value!r} of type {type(value).__name__}."
            )
    *sections, last = key.split(".")
    with config.unlocked():
        node: Any = config
        for section in sections:
            if section not in node:
                node[section] = ConfigDict()
            node = node[section]
        node[last] = value


def to_json(config: ConfigDict) -> str:
    """Formats a config as JSON text that `from_json` restores completely.

    Args:
        config: Complete config.
    """
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(path: pathlib.Path) -> ConfigDict:
    """Reads a `config.json`.

    Args:
        path: Path of the file.

    Returns:
        The complete config, locked.

    Raises:
        UsageError: The file is missing, is not JSON, or is not a config of this version.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} is no workdir of a training run: it has no {path.name}."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged: {error}.") from error
    config = complete(with_current_paths(given), origin=str(path))
    check(config, origin=str(path))
    return config


def for_evaluation(
    path: str | pathlib.Path, overrides: Sequence[tuple[str, str]] = ()
) -> ConfigDict:
    """Reads the config of a run for evaluation.

    Args:
        path: Path of the run's `config.json`.
        overrides: Pairs (dotted key, text) from the command line.

    Returns:
        The complete config.

    Raises:
        UsageError: The file cannot be read, or an override would change the experiment.
    """
    config = from_json(pathlib.Path(path))
    for key, text in overrides:
        override(config, key, text)
        if not is_among(key, RUNTIME_KEYS + EVALUATION_KEYS):
            raise UsageError(
                f"--config.{key}={text}: evaluation takes the run's own config; what can be "
                f"changed is {', '.join(EVALUATION_KEYS + RUNTIME_KEYS)}."
            )
    check(config, origin="the command line")
    return config


def is_among(key: str, keys: Sequence[str]) -> bool:
    """Returns whether a dotted key is one of `keys` or lies inside a section that is.

    Args:
        key: Dotted key.
        keys: Dotted keys and names of sections.
    """
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def differences(old: ConfigDict, new: ConfigDict) -> tuple[list[str], list[str]]:
    """Compares two configs.

    Args:
        old: Config of an existing run.
        new: Config that is requested.

    Returns:
        The differences that make another experiment, and those that only change how the run is
        carried out, each as lines `key: old -> new`. An import path and its present address count
        as equal.
    """
    left, right = (dict(_leaves(with_current_paths(each.to_dict()))) for each in (old, new))
    experiment, runtime = [], []
    keys = left.keys() | right.keys()
    # If a section is empty on one side alone, the keys of the other side show the difference.
    empty = {k for k in keys if {} in (left.get(k), right.get(k))}
    filled = {k for k in empty if any(other.startswith(f"{k}.") for other in keys)}
    for key in sorted(keys - filled):
        before, after = left.get(key, "(none)"), right.get(key, "(none)")
        if before != after:
            (runtime if is_among(key, RUNTIME_KEYS) else experiment).append(
                f"{key}: {before!r} -> {after!r}"
            )
    return experiment, runtime


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values.

    An empty mapping is a value, because it may replace another one.
    """
    for key, value in node.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            yield from _leaves(dict(value.items()), f"{prefix}{key}.")
        else:
            yield prefix + str(key), {} if isinstance(value, Mapping | ConfigDict) else value


def _tuples(value: Any) -> Any:
    """Converts lists to tuples, so that a config read from JSON equals the one written."""
    if isinstance(value, list | tuple):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, Mapping):
        return {k: _tuples(v) for k, v in value.items()}
    return value
