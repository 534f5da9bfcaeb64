"""Metrics over a whole split, counted exactly."""

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
    """Result of the evaluation of a split.

    Attributes:
        metrics: Value of each metric over the split, by name.
        count: Number of examples that were evaluated.
        counts: Totals of the task's counts by name, float64; empty if they were not requested.
        predictions: One pair (predictions, kept features) for each batch; empty unless the task
            evaluates on the host.
        undefined: Names of the metrics of which nothing was counted, 0/0. Their value is NaN.
    """

    metrics: dict[str, float]
    count: int
    counts: dict[str, np.ndarray]
    predictions: list[tuple[dict, dict]]
    undefined: frozenset[str] = frozenset()


class KeptFeatures(dict):
    """Features of a batch that a task keeps for its evaluation on the host."""

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
        task: Task whose metrics are computed.
        step: Compiled evaluation of one batch. It must return predictions if the task evaluates on
            the host.
        variables: Pair (params, model_state).
        batches: Batches with a `mask` that is 0 for the rows that pad the last one. The recurrent
            carry is handed from each batch to the next.
        metrics: Further metrics by name; the same that `step` was made with. None means no further
            metrics.
        stop: Request that may end the evaluation early: between two batches, or immediately during
            the computation on the host that follows the last batch. None means that the evaluation
            always completes.

    Returns:
        The metrics, the number of examples they are computed over, and the totals of the counts.

    Raises:
        UsageError: A metric of the config has the name of one of the task's metrics.
        StopDuringEvaluation: `stop` was requested. All processes raise it.
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
            # Totals are in float64: sums over a batch are exact in float32, those over a split
            # need not be.
            counts[name] = counts.get(name, 0.0) + np.asarray(value, np.float64)
        for name, value in evaluated.measured.items():
            sums64 = jax.tree.map(lambda x: np.asarray(x, np.float64), value)
            before = measured.get(name)
            measured[name] = sums64 if before is None else jax.tree.map(np.add, before, sums64)
        count += int(evaluated.count)
        if task.evaluates_on_host:
            predicted, kept = evaluated.predictions
            predictions.append((predicted, KeptFeatures(kept)))
        if stop is not None:
            stop.check()

    undefined = {name for name, pairs in sums.items() if is_undefined(pairs)}

    def on_host() -> dict[str, float]:
        result = means(sums)
        if task.has_ratios:
            ratios = {name: float(value) for name, value in task.ratios(counts).items()}
            if all(np.isfinite(value).all() for value in counts.values()):
                undefined.update(name for name, value in ratios.items() if math.isnan(value))
            result |= ratios
        if task.evaluates_on_host:
            result |= task.evaluate(predictions)
        for name, metric in metrics.items():
            if name in result:
                raise UsageError(
                    f"config.metrics.{name}: the task measures {name!r} already; give the metric "
                    "another name."
                )
            result[name] = float(metric.value(measured[name]))
            finite = all(np.isfinite(total).all() for total in jax.tree.leaves(measured[name]))
            if finite and math.isnan(result[name]):
                undefined.add(name)
        return result

    result = on_host() if stop is None else stop.interruptible(on_host)
    return Result(result, count, counts, predictions, frozenset(undefined))


def is_undefined(pairs: Iterable[tuple[float, float]]) -> bool:
    """Returns whether a mean is 0/0: nothing was counted, and the sum is finite.

    Args:
        pairs: Pairs (sum, count) of one metric.
    """
    return all(count == 0 and math.isfinite(total) for total, count in pairs)


def means(sums: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Divides sums by counts, each summed over the batches without rounding error.

    Args:
        sums: Pairs (sum, count) by name, one pair for each batch.

    Returns:
        The mean of each name; NaN if its total count is 0.
    """
    result = {}
    for name, pairs in sums.items():
        count = math.fsum(c for _, c in pairs)
        result[name] = math.fsum(s for s, _ in pairs) / count if count else math.nan
    return result
