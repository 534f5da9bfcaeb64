"""Models by short name, found in `rcnn_jax/models` without a registry."""

import importlib
import inspect
import pkgutil
import types
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from rcnn_jax import models
from rcnn_jax.configuration import importing, loading
from rcnn_jax.errors import UsageError, nearest

USUAL_INPUT = "32x32x3"
"""Input of a model whose file has no `EXAMPLE_INPUT`."""
USUAL_SIZES = {"classes": 10, "vocabulary": 1000}


def _is_module(thing: Any) -> bool:
    return inspect.isclass(thing) and issubclass(thing, nn.Module)


def _is_model(thing: Any) -> bool:
    """Returns whether an object is a Linen module, or a function annotated to return one."""
    if inspect.isfunction(thing):
        thing = inspect.signature(thing, eval_str=True).return_annotation
    return _is_module(thing)


def _names(module: types.ModuleType) -> list[str]:
    """Returns the public modules and presets that a file defines, in its order."""
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and getattr(thing, "__module__", None) == module.__name__
        and _is_model(thing)
    ]


def known() -> dict[str, str]:
    """Finds every public module and preset of `rcnn_jax/models` by its class or function name.

    Returns:
        The import paths by short name.

    Raises:
        ValueError: Two files use one name.
    """
    paths: dict[str, str] = {}
    for info in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"{models.__name__}.{info.name}")
        for name in _names(module):
            if name in paths:
                raise ValueError(f"two models are called {name}: {paths[name]} and {module}")
            paths[name] = f"{module.__name__}:{name}"
    return paths


def find(name: str) -> str:
    """Returns the import path of a model.

    Args:
        name: A short name from `known`; the name of a file in `rcnn_jax/models` that defines a
            single module; or an import path.

    Returns:
        The import path, `package.module:Name`.

    Raises:
        UsageError: There is no such name.
    """
    if ":" in name:
        return name
    paths = known()
    classes: dict[str, list[str]] = {}
    for path in paths.values():
        if inspect.isclass(importing.resolve(path, "--model")):
            classes.setdefault(path.partition(":")[0].rpartition(".")[2], []).append(path)
    paths = {file: modules[0] for file, modules in classes.items() if len(modules) == 1} | paths
    if name not in paths:
        raise UsageError(
            f"--model={name} is no model of this package, and any other is named by import path, "
            f"as in my_fork.models:Mine: {nearest(name, paths)}."
        )
    return paths[name]


def build(path: str, overrides: Sequence[tuple[str, str]] = ()) -> nn.Module:
    """Makes a model; sizes that data determine have their usual values unless they are given.

    Args:
        path: Import path of a Linen module or of a function that returns one.
        overrides: Pairs (`model.KEY`, value as typed).

    Returns:
        The model.

    Raises:
        UsageError: The path cannot be imported or is not a model, the model has no such argument,
            or a value is wrong.
    """
    target = importing.resolve(path, "--model")
    if not (_is_module(target) or inspect.isfunction(target)):
        raise UsageError(
            f"--model={path} is {type(target).__name__} {target!r}, neither a Linen module nor a "
            "function that returns one."
        )
    for key, text in overrides:
        section, _, name = key.partition(".")
        if section != "model" or name in ("", "name"):
            raise UsageError(
                f"--config.{key}={text}: beside --model only keys of the model can be set, as in "
                "--config.model.KEY=VALUE."
            )
    section: Any = {"name": path}
    takes = importing.arguments(target)
    section |= {name: size for name, size in USUAL_SIZES.items() if name in takes}
    config: Any = loading.complete({"model": section}, origin="--model")
    for key, text in overrides:
        loading.override(config, key, text)
    model = importing.build(config.model, "config.model")
    if not isinstance(model, nn.Module):
        raise UsageError(f"--model={path} gives a {type(model).__name__}, not a Linen module.")
    return model


def has_example(path: str) -> bool:
    """Returns whether the file of a model defines `EXAMPLE_INPUT`.

    Args:
        path: Import path of the model.
    """
    return hasattr(inspect.getmodule(importing.resolve(path, "--model")), "EXAMPLE_INPUT")


def example_input(path: str) -> str:
    """Returns the input with which a model is shown.

    Args:
        path: Import path of the model.

    Returns:
        `EXAMPLE_INPUT` of the model's file, or `USUAL_INPUT` if the file does not define it.
    """
    target = importing.resolve(path, "--model")
    return getattr(inspect.getmodule(target), "EXAMPLE_INPUT", USUAL_INPUT)
