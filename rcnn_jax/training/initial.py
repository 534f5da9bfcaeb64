"""Initial weights that are taken, whole or in part, from another run or from a weight file."""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import UsageError, UserError, did_you_mean, nearest, shortened
from rcnn_jax.training import parameters
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.interface import PyTree
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.mesh import Devices
from rcnn_jax.training.state import TrainState
from rcnn_jax.training.workdir import Workdir


def read(origin: str) -> dict[str, np.ndarray]:
    """Reads the variables of another run's newest whole checkpoint.

    Args:
        origin: Path of the workdir of the other run.

    Returns:
        Arrays by path: `params/...` and `model_state/...` (batch statistics). They are the averaged
        ones if the run kept averages.

    Raises:
        UserError: `origin` is not a workdir, or its checkpoint is damaged.
    """
    path = pathlib.Path(origin)
    if not Workdir(path).config.is_file():
        raise UserError(
            f"config.init_from={origin!r} is neither a workdir of a training run nor a weight "
            "file, whose name ends in .npz, .safetensors, .pt, .pth, .ckpt, .bin or .tar."
        )
    damaged: list[str] = []
    variables = reading.read_variables(Workdir(path).checkpoints, damaged)
    for message in damaged:
        distributed.warn(message)
    return variables


def paths(state: TrainState, into: str = "") -> set[str]:
    """Returns the paths by which weights for a model are named in files of this package.

    Args:
        state: State before the first step, or its shapes.
        into: Path of the part of the model that the weights are for. The empty string means the
            whole model.

    Returns:
        Paths `params/...` and `model_state/...`, without the path of the part.
    """
    whole = {f"params/{path}" for path in parameters.flatten(state.params)}
    whole |= {f"model_state/{path}" for path in parameters.flatten(state.model_state)}
    if not into:
        return whole
    return {
        path.replace(f"/{into}/", "/", 1)
        for path in whole
        if path == _inside(into, path.replace(f"/{into}/", "/", 1))
    }


def read_for(
    state: TrainState,
    found: Mapping[str, np.ndarray],
    origin: str,
    include: Sequence[str],
    into: str = "",
) -> dict[str, np.ndarray]:
    """Selects the variables that replace initial ones and checks that they fit the model.

    Args:
        state: State before the first step, or its shapes.
        found: Arrays by path, `params/...` and `model_state/...`, from `read` or from a weight
            file.
        origin: Name of the workdir or file that the arrays come from, for error messages.
        include: Regular expressions. A parameter is replaced if one of them matches its whole path;
            the batch statistics of its layer are replaced with it.
        into: Path of the part of the model that the arrays belong to. The empty string means the
            whole model.

    Returns:
        Replacement arrays by path, `params/...` and `model_state/...`.

    Raises:
        UserError: The model has no part `into`; or an included parameter is missing in `found` or
            has another shape there; or the running statistics of its layer are missing in `found`.
    """
    params = parameters.flatten(state.params)
    if into:
        parts = {part for path in params for part in _parts_around(path)}
        params = {path: leaf for path, leaf in params.items() if path.startswith(f"{into}/")}
        if not params:
            raise UsageError(
                f"config.init_into={into!r} is no part of the model: {nearest(into, parts)}."
            )
        found = {_inside(into, name): array for name, array in found.items()}
    parameters.require_matches(include, list(params), "config.init_include")
    faults, chosen = [], {}
    for path, leaf in params.items():
        if not any(re.fullmatch(pattern, path) for pattern in include):
            continue
        weights = found.get(f"params/{path}")
        if weights is None:
            there = [name.removeprefix("params/") for name in found if name.startswith("params/")]
            faults.append(f"it has no {path} ({_instead(path, there)})")
        elif weights.shape != leaf.shape:
            faults.append(f"{path} has shape {weights.shape} there and {leaf.shape} here")
        else:
            chosen[f"params/{path}"] = weights
    if faults:
        part = None if into or chosen else _part_of(params, found)
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
    """Returns the running statistics that belong to the chosen parameters.

    Raises:
        UserError: Statistics are missing or have another shape in `found`, and `include` takes all
            parameters.
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
        # The statistics of a module are in `model_state/COLLECTION/` under the path of its
        # parameters. A normalization without parameters belongs to the enclosing part of the model.
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
        # A user who selects parameters may intend to collect the statistics anew.
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


def _instead(path: str, there: Sequence[str]) -> str:
    """Says which parameter there was probably meant, or the first few of them."""
    close = did_you_mean(path, there).removeprefix("; ")
    if close:
        return close
    return f"it has {shortened(there, 5, spare=0)}" if there else "it has no parameters"


def _parts_around(path: str) -> list[str]:
    """Returns the enclosing parts of a parameter's path: `a/b` and `a` for `a/b/kernel`."""
    return [str(part) for part in pathlib.PurePosixPath(path).parents][:-1]


def _part_of(own: Iterable[str], found: Iterable[str]) -> str | None:
    """Returns the largest part of the model whose parameters are all in `found` under its names."""
    there = {name.removeprefix("params/") for name in found if name.startswith("params/")}
    inside: dict[str, set[str]] = {}
    for path in own:
        for part in _parts_around(path):
            inside.setdefault(part, set()).add(path.removeprefix(f"{part}/"))
    fitting = [part for part, names in inside.items() if names <= there]
    return max(fitting, key=lambda part: len(inside[part]), default=None)


def _inside(part: str, name: str) -> str:
    """Prefixes the path of a variable with a part of the model.

    `params/...` becomes `params/PART/...`, and `model_state/COLLECTION/...` becomes
    `model_state/COLLECTION/PART/...`.
    """
    kind, _, path = name.partition("/")
    if kind == "model_state":
        collection, _, path = path.partition("/")
        kind = f"{kind}/{collection}"
    return f"{kind}/{part}/{path}"


class Fitter(Protocol):
    """Interface of an object that computes initial weights of a parameter from training images."""

    @property
    def path(self) -> str:
        """Path of the parameter that is fitted."""
        ...

    def fit(self, blocks: Iterable[np.ndarray], kernel: np.ndarray) -> np.ndarray:
        """Computes the initial weights of the parameter.

        Args:
            blocks: Blocks of preprocessed training images.
            kernel: Initial weights as the model draws them.

        Returns:
            The new weights.
        """
        ...


def fit_for(
    state: TrainState, fitter: Fitter, blocks: Iterable[np.ndarray], devices: Devices
) -> dict[str, np.ndarray]:
    """Computes a replacement for one initial parameter from training images.

    Args:
        state: State before the first step.
        fitter: Object that `config.init_fit` describes.
        blocks: Blocks of preprocessed training images. Only as many are read as the fitter needs.
        devices: Devices that hold the state.

    Returns:
        The replacement array, by the path of its parameter.

    Raises:
        UserError: The model has no such parameter, or the images do not fit it.
    """
    params = parameters.flatten(state.params)
    if fitter.path not in params:
        raise UsageError(
            f"config.init_fit.path={fitter.path!r} is no parameter: {nearest(fitter.path, params)}."
        )
    try:
        weights = fitter.fit(blocks, np.asarray(devices.replicate(params[fitter.path])))
    except ValueError as error:
        raise UserError(f"config.init_fit: {error}.") from error
    return {f"params/{fitter.path}": weights}


def replace(state: TrainState, chosen: Mapping[str, np.ndarray], devices: Devices) -> TrainState:
    """Replaces initial variables of a state.

    Args:
        state: State before the first step.
        chosen: Replacement arrays by path, from `read_for` or `fit_for`.
        devices: Devices that hold the state.

    Returns:
        The state with these variables. Its averages, if it has any, start from them too.
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
    # The averages are copies: a training step donates each buffer of its input, and may do so
    # only once.
    ema = None if state.ema is None else jax.tree.map(jnp.copy, new)
    return state.replace(**new, ema=ema)
