"""Metrics of a whole split, counted exactly."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from rcnn_jax.training.interface import PyTree, Task


class Result(NamedTuple):
    """What the evaluation of a split gives.

    Attributes:
        metrics: name -> mean over the split.
        count: How many examples it is over.
        counts: name -> total of the task's counts, where these were asked for.
        predictions: (predictions, batch) of each batch, where the task evaluates on the host.
    """

    metrics: dict[str, float]
    count: int
    counts: dict[str, np.ndarray]
    predictions: list[tuple[dict, dict]]


def evaluate(
    task: Task,
    step: Callable[[PyTree, PyTree, PyTree], Any],
    variables: tuple[PyTree, PyTree],
    batches: Iterable[PyTree],
) -> Result:
    """Evaluates a split.

    Args:
        task: What is evaluated.
        step: From `compile_evaluation_step`; with predictions if the task evaluates on the host.
        variables: (params, model_state).
        batches: Batches with a `mask`, 0 for the padding that fills up the last one.

    Returns:
        The metrics, the number of examples they are over, and the totals of what was counted.
    """
    sums: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, np.ndarray] = {}
    predictions, count = [], 0
    for batch in batches:
        evaluated = jax.device_get(step(*variables, batch))
        for name, pair in evaluated.sums.items():
            sums.setdefault(name, []).append((float(pair[0]), float(pair[1])))
        for name, value in evaluated.counts.items():
            # In float64: the sums of a batch are exact in float32, those of a split need not be.
            counts[name] = counts.get(name, 0.0) + np.asarray(value, np.float64)
        count += int(evaluated.count)
        if task.evaluates_on_host:
            predictions.append(evaluated.predictions)
    metrics = means(sums)
    if task.evaluates_on_host:
        metrics |= task.evaluate(predictions)
    return Result(metrics, count, counts, predictions)


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
