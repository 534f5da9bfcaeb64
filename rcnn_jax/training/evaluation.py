"""Metrics of a whole split, counted exactly."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rcnn_jax.errors import UsageError
from rcnn_jax.training.interface import Metric, PyTree, Task
from rcnn_jax.training.parallel.signals import StopRequest
from rcnn_jax.training.step import EvaluationStep


class Result(NamedTuple):
    """What the evaluation of a split gives.

    Attributes:
        metrics: name -> value for the split.
        count: How many examples it is over.
        counts: name -> total of the task's counts, where these were counted.
        predictions: (predictions, kept features) of each batch, where the task evaluates on the
            host.
    """

    metrics: dict[str, float]
    count: int
    counts: dict[str, np.ndarray]
    predictions: list[tuple[dict, dict]]


class KeptFeatures(dict):
    """The features of a batch that a task keeps for its evaluation on the host."""

    def __missing__(self, name: str) -> Any:
        raise UsageError(
            f"the evaluation on the host reads the feature {name!r} of a batch, and the task keeps "
            f"{', '.join(map(repr, self))}: name it in the task's `keeps`."
        )


def evaluate(
    task: Task,
    step: EvaluationStep,
    variables: tuple[PyTree, PyTree],
    batches: Iterable[PyTree],
    metrics: Mapping[str, Metric] | None = None,
    stop: StopRequest | None = None,
) -> Result:
    """Evaluates a split.

    Args:
        task: What is evaluated.
        step: With predictions if the task evaluates on the host.
        variables: (params, model_state).
        batches: Batches with a `mask`, 0 for the padding that fills up the last one. The carry
            goes from each to the next.
        metrics: Further metrics by name, those that `step` has.
        stop: What may leave the evaluation early: between two batches, or at once in what is
            computed on the host behind the last one; None: nothing.

    Returns:
        The metrics, the number of examples they are over, and the totals of what was counted.

    Raises:
        UsageError: A metric of the config has the name of one of the task's.
        StopDuringEvaluation: `stop` was asked for, in all processes.
    """
    metrics = metrics or {}
    sums: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, np.ndarray] = {}
    measured: dict[str, PyTree] = {}
    predictions, count, carry = [], 0, None
    for batch in batches:
        if carry is None:
            carry = step.start(batch["mask"].shape[0])
        on_devices = step(*variables, carry, batch)
        carry = on_devices.carry
        evaluated = jax.device_get(on_devices._replace(carry=()))
        for name, pair in evaluated.sums.items():
            sums.setdefault(name, []).append((float(pair[0]), float(pair[1])))
        for name, value in evaluated.counts.items():
            # In float64: the sums of a batch are exact in float32, those of a split need not be.
            counts[name] = counts.get(name, 0.0) + np.asarray(value, np.float64)
        for name, value in evaluated.measured.items():
            wide = jax.tree.map(lambda x: np.asarray(x, np.float64), value)
            before = measured.get(name)
            measured[name] = wide if before is None else jax.tree.map(np.add, before, wide)
        count += int(evaluated.count)
        if task.evaluates_on_host:
            of_batch, kept = evaluated.predictions
            predictions.append((of_batch, KeptFeatures(kept)))
        if stop is not None:
            stop.check()

    def on_host() -> dict[str, float]:
        result = means(sums)
        if task.has_ratios:
            result |= {name: float(value) for name, value in task.ratios(counts).items()}
        if task.evaluates_on_host:
            result |= task.evaluate(predictions)
        for name, metric in metrics.items():
            if name in result:
                raise UsageError(
                    f"config.metrics.{name}: the task measures {name!r} already; give the metric "
                    "another name."
                )
            result[name] = float(metric.value(measured[name]))
        return result

    result = on_host() if stop is None else stop.interruptible(on_host)
    return Result(result, count, counts, predictions)


def means(sums: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Divides sums by counts, each added up without rounding.

    Args:
        sums: name -> pairs (sum, count), one a batch.

    Returns:
        name -> mean; NaN where nothing was counted.
    """
    result = {}
    for name, pairs in sums.items():
        count = math.fsum(c for _, c in pairs)
        result[name] = math.fsum(s for s, _ in pairs) / count if count else math.nan
    return result
