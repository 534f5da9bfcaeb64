"""Weights to start from: another run's, or a file's, whole or in part."""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import UsageError, UserError, nearest
from rcnn_jax.training import parameters
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.interface import PyTree
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.mesh import Devices
from rcnn_jax.training.state import TrainState
from rcnn_jax.training.workdir import Workdir


def read(origin: str) -> dict[str, np.ndarray]:
    """Reads variables by path.

    Args:
        origin: A workdir, whose newest whole checkpoint is read.

    Returns:
        `params/...` and `model_state/...` (batch statistics) by path; the averaged ones where the
        run kept averages.

    Raises:
        UserError: It is none, or is damaged.
    """
    path = pathlib.Path(origin)
    if not Workdir(path).config.is_file():
        raise UserError(
            f"config.init_from={origin!r} is neither a workdir of a training run nor a weight "
            "file, whose name ends in .npz, .safetensors, .pt or .pth."
        )
    damaged: list[str] = []
    variables = reading.read_variables(Workdir(path).checkpoints, damaged)
    for message in damaged:
        distributed.warn(message)
    return variables


def read_for(
    state: TrainState,
    found: Mapping[str, np.ndarray],
    origin: str,
    include: Sequence[str],
    into: str = "",
) -> dict[str, np.ndarray]:
    """Chooses what is to replace initial variables, and checks that it fits.

    Args:
        state: The state, or its shapes.
        found: `params/...` and `model_state/...` by path, from `read` or a weight file.
        origin: Where they come from, for messages.
        include: Regular expressions; the parameters whose whole path one of them matches are
            replaced, and the batch statistics beside them.
        into: Path of the part of the model that they are of; empty: all of it.

    Returns:
        The replacements: `params/...` and `model_state/...` by path.

    Raises:
        UserError: There is no such part, or a parameter that is included is missing there or has
            another shape, or running statistics of its layer are missing there.
    """
    own = parameters.flatten(state.params)
    if into:
        parts = {part for path in own for part in _parts_around(path)}
        own = {path: leaf for path, leaf in own.items() if path.startswith(f"{into}/")}
        if not own:
            raise UsageError(
                f"config.init_into={into!r} is no part of the model: {nearest(into, parts)}."
            )
        found = {_inside(into, name): array for name, array in found.items()}
    parameters.require_matches(include, list(own), "config.init_include")
    faults, chosen = [], {}
    for path, leaf in own.items():
        if not any(re.fullmatch(pattern, path) for pattern in include):
            continue
        weights = found.get(f"params/{path}")
        if weights is None:
            there = [name.removeprefix("params/") for name in found if name.startswith("params/")]
            faults.append(f"it has no {path} ({nearest(path, there)})")
        elif weights.shape != leaf.shape:
            faults.append(f"{path} has shape {weights.shape} there and {leaf.shape} here")
        else:
            chosen[f"params/{path}"] = weights
    if faults:
        part = None if into or chosen else _part_of(own, found)
        hint = (
            f"It fits a part of the model: --config.init_into={part}."
            if part
            else "Name what is to be taken in config.init_include."
        )
        raise UserError(f"config.init_from={origin!r} does not fit: {_first_of(faults)}. {hint}")
    return chosen | _statistics(state, found, origin, include, chosen)


def _statistics(
    state: TrainState,
    found: Mapping[str, np.ndarray],
    origin: str,
    include: Sequence[str],
    chosen: Iterable[str],
) -> dict[str, np.ndarray]:
    """The running statistics that belong to chosen parameters.

    Raises:
        UserError: They are missing or have another shape there, and all parameters are taken.
    """
    chosen = {name.removeprefix("params/") for name in chosen}
    modules = {path.rpartition("/")[0] for path in chosen}
    left_out = {
        part
        for path in parameters.flatten(state.params).keys() - chosen
        for part in ("", *_parts_around(path))
    }
    whole = {part for path in chosen for part in ("", *_parts_around(path))} - left_out
    taken, faults = {}, []
    for path, leaf in parameters.flatten(state.model_state).items():
        # A module's statistics lie in `model_state/COLLECTION/` under the path of its parameters.
        # A normalization without parameters belongs to the part of the model around it.
        collection, _, variable = path.partition("/")
        module = variable.rpartition("/")[0]
        around = {"", *_parts_around(module)} if collection == "batch_stats" else set()
        if module not in modules and (module in left_out or not around & whole):
            continue
        statistics = found.get(f"model_state/{path}")
        if statistics is None:
            faults.append(f"it has no model_state/{path}")
        elif statistics.shape != leaf.shape:
            faults.append(f"{path} has shape {statistics.shape} there and {leaf.shape} here")
        else:
            taken[f"model_state/{path}"] = statistics
    if faults:
        lacks = (
            f"config.init_from={origin!r} has the parameters of layers without their running "
            f"statistics: {_first_of(faults)}"
        )
        # Who says which parameters are taken may mean to collect statistics anew.
        if tuple(include) == (".*",):
            raise UserError(
                f"{lacks}. With those of a new net it computes something else: write them into the "
                "file under these names, or, to collect them anew in training, say so with "
                "--config.init_include=.+ or other patterns."
            )
        distributed.warn(f"{lacks}; those of a new net stand in for them until training has moved")
    return taken


def _first_of(faults: Sequence[str]) -> str:
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more


def _parts_around(path: str) -> list[str]:
    """`a/b` and `a` for the parameter `a/b/kernel`."""
    return [str(part) for part in pathlib.PurePosixPath(path).parents][:-1]


def _part_of(own: Iterable[str], found: Iterable[str]) -> str | None:
    """The part of a model whose parameters are all there under their names within it."""
    there = {name.removeprefix("params/") for name in found if name.startswith("params/")}
    inside: dict[str, set[str]] = {}
    for path in own:
        for part in _parts_around(path):
            inside.setdefault(part, set()).add(path.removeprefix(f"{part}/"))
    fitting = [part for part, names in inside.items() if names <= there]
    return max(fitting, key=lambda part: len(inside[part]), default=None)


def _inside(part: str, name: str) -> str:
    """`params/PART/...` for `params/...`, and `model_state/COLLECTION/PART/...` likewise."""
    kind, _, path = name.partition("/")
    if kind == "model_state":
        collection, _, path = path.partition("/")
        kind = f"{kind}/{collection}"
    return f"{kind}/{part}/{path}"


class Fitter(Protocol):
    """What computes the initial weights of one parameter from training images."""

    @property
    def path(self) -> str:
        """The parameter's path."""
        ...

    def fit(self, blocks: Iterable[np.ndarray], kernel: np.ndarray) -> np.ndarray:
        """Takes blocks of preprocessed images and the initial weights; returns the new ones."""
        ...


def fit_for(
    state: TrainState, fitter: Fitter, blocks: Iterable[np.ndarray], devices: Devices
) -> dict[str, np.ndarray]:
    """Computes what is to replace an initial parameter from training images.

    Args:
        state: The state before the first step.
        fitter: From `config.init_fit`.
        blocks: Preprocessed training images, read only as far as the fitter wants them.
        devices: Where the state lies.

    Returns:
        The replacement, by path.

    Raises:
        UserError: There is no such parameter, or the images do not fit it.
    """
    own = parameters.flatten(state.params)
    if fitter.path not in own:
        raise UsageError(
            f"config.init_fit.path={fitter.path!r} is no parameter: {nearest(fitter.path, own)}."
        )
    try:
        weights = fitter.fit(blocks, np.asarray(devices.replicate(own[fitter.path])))
    except ValueError as error:
        raise UserError(f"config.init_fit: {error}.") from error
    return {f"params/{fitter.path}": weights}


def replace(state: TrainState, chosen: Mapping[str, np.ndarray], devices: Devices) -> TrainState:
    """Replaces initial variables.

    Args:
        state: The state before the first step.
        chosen: From `read_for`.
        devices: Where the state lies.

    Returns:
        The state with those variables, also in its averages.
    """

    def replaced(tree: PyTree, prefix: str) -> PyTree:
        return parameters.map_paths(
            lambda path, leaf: (
                np.asarray(chosen[f"{prefix}/{path}"], leaf.dtype)
                if f"{prefix}/{path}" in chosen
                else leaf
            ),
            tree,
        )

    shardings = devices.state_shardings(state)
    new = devices.put(
        {
            "params": replaced(state.params, "params"),
            "model_state": replaced(state.model_state, "model_state"),
        },
        {"params": shardings.params, "model_state": shardings.model_state},
    )
    # Copies for the averages: the step gives the memory of its input away, and may only once.
    ema = None if state.ema is None else jax.tree.map(jnp.copy, new)
    return state.replace(**new, ema=ema)
