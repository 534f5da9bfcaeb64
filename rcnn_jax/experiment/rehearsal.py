"""Checks before a run starts that find what would end or spoil it later.

Shapes are traced without computation. What only values show, namely whether the evaluation on the
host works and whether the rows of a batch are independent, is tried on a few examples.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data import pipeline, samplers
from rcnn_jax.data.sources import Source
from rcnn_jax.errors import UsageError, UserError, describe, nearest, raised_here
from rcnn_jax.experiment.data import added_columns, evaluation_columns
from rcnn_jax.experiment.task import Recipe
from rcnn_jax.layers.randomness import DATA_AXIS, part_of_batch
from rcnn_jax.tasks.labels import check_number
from rcnn_jax.training import accumulation, evaluation, parameters
from rcnn_jax.training.interface import Config, Metric, PyTree, Task
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.mesh import FSDP_AXIS, Devices
from rcnn_jax.training.step import EvaluationStep

# Names that a training step reports besides the metrics of the task.
RESERVED = ("loss", "gradient_norm", "learning_rate")


@contextlib.contextmanager
def explained(what: str, path: str = "") -> Iterator[None]:
    """Context that turns an error inside the code of a model or task into one sentence.

    Args:
        what: Clause that says what failed, the beginning of the sentence.
        path: Import path of the code that runs inside. The message names the file and the line in
            it that raised the error.

    Raises:
        UsageError: An exception other than an error message of this package was raised inside.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        of_machine = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)[:200]
        if raised_here(error) or of_machine or distributed.explain(error) is not None:
            raise
        raise UsageError(f"{what}: {describe(error, path)}; --traceback shows more.") from error


def check_training_pass(config: Config, recipe: Recipe) -> None:
    """Traces the loss of one training step and checks all that it returns.

    Args:
        config: Complete config; the name of its task appears in messages.
        recipe: Components from which the state is created.

    Raises:
        UserError: The model or the task cannot be trained on such batches, or the state after a
            batch differs in form from the state before it, so that no checkpoint could be restored.
    """
    task, name = recipe.task, config.task.name

    def loss(batch: PyTree, key: jax.Array) -> Any:
        initial = task.init(key, batch)
        if not isinstance(initial, tuple) or len(initial) != 2:
            raise UsageError(
                f"`init` of {name} returns (params, model_state), not {_kind(initial)}."
            )
        params, model_state = initial
        carry = task.initial_carry(batch["mask"].shape[0])
        out = task.loss(params, model_state, carry, batch, key)
        fields = ("total", "count", "model_state", "carry", "metrics")
        missing = [field for field in fields if not hasattr(out, field)]
        if missing:
            raise UsageError(
                f"`loss` of {name} returns a LossOutput, not {_kind(out)}, which has no "
                f"{missing[0]!r}."
            )
        for field, meaning in (
            ("total", "the loss summed over the examples of the batch"),
            ("count", "what it is divided by"),
        ):
            value = getattr(out, field)
            if not _is_scalar(value):
                raise UsageError(
                    f"`loss` of {name}: `{field}` is {meaning}, a scalar, not {_shown(value)}."
                )
        if not jnp.issubdtype(jnp.result_type(out.total), jnp.floating):
            raise UsageError(
                f"`loss` of {name}: `total` is a floating number, not {_shown(out.total)}."
            )
        _check_unchanged(model_state, out.model_state, f"`loss` of {name}: the model state")
        _check_unchanged(carry, out.carry, f"`loss` of {name}: the carry")
        _check_pairs(out.metrics, f"`loss` of {name}: `metrics`")
        taken = [metric for metric in RESERVED if metric in out.metrics]
        if taken:
            raise UsageError(
                f"`loss` of {name}: `metrics` has a metric {taken[0]!r}, which every step reports "
                "already: give it another name."
            )
        return out.total

    with explained(f"a training step of {name} cannot be traced", name):
        jax.eval_shape(loss, recipe.batch, jax.random.key(0))


def check_evaluation_pass(config: Config, recipe: Recipe, added: Mapping[str, Metric]) -> None:
    """Traces the evaluation of a batch, and checks that `config.best_metric` is measured.

    Args:
        config: Complete config.
        recipe: Components from which the state is created.
        added: Metrics that the config adds to those of the task, by name.

    Raises:
        UserError: A batch cannot be evaluated, or no metric is named `config.best_metric`.
    """
    task, name = recipe.task, config.task.name
    trained = added_columns(config)
    batch = {key: value for key, value in recipe.batch.items() if key not in trained}
    batch |= {
        key: jax.ShapeDtypeStruct(batch["mask"].shape, dtype)
        for key, dtype in evaluation_columns(config).items()
    }
    counting, predicting = task.has_ratios, task.evaluates_on_host or bool(added)

    def evaluated(batch: PyTree, training_batch: PyTree) -> Any:
        rows = batch["mask"].shape[0]
        carry = task.evaluation_carry(rows)
        # A training transform may read columns that the sampler adds to training batches alone.
        params, model_state = task.init(jax.random.key(0), training_batch)
        out = task.evaluate_batch(
            params, model_state, carry, batch, predictions=predicting, counts=counting
        )
        _check_pairs(out.sums, f"the metrics of {name}")
        _check_unchanged(carry, out.carry, f"`evaluate_batch` of {name}: the carry")
        for key, value in out.predictions.items() if predicting else ():
            if jnp.shape(value)[:1] != (rows,):
                raise UsageError(
                    f"`predict` of {name}: {key!r} has one row an example, [{rows}, ...], not "
                    f"{_shown(value)}."
                )
        unknown = [key for key in task.keeps if key not in batch]
        if unknown:
            raise UsageError(
                f"`keeps` of {name} names {unknown[0]!r}, which no batch has: "
                f"{nearest(unknown[0], batch)}."
            )
        measured = {key: metric.sums(out.predictions, batch) for key, metric in added.items()}
        return dict(out.sums), dict(out.counts) if counting else {}, measured

    with explained(f"an evaluation by {name} cannot be traced", name):
        sums, counts, _ = jax.eval_shape(evaluated, batch, recipe.batch)
        names = [*sums, *added]
        if counting:
            names += task.ratios({key: np.ones(c.shape) for key, c in counts.items()})
    # The names of metrics computed on the host are known only once they have been computed; see
    # `rehearse_evaluation`.
    if not task.evaluates_on_host:
        check_best_metric(config, names)


def check_answers(config: Config, recipe: Recipe, features: Mapping[str, Any]) -> None:
    """Checks that the model has enough outputs for the labels of the data set.

    Args:
        config: Complete config; the name of its task appears in messages.
        recipe: Components from which the state is created.
        features: Features of the data set by name, each an `rcnn_jax.data.spec.Feature`.

    Raises:
        ValueError: The model has too few outputs.
    """
    task = recipe.task
    wanted = task.wanted_answers(features)
    if not wanted:
        return

    def predicted(batch: PyTree) -> Any:
        return dict(task.predict(*task.init(jax.random.key(0), batch), batch))

    with explained(f"a prediction of {config.task.name} cannot be traced", config.task.name):
        answers = jax.eval_shape(predicted, recipe.batch)
    for name, (feature, classes) in wanted.items():
        check_number(answers[name].shape[-1], classes, feature, task.model)


def check_best_metric(config: Config, names: Iterable[str]) -> None:
    """Checks that the metric that ranks checkpoints is measured.

    Args:
        config: Complete config.
        names: Names of the metrics that are measured.

    Raises:
        UsageError: `config.best_metric` is not among them.
    """
    if config.best_metric not in names:
        raise UsageError(
            f"config.best_metric={config.best_metric!r} is not measured by {config.task.name}: "
            f"{nearest(config.best_metric, names)}."
        )


def rehearse_evaluation(
    config: Config,
    task: Task,
    step: EvaluationStep,
    variables: tuple[PyTree, PyTree],
    source: Source,
    devices: Devices,
    metrics: Mapping[str, Metric],
) -> dict[str, float]:
    """Evaluates one padded batch, including the part on the host.

    Args:
        config: Complete config.
        task: Task that is evaluated.
        step: Evaluation step of the run, which is thus compiled only once.
        variables: Pair (params, model_state), which need not be trained.
        source: Validation split, encoded.
        devices: Devices that the evaluation runs on.
        metrics: Metrics that the config adds to those of the task, by name.

    Returns:
        Value of each metric by name.

    Raises:
        UsageError: The evaluation fails, does not return a mapping from names to numbers, or does
            not measure the metric that ranks checkpoints.
    """
    name, size = config.task.name, devices.divisible(config.evaluation_batch_size)
    batch = evaluated_batch(config, source, size, devices)
    with explained(f"the evaluation of {name} fails", name):
        result = evaluation.evaluate(task, step, variables, [batch], metrics).metrics
    check_best_metric(config, result)
    return result


def evaluated_batch(config: Config, source: Source, size: int, devices: Devices) -> PyTree:
    """Makes a batch of an evaluated split with at least one row of padding, on the devices.

    Args:
        config: Complete config.
        source: The split, encoded.
        size: Number of rows of the batch. A batch of 1 row has no padding.
        devices: Devices that the batch is placed on.
    """
    real = min(len(source), max(size - 1, 1))
    rows = np.append(np.arange(real), np.full(size - real, samplers.PADDING))
    batch = pipeline.host_batch(source, rows[devices.local_rows(size)])
    added = evaluation_columns(config).items()
    batch |= {key: np.ones(len(batch["mask"]), dtype) for key, dtype in added}
    return devices.place_global(batch)


def coupled_rows(
    config: Config, recipe: Recipe, devices: Devices, source: Source, sampler: samplers.Sampler
) -> str:
    """Checks whether the loss of a batch depends on how its rows are distributed.

    The loss of a few rows is computed at once, and distributed as the config says: over devices by
    pmap, in parts by `accumulate`. The results differ for a loss over all pairs of a batch, or for
    a normalization by statistics of the rows on one device.

    Args:
        config: Complete config.
        recipe: Components from which the state is created.
        devices: Devices that the run will use.
        source: Training split, encoded.
        sampler: Order of the training examples.

    Returns:
        A sentence if an accumulated batch has another loss than the whole batch and the model keeps
        batch statistics, which is the documented behaviour of batch normalization; otherwise "".

    Raises:
        UsageError: Training would silently minimise another loss than on a single device.
    """
    groups = devices.count if config.parallelism == "pmap" else 1
    parts = config.accumulate
    if groups * parts == 1 or devices.mesh.shape[FSDP_AXIS] > 1:
        return ""
    whole, spread, stateful = losses(recipe, source, sampler, groups, parts)
    tolerance = {"float64": 1e-9, "float32": 1e-3}.get(config.precision, 3e-2)
    if abs(whole - spread) <= tolerance * max(abs(whole), 1e-6) or not np.isfinite(whole):
        return ""
    numbers = f"the loss of the first rows is {whole:.6g} at once and {spread:.6g}"
    if parts > 1 and stateful:
        alone = losses(recipe, source, sampler, groups, 1)[1] if groups > 1 else whole
        if abs(whole - alone) <= tolerance * max(abs(whole), 1e-6):
            return (
                f"config.accumulate={parts} is not one large batch for this model: {numbers} in "
                f"{parts} parts, each normalized by itself"
            )
    way = f"by pmap on {groups} devices" if groups > 1 else f"in {parts} parts"
    mend = (
        "config.accumulate=1"
        if groups == 1
        else "config.parallelism=jit, where arrays are global; under pmap `whole_batch` of "
        "rcnn_jax.layers.global_batch gathers rows, and dropout and normalization are those of "
        "rcnn_jax.layers"
    )
    raise UsageError(
        f"the rows of a batch are coupled: {numbers} {way}, so that training would minimise "
        f"something else than on one device. Use {mend}."
    )


def losses(
    recipe: Recipe, source: Source, sampler: samplers.Sampler, groups: int, parts: int
) -> tuple[float, float, bool]:
    """Computes the summed loss of the first rows of the first batch, at once and distributed.

    Args:
        recipe: Components from which the state is created.
        source: Training split, encoded.
        sampler: Order of the training examples.
        groups: Number of devices that the rows are distributed over, as under pmap; all are
            simulated on one device.
        parts: Number of parts in which each device processes its rows.

    Returns:
        The loss at once, the loss distributed, and whether the model keeps a state.
    """
    task = recipe.task
    count = min(2 * groups * parts, sampler.batch_size)
    batch = pipeline.training_rows(source, sampler, 0, np.arange(count))
    key = jax.random.key(recipe.seed)
    params, model_state = jax.jit(task.init)(key, batch)

    def total(params: PyTree, model_state: PyTree, carry: PyTree, batch: PyTree, parts: int) -> Any:
        if parts == 1:
            return task.loss(params, model_state, carry, batch, key).total
        summed = jnp.zeros(())
        for number in range(parts):
            piece, part_carry = jax.tree.map(
                lambda rows, n=number: accumulation.cut(rows, parts, 1)[n], (batch, carry)
            )
            with part_of_batch(number, parts):
                out = task.loss(params, model_state, part_carry, piece, key)
            summed, model_state = summed + out.total, out.model_state
        return summed

    def both(params: PyTree, model_state: PyTree, batch: PyTree) -> tuple[Any, Any]:
        carry = task.initial_carry(count)
        at_once = total(params, model_state, carry, batch, 1)
        if groups == 1:
            return at_once, total(params, model_state, carry, batch, parts)
        split = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]), (batch, carry))
        on_device = jax.vmap(
            lambda rows: total(params, model_state, rows[1], rows[0], parts), axis_name=DATA_AXIS
        )
        return at_once, jnp.sum(on_device(split))

    at_once, spread = jax.jit(both)(params, model_state, batch)
    return float(at_once), float(spread), bool(jax.tree.leaves(model_state))


def _is_scalar(value: Any) -> bool:
    return (hasattr(value, "dtype") and jnp.shape(value) == ()) or isinstance(value, int | float)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _shown(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"{value.dtype}{list(jnp.shape(value))}"
    return _kind(value)


def _check_pairs(metrics: Any, origin: str) -> None:
    if not isinstance(metrics, Mapping):
        raise UsageError(f"{origin} are a dict name -> (sum, count), not {_kind(metrics)}.")
    for name, pair in metrics.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(_is_scalar, pair)):
            raise UsageError(
                f"{origin}: {name!r} is a pair (sum, count) of scalars, not {_shown(pair)}: sums "
                "add up over batches and devices, means do not."
            )


def _check_unchanged(before: PyTree, after: PyTree, what: str) -> None:
    """Checks that a state keeps its form; otherwise it could be saved but never restored."""
    left, right = parameters.flatten(before), parameters.flatten(after)
    for path in left.keys() | right.keys():
        forms = [
            _shown(jnp.asarray(tree[path])) if path in tree else "missing" for tree in (left, right)
        ]
        if forms[0] != forms[1]:
            where = f" {path}" if path else ""
            raise UsageError(
                f"{what}{where} is {forms[0]} before a batch and {forms[1]} after it: it must keep "
                "its shape and dtype."
            )
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise UsageError(
            f"{what} is a {type(before).__name__} before a batch and a {type(after).__name__} "
            "after it, or its parts are: it must keep its structure."
        )
