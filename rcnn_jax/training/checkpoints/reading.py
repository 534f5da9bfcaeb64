"""Lists and restores checkpoints, and verifies all that is read.

This file and `saving.py`, which writes checkpoints, are the only ones that use Orbax. A checkpoint
holds the whole training state, and in its metadata a manifest: shape, type and checksum of every
leaf, and the topology it was made on. A checkpoint counts as whole only if the data read back have
the checksums of the data written. The metrics of its evaluation are stored beside it (see
`evaluations.py`); the manifests of older versions contain them, because those versions evaluated
states before saving them.
"""

import contextlib
import dataclasses
import itertools
import math
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1
from orbax.checkpoint._src.futures.synchronization import OperationIdGenerator

from rcnn_jax.errors import UserError
from rcnn_jax.output.digests import json_digest
from rcnn_jax.training import evaluations, parameters
from rcnn_jax.training.checkpoints import checksums
from rcnn_jax.training.checkpoints.errors import (
    DamagedError,
    check_machine,
    check_same_model,
    short,
)
from rcnn_jax.training.interface import PyTree
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.state import Variables

# The annotations of Orbax are narrower than the values it accepts.
ocp: Any = v1
T = TypeVar("T")
_reads = itertools.count()
_STATE = "state"
_VISIBLE_S = 60  # time within which a network file system shows files to all processes


@dataclasses.dataclass(frozen=True)
class Restored:
    """Contents of a restored checkpoint.

    Attributes:
        state: Training state, or its `Variables`.
        step: Number of training steps that the state has taken.
        metrics: Metrics of the evaluation at this step; empty if there was none or it was not
            finished.
        topology: Topology that the checkpoint was made on.
        answered: Whether the state was saved after its learning rate had been adjusted to
            `metrics`, as older versions did.
    """

    state: PyTree
    step: int
    metrics: dict[str, float]
    topology: dict[str, Any]
    answered: bool


def steps(directory: pathlib.Path) -> list[int]:
    """Returns the steps that have a checkpoint, whole or damaged, in ascending order.

    Leftovers of interrupted saves have other names and do not count.

    Args:
        directory: Folder of checkpoints, which need not exist.
    """
    if not directory.is_dir():
        return []
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdecimal() and p.is_dir())


def _steps_for_all(directory: pathlib.Path) -> list[int]:
    """Returns `steps` of the first process; listings of a network file system may differ."""
    return distributed.first(lambda: steps(directory))


def _manifest(directory: pathlib.Path, step: int) -> dict[str, Any]:
    folder = _folder(directory, step)
    until = time.monotonic() + _VISIBLE_S
    while not folder.is_dir() and distributed.count() > 1:
        if time.monotonic() > until:
            raise UserError(
                f"process {jax.process_index()} does not see {folder}, which process 0 sees: a "
                "workdir must lie on a file system that all processes share."
            )
        time.sleep(0.5)
    try:
        with _alone():
            stored = ocp.metadata(folder).custom_metadata
        manifest = stored["manifest"]
        whole = stored["digest"] == json_digest(manifest)
    except Exception as error:
        check_machine(folder, error)
        raise DamagedError(
            f"the checkpoint {folder} is damaged: its metadata cannot be read ({short(error)})"
        ) from error
    if not whole:
        raise DamagedError(f"the checkpoint {folder} is damaged: its metadata has been altered")
    return manifest


def read_metrics(directory: pathlib.Path, step: int) -> dict[str, float]:
    """Reads the metrics of a checkpoint's evaluation, as this process sees them.

    Args:
        directory: Folder of checkpoints.
        step: Step of the checkpoint.

    Returns:
        Value of each metric by name; empty if there was no evaluation, or if it was not finished or
        its file is damaged.

    Raises:
        DamagedError: The metadata of the checkpoint cannot be read.
    """
    manifest = _manifest(directory, step)
    return manifest.get("metrics") or evaluations.read(_folder(directory, step)) or {}


def restore(directory: pathlib.Path, step: int, abstract: PyTree) -> Restored:
    """Reads one checkpoint and verifies every leaf.

    Args:
        directory: Folder of checkpoints.
        step: Step of the checkpoint.
        abstract: Shapes, types and shardings of the state. If they are `Variables`, only these are
            read, the averages if the run kept them, and nothing of the optimiser.

    Returns:
        The checkpoint, its state sharded according to `abstract`, whatever devices it was saved on.

    Raises:
        DamagedError: A file is missing or has been altered, if only by one bit.
        ForeignError: The checkpoint belongs to another model, optimiser or task.
    """
    manifest = _agreed(lambda: _manifest(directory, step))
    leaves = manifest["leaves"]
    averaged, wanted, compared = "", abstract, leaves
    if isinstance(abstract, Variables):
        averaged, compared = _evaluated_leaves(leaves)
        parts = {"params": abstract.params, "model_state": abstract.model_state}
        parts = {name: part for name, part in parts.items() if jax.tree.leaves(part)}
        wanted = {"ema": parts} if averaged else parts
    check_same_model(_folder(directory, step), compared, abstract)
    arrays = _agreed(lambda: _read(directory, step, leaves, wanted))
    arrays = {path.removeprefix(averaged): array for path, array in arrays.items()}
    answered = bool(manifest.get("metrics"))
    metrics = manifest["metrics"] if answered else _evaluation_for_all(directory, step) or {}
    state = _place(arrays, abstract)
    return Restored(state, step, metrics, manifest["topology"], answered)


def _evaluation_for_all(directory: pathlib.Path, step: int) -> dict[str, float] | None:
    return distributed.first(lambda: evaluations.read(_folder(directory, step)))


def _evaluated_leaves(leaves: dict[str, list]) -> tuple[str, dict[str, list]]:
    """Returns the leaves that evaluation uses.

    Args:
        leaves: Lists [shape, type, checksum] by path, from a manifest.

    Returns:
        The prefix of their paths in the checkpoint, "ema/" if the run kept averages; and the leaves
        by the paths `params/...` and `model_state/...`.
    """
    averaged = "ema/" if any(path.startswith("ema/") for path in leaves) else ""
    prefixes = (f"{averaged}params/", f"{averaged}model_state/")
    evaluated = {path: leaf for path, leaf in leaves.items() if path.startswith(prefixes)}
    return averaged, {path.removeprefix(averaged): leaf for path, leaf in evaluated.items()}


def _nested(leaves: dict[str, list], sharding: Any = None) -> dict[str, Any]:
    """Converts shapes and types by path to nested dicts."""
    tree: dict[str, Any] = {}
    for path, (shape, dtype, _) in leaves.items():
        node = tree
        *sections, name = path.split("/")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype), sharding=sharding)
    return tree


def abstract_variables(directory: pathlib.Path, sharding: Any) -> Variables:
    """Returns the shapes of the variables that evaluation uses, as the manifests state them.

    Args:
        directory: Folder of checkpoints, which holds at least one.
        sharding: Sharding of each leaf.

    Returns:
        Shapes, types and shardings, as nested dicts.

    Raises:
        DamagedError: No manifest can be read.
    """
    faults = []
    for step in reversed(_steps_for_all(directory)):
        try:
            manifest = _agreed(lambda step=step: _manifest(directory, step))
        except DamagedError as error:
            faults.append(str(error))
            continue
        tree = _nested(_evaluated_leaves(manifest["leaves"])[1], sharding)
        return Variables(tree.get("params", {}), tree.get("model_state", {}))
    raise DamagedError(f"no checkpoint in {directory} is whole: {'; '.join(faults)}.")


def _agreed(read: Callable[[], T]) -> T:
    """Calls a function that reads; an error in one process is raised in all of them."""
    result, failure = None, None
    try:
        result = read()
    except UserError as error:
        failure = error
    report = None if failure is None else [isinstance(failure, DamagedError), str(failure)]
    reports = [report for report in distributed.gather(report) if report is not None]
    # Errors other than damage come first, so that a checkpoint is not abandoned because of one
    # machine.
    for damaged, text in sorted(reports):
        raise DamagedError(text) if damaged else UserError(text)
    return result  # pyright: ignore[reportReturnType]


def _folder(directory: pathlib.Path, step: int) -> pathlib.Path:
    return (directory / str(step)).resolve()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Context in which Orbax reads for this process without synchronising with the others.

    A fault may be visible to one process alone, and the others must not wait for it.
    """
    context = ocp.Context()
    here = jax.process_index()
    context.multiprocessing.primary_host = here
    context.multiprocessing.active_processes = {here}
    context.multiprocessing.barrier_sync_key_prefix = f"process{here}-{next(_reads)}"
    context.pytree.loading.partial_load = True
    # Orbax numbers its operations, and processes that save together synchronise by that number.
    # Reads that one process makes and another does not must therefore leave it unchanged.
    number = OperationIdGenerator._operation_id
    try:
        with context:
            yield
    finally:
        OperationIdGenerator._operation_id = number
        OperationIdGenerator._operation_id_counter = itertools.count(number + 1)


def _read(
    directory: pathlib.Path, step: int, leaves: dict[str, list], wanted: PyTree
) -> dict[str, np.ndarray]:
    """Reads leaves into the memory of this process and verifies every one.

    Args:
        directory: Folder of checkpoints.
        step: Step of the checkpoint.
        leaves: Lists [shape, type, checksum] by path, from the manifest of the checkpoint.
        wanted: Part of the state that is read, a tree of leaves with a shape and a type.

    Returns:
        Arrays by path; random keys as their words.

    Raises:
        DamagedError: A file is missing or has been altered, if only by one bit.
    """
    folder = _folder(directory, step)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def stand_in(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
        # Makes Orbax read a NumPy array; takes no memory itself.
        return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)

    tree = jax.tree.map(stand_in, with_elements(wanted))
    try:
        with _alone():
            read = ocp.load(folder, tree, checkpointable_name=_STATE)
    except Exception as error:
        check_machine(folder, error)
        raise DamagedError(
            f"the checkpoint {folder} is damaged: it cannot be read ({short(error)})"
        ) from error
    arrays = {path: np.asarray(checksums.raw(x)) for path, x in parameters.flatten(read).items()}
    for path, leaf in parameters.flatten(wanted).items():
        if path not in arrays:
            arrays[path] = np.zeros(leaf.shape, leaf.dtype)
    for path, array in arrays.items():
        shape, dtype, checksum = leaves[path]
        # Orbax ignores the shape of an array that it is handed, and casts to its type.
        if (list(array.shape), str(array.dtype)) != (shape, dtype):
            raise DamagedError(
                f"the checkpoint {folder} is damaged: {path} is {array.dtype}{list(array.shape)} "
                f"and was {dtype}{shape} when it was saved"
            )
        if checksums.checksum(array) != checksum:
            raise DamagedError(
                f"the checkpoint {folder} is damaged: the checksum of {path} does not match"
            )
    return arrays


def with_elements(tree: PyTree) -> PyTree:
    """Replaces arrays without elements, which Orbax cannot save, by None.

    Args:
        tree: Tree of leaves with a shape.

    Returns:
        The tree with None in place of such leaves.
    """
    return jax.tree.map(lambda leaf: leaf if math.prod(leaf.shape) else None, tree)


def _place(arrays: dict[str, np.ndarray], abstract: PyTree) -> PyTree:
    """Places arrays according to the shardings of the leaves of `abstract`."""

    def place(path: str, leaf: Any) -> jax.Array:
        array = arrays[path]

        def put(sharding: Any) -> jax.Array:
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(leaf.sharding))
        return put(leaf.sharding)

    return parameters.map_paths(place, abstract)


def restore_latest(
    directory: pathlib.Path, abstract: PyTree, damaged: list[str]
) -> Restored | None:
    """Restores the newest checkpoint that is whole.

    Args:
        directory: Folder of checkpoints.
        abstract: Shapes, types and shardings of the state; see `restore`.
        damaged: List that messages about damaged checkpoints are appended to.

    Returns:
        The checkpoint, or None if the folder has no checkpoints.

    Raises:
        DamagedError: There are checkpoints, but none is whole.
        ForeignError: The newest whole checkpoint belongs to another model, optimiser or task.
    """
    return _first_whole(directory, _steps_for_all(directory)[::-1], abstract, damaged)


def restore_best(
    directory: pathlib.Path, abstract: PyTree, metric: str, mode: str, damaged: list[str]
) -> Restored:
    """Restores the checkpoint with the best evaluation metric, the latest of several equal ones.

    Args:
        directory: Folder of checkpoints.
        abstract: Shapes, types and shardings of the state; see `restore`.
        metric: Name of the metric.
        mode: "min" if lower values are better, "max" if higher values are better.
        damaged: List that messages about damaged checkpoints are appended to.

    Returns:
        The checkpoint.

    Raises:
        UserError: No checkpoint has the metric.
        DamagedError: None of the checkpoints with the metric is whole.
    """
    ranked = []
    for step in _steps_for_all(directory):
        try:
            manifest = _agreed(lambda step=step: _manifest(directory, step))
        except DamagedError as error:
            damaged.append(str(error))
            continue
        metrics = manifest.get("metrics") or _evaluation_for_all(directory, step)
        if metrics is None:
            damaged.append(f"the evaluation of {_folder(directory, step)} is damaged, not counted")
        elif metric in metrics:
            ranked.append((evaluations.rank(metrics[metric], mode), step))
    if not ranked:
        raise UserError(
            f"no checkpoint in {directory} carries the metric {metric!r}; use --step=latest"
            + (f". Damaged: {'; '.join(damaged)}" if damaged else "")
        )
    order = [step for _, step in sorted(ranked, reverse=True)]
    restored = _first_whole(directory, order, abstract, damaged)
    assert restored is not None
    return restored


def _first_whole(
    directory: pathlib.Path, order: list[int], abstract: PyTree, damaged: list[str]
) -> Restored | None:
    for step in order:
        try:
            return restore(directory, step, abstract)
        except DamagedError as error:
            damaged.append(str(error))
    if order:
        raise DamagedError(f"no checkpoint in {directory} is whole: {'; '.join(damaged)}.")
    return None


def set_aside(directory: pathlib.Path, newer_than: int | None) -> list[str]:
    """Moves checkpoints that could not be restored out of the way of a continued run.

    Nothing is deleted: they are moved to `damaged/` beside the folder of checkpoints.

    Args:
        directory: Folder of checkpoints.
        newer_than: Step of the restored checkpoint; newer ones are moved. None moves all of them.

    Returns:
        The new path of each checkpoint.
    """
    moved = []
    for step in steps(directory):
        if newer_than is None or step > newer_than:
            target = directory.parent / "damaged" / f"{step}-{time.time_ns()}"
            target.parent.mkdir(exist_ok=True)
            shutil.move(directory / str(step), target)
            moved.append(str(target))
    return moved


def read_variables(directory: pathlib.Path, damaged: list[str]) -> dict[str, np.ndarray]:
    """Reads the trained variables of a run without its model.

    Args:
        directory: Folder of checkpoints.
        damaged: List that messages about damaged checkpoints are appended to.

    Returns:
        Arrays of the newest whole checkpoint by path, `params/...` and `model_state/...`. They are
        the averages if the run kept them.

    Raises:
        UserError: There is no checkpoint, or none is whole.
    """
    for step in reversed(_steps_for_all(directory)):
        try:
            return _agreed(lambda step=step: _read_variables(directory, step))
        except DamagedError as error:
            damaged.append(str(error))
    raise UserError(f"{directory} holds no whole checkpoint. {'; '.join(damaged)}".rstrip())


def _read_variables(directory: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    leaves = _manifest(directory, step)["leaves"]
    averaged, evaluated = _evaluated_leaves(leaves)
    wanted = _nested({f"{averaged}{path}": leaf for path, leaf in evaluated.items()})
    arrays = _read(directory, step, leaves, wanted)
    return {path.removeprefix(averaged): array for path, array in arrays.items()}
