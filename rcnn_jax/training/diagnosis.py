"""Search for the first NaN or infinity of a training run that has diverged.

The loss is checked only every few steps, and by then the batch and the state that caused the
divergence are gone. The order of examples and all randomness are functions of (seed, step), so the
steps since the newest checkpoint can be repeated up to the first that fails. One more pass of that
step then inspects each layer.
"""

import bisect
import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from rcnn_jax.errors import shortened
from rcnn_jax.training import accumulation, parameters
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.checkpoints.errors import DivergedError, short
from rcnn_jax.training.interface import LossOutput, PyTree
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.mesh import Devices
from rcnn_jax.training.state import TrainState
from rcnn_jax.training.workdir import Workdir

# Largest number of steps that are repeated.
REPLAYED_STEPS = 200
_NAMED = 5  # largest number of examples or parameters that a message lists by name


class Place(NamedTuple):
    """Origin of NaN or infinity.

    Attributes:
        what: Description as a clause, such as "the output of conv1 (Conv) has NaN".
        of_data: Whether the batch itself contains it, so that no setting of the optimiser helps.
    """

    what: str
    of_data: bool = False


@dataclasses.dataclass
class _Call:
    """Output of one layer, or input of the model."""

    what: str
    path: str
    shape: str


def located(error: DivergedError, run: Any, workdir: Workdir, scale: float) -> DivergedError:
    """Adds the origin of a divergence to its error, if it was NaN or infinity in training.

    Every process of a job must call it.

    Args:
        error: Error that ended the training loop.
        run: Training run from `rcnn_jax.experiment.training_run.prepare_training`.
        workdir: Workdir of the run, which holds its checkpoints.
        scale: Factor of the learning rate that the loop used.

    Returns:
        The error with the origin in its message, or `error` itself if there was nothing to
        locate or the search failed.
    """
    if error.step is None:
        return error
    try:
        return _located(error, error.step, run, workdir, scale)
    except Exception as failure:  # noqa: BLE001 - the error must be raised even if this fails
        distributed.warn(f"where the NaN came from could not be looked for: {short(failure)}")
        return error


def _located(
    error: DivergedError, until: int, run: Any, workdir: Workdir, scale: float
) -> DivergedError:
    def origin() -> tuple[TrainState, int]:
        abstract = run.recipe.abstract_state(run.devices)
        restored = reading.restore_latest(workdir.checkpoints, abstract, [])
        state, step = (
            (run.initial_state(), 0)
            if restored is None
            else (run.continued(restored), restored.step)
        )
        return run.with_rate_scale(state, scale), step

    state, start = origin()
    if start >= until:
        return error
    end = min(until, start + REPLAYED_STEPS)
    distributed.say(f"looking for the first NaN from step {start + 1} on")
    first = _first_bad_step(run, state, start, end)
    if first is None:
        why = (
            "later ones were not taken again"
            if end < until
            else "this machine does not compute the same twice"
        )
        where = f"the steps {start + 1} to {end} are finite when they are taken again: {why}"
        return error.located(where, blames_rate=True)
    state, start = origin()
    with run.batches(start) as batches:
        for step in range(start + 1, first):
            state, _ = run.train_step(step)(state, next(batches))
        batch = next(batches)
    if run.devices.parallelism == "pmap":
        batch = run.devices.join(batch)
    place = locate(
        run.loss_of(first),
        state,
        batch,
        run.devices,
        accumulate=run.config.accumulate,
        examples=run.sampler.indices(first - 1),
    )
    where = f"step {first} is the first that is not finite: {place.what}"
    return error.located(where, blames_rate=first > 1 and not place.of_data)


def _first_bad_step(run: Any, state: TrainState, start: int, end: int) -> int | None:
    """Repeats steps until a loss or the state after it is not finite."""
    finite = jax.jit(_all_finite, out_shardings=run.devices.replicated)
    with run.batches(start) as batches:
        for step in range(start + 1, end + 1):
            state, sums = run.train_step(step)(state, next(batches))
            kept = state.replace(plateau=(), key=())  # a plateau's best value starts as infinity
            if not math.isfinite(float(sums["loss"][0])) or not bool(finite(kept)):
                return step
    return None


def locate(
    loss_of: Callable[..., LossOutput],
    state: TrainState,
    batch: PyTree,
    devices: Devices,
    *,
    accumulate: int = 1,
    examples: Sequence[int] | np.ndarray = (),
) -> Place:
    """Finds the first value in one training step that is not finite.

    Layers are the methods of Linen modules, in the order in which they return.

    Args:
        loss_of: Function with the arguments and the result of `Task.loss`.
        state: State before the step.
        batch: Batch with leaves `[batch, ...]`, global arrays.
        devices: Devices that hold the state and the batch.
        accumulate: Number of parts in which the step processes the batch.
        examples: Index of each row's example in the training split, for the message. Empty means
            that rows are named by their position in the batch.

    Returns:
        The origin of the first such value.
    """
    compiled = _Compiled(devices)
    before = {"params": state.params, "model_state": state.model_state, "carry": state.carry}
    rows, leaves, ranges = compiled(_facts, batch, before)
    for name, bad in rows.items():
        if bad.any():
            return Place(f"feature {name!r} of {_rows(bad, examples)}", of_data=True)
    spoiled = _bad_paths(leaves)
    if spoiled:
        verb = "has" if len(spoiled) == 1 else "have"
        return Place(f"{_several(spoiled)} {verb} NaN or infinity before the step")

    key = jax.jit(jax.random.fold_in)(state.key, state.step)
    arguments = (state.params, state.model_state, state.carry, batch, key)
    watch = _Watch()
    total, flags = compiled(watch.over(loss_of), *arguments)
    watch.finish(flags)
    bad_layer = _first_layer(watch, loss_is_finite=bool(np.isfinite(total)))
    if bad_layer:
        return Place(bad_layer)
    if not np.isfinite(total):
        answers = watch.calls[-1].shape if watch.calls else "nothing that is a layer"
        texts = [f"{name!r} {int(low)} to {int(high)}" for name, (low, high) in ranges.items()]
        return Place(
            "every layer is finite and the loss that is made of them is not; the last layer gives "
            f"{answers}, and the whole numbers of the batch are {', '.join(texts) or 'none'}"
        )

    def gradient(*arguments: Any) -> PyTree:
        return accumulation.gradient_of_sum(
            loss_of, *arguments, parts=accumulate, groups=devices.count
        )[0]

    spoiled = _bad_paths(compiled(lambda *a: _bad_leaves(gradient(*a)), *arguments))
    if not spoiled:
        return Place("loss and gradient are finite, and what the optimiser makes of them is not")
    # Backpropagation starts at the loss, so the last layer comes first.
    calls = {call.path: number for number, call in enumerate(watch.calls)}
    spoiled.sort(key=lambda path: -max((calls.get(part, -1) for part in _parts(path)), default=-1))
    more = f" (and those of {len(spoiled) - 1} more parameters)" if len(spoiled) > 1 else ""
    return Place(
        f"the loss is finite and its gradient is not; on the way back from the loss that of "
        f"{spoiled[0]} is the first{more}"
    )


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """Runs a function on global arrays and copies its small results to every process."""

    devices: Devices

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        made = jax.jit(function, out_shardings=self.devices.replicated)(*arguments)
        return jax.device_get(made)


class _Watch:
    """Records the layers of a model during one forward pass.

    Attributes:
        calls: The calls of layers in the order in which they return, one for each time a layer is
            traced.
    """

    def __init__(self):
        self.calls: list[_Call] = []
        self._outer: list[int] = []  # numbers of the calls outside transformations
        self._rounds: collections.Counter[int] = collections.Counter()  # returns of the others
        # (0 for NaN or 1 for infinity, number of the call) -> its first place in the order
        self._found: dict[tuple[int, int], tuple[int, float, int]] = {}

    def over(
        self, loss_of: Callable[..., LossOutput]
    ) -> Callable[..., tuple[jax.Array, list[jax.Array]]]:
        """Wraps a loss so that it also returns, for each outer layer, flags of NaN and infinity."""

        def loss(*arguments: Any) -> tuple[jax.Array, list[jax.Array]]:
            outer, level = [], _level()

            def note(what: str, path: str, values: Any) -> Any:
                arrays = [x for x in jax.tree.leaves(values) if _is_floating(x)]
                if not arrays:
                    return values
                number, flags = len(self.calls), _flags(arrays)
                self.calls.append(_Call(what, path, f"{arrays[-1].dtype}{list(arrays[-1].shape)}"))
                if _level() == level:
                    self._outer.append(number)
                    outer.append(flags)
                    return values
                # Values computed inside a scan must not leave it by assignment, so a callback
                # reports them. The layer's output is made to depend on the callback, which would
                # otherwise be removed as dead code.
                nothing = jax.pure_callback(
                    functools.partial(self._meet, number),
                    jax.ShapeDtypeStruct((), np.int32),
                    lax.stop_gradient(flags),
                    vmap_method="sequential",
                )
                return jax.tree.map(
                    lambda x: x + nothing.astype(x.dtype) if _is_floating(x) else x, values
                )

            def watch(
                call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
            ) -> Any:
                module, method = context.module, context.method_name
                if method == "setup":
                    return call(*args, **kwargs)
                if not self.calls:
                    note("what the model is given", "", (args, kwargs))
                made = call(*args, **kwargs)
                path = "/".join(module.path)
                name = (path or "the whole model") + (f".{method}" * (method != "__call__"))
                return note(f"the output of {name} ({type(module).__name__})", path, made)

            with nn.intercept_methods(watch):
                total = loss_of(*arguments).total
            return total, outer

        return loss

    def _meet(self, number: int, flags: np.ndarray) -> np.ndarray:
        self._rounds[number] += 1
        self._note(number, self._rounds[number], np.asarray(flags))
        return np.zeros((), np.int32)

    def _note(self, number: int, turn: float, flags: Iterable[Any]) -> None:
        for kind in (kind for kind, has in enumerate(flags) if has):
            # A scan calls all of its layers in its first iteration before any of them in the next.
            place = (bisect.bisect_left(self._outer, number), turn, number)
            self._found.setdefault((kind, number), place)

    def finish(self, outer: Iterable[np.ndarray]) -> None:
        """Records the flags that the wrapped loss returned for the outer layers."""
        for number, flags in zip(self._outer, outer, strict=True):
            self._note(number, math.inf, flags)
        # Layers inside a transformation report to only one of the processes.
        reports = distributed.gather([[*which, *place] for which, place in self._found.items()])
        self._found = {(kind, n): tuple(place) for kind, n, *place in itertools.chain(*reports)}

    def first(self, kind: int) -> tuple[tuple[int, float, int], str] | None:
        """Returns the first layer with NaN (`kind` 0) or infinity (`kind` 1), with its rank."""
        places = [place for (found_kind, _), place in self._found.items() if found_kind == kind]
        return (min(places), self.calls[min(places)[2]].what) if places else None


def _level() -> Any:
    """Returns a token that distinguishes a trace of jax from a trace nested in it.

    Values of a nested trace must not leave it.
    """
    return jax.extend.core.get_opaque_trace_state(convention="flax")


def _is_floating(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact)


def _flags(arrays: Sequence[jax.Array]) -> jax.Array:
    nan = jnp.stack([jnp.isnan(x).any() for x in arrays]).any()
    return jnp.stack([nan, jnp.stack([jnp.isinf(x).any() for x in arrays]).any()])


def _first_layer(watch: _Watch, *, loss_is_finite: bool) -> str:
    """Describes the first layer with NaN and an earlier one with infinity, or returns ""."""
    nan, infinite = watch.first(0), watch.first(1)
    if nan is None:
        # Infinity alone may be intended, as in a mask, unless it reaches the loss.
        if infinite is None or loss_is_finite:
            return ""
        return f"{infinite[1]} is the first with infinity"
    text = f"{nan[1]} is the first with NaN"
    if infinite is None or infinite[0] >= nan[0]:
        return text
    return f"{text}, and {infinite[1]} before it is the first with infinity"


def _all_finite(tree: PyTree) -> jax.Array:
    finite = [jnp.isfinite(x).all() for x in jax.tree.leaves(tree) if _is_floating(x)]
    return jnp.stack(finite).all() if finite else jnp.ones((), bool)


def _facts(batch: PyTree, before: PyTree) -> tuple[dict, PyTree, dict]:
    """Returns which rows and leaves are not finite, and the ranges of integer features.

    Rows are those of floating-point features of `batch`; leaves are those of `before`.
    """
    rows = {
        name: ~jnp.isfinite(x).reshape(x.shape[0], -1).all(axis=1)
        for name, x in batch.items()
        if _is_floating(x)
    }
    whole = {name: x for name, x in batch.items() if jnp.issubdtype(x.dtype, jnp.integer)}
    return rows, _bad_leaves(before), {name: (x.min(), x.max()) for name, x in whole.items()}


def _bad_leaves(tree: PyTree) -> PyTree:
    return jax.tree.map(
        lambda x: ~jnp.isfinite(x).all() if _is_floating(x) else jnp.zeros((), bool), tree
    )


def _bad_paths(flags: PyTree) -> list[str]:
    return [path for path, bad in parameters.flatten(flags).items() if bad]


def _rows(bad: np.ndarray, examples: Sequence[int] | np.ndarray) -> str:
    rows = np.flatnonzero(bad).tolist()
    numbers = [int(examples[row]) for row in rows] if len(examples) else rows
    kind = "example" if len(examples) else "row"
    where = "training split" if len(examples) else "batch"
    listed = shortened(map(str, numbers), _NAMED, spare=0)
    several = len(numbers) > 1
    verb = "hold" if several else "holds"
    return f"{kind}{'s' * several} {listed} of the {where} {verb} NaN or infinity"


def _several(names: Sequence[str]) -> str:
    return shortened(names, _NAMED, spare=0)


def _parts(path: str) -> list[str]:
    """Returns the path and its prefixes: `a/b/c`, `a/b` and `a` for `a/b/c`."""
    words = path.split("/")
    return ["/".join(words[:end]) for end in range(len(words), 0, -1)]
