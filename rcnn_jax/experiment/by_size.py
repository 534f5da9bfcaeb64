"""Predictions for files of different sizes, in batches of files of similar size."""

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from rcnn_jax.data import grouping
from rcnn_jax.data.encoders.base import Encoding, SizedEncoding
from rcnn_jax.data.sources import Source, View
from rcnn_jax.experiment import evaluation_run
from rcnn_jax.experiment.data import encoded
from rcnn_jax.training import step as step_lib
from rcnn_jax.training.interface import Config, PyTree, Task

T = TypeVar("T")
Predicted = Mapping[str, np.ndarray]


def encoded_together(config: Config, encoding: Encoding | None, source: Source) -> Source:
    """Encodes examples for an evaluation run, whose features they determine.

    If examples can be padded in groups, only the first is encoded: the other lengths do not matter
    to the model, and padding all to the longest may take more memory than there is.

    Args:
        config: Complete config.
        encoding: Encoding that converts text to numbers. None returns the examples unchanged.
        source: Examples as the data set stores them, at least one.

    Returns:
        All examples, or the first one, encoded.
    """
    if isinstance(encoding, SizedEncoding):
        return encoding.wrap(View(source, np.zeros(1, np.int64)), 1)
    return encoded(config, encoding, source)


def predictions(
    run: evaluation_run.EvaluationRun,
    variables: tuple[PyTree, PyTree],
    task: Task,
    source: Source,
    said: Callable[[Predicted], Sequence[T]],
) -> Iterator[T]:
    """Predicts for examples, each as soon as those before it are known.

    Args:
        run: Evaluation run that `encoded_together` has encoded the examples for.
        variables: Pair (params, model_state).
        task: Task of the run, or another form of it.
        source: Examples as the data set stores them.
        said: Returns what is to be said of each example of a batch, given the predictions for it.

    Yields:
        What is said of each example, in order.
    """
    if not isinstance(run.encoding, SizedEncoding):
        for batch in run.predictions(variables, task):
            yield from said(batch)
        return
    groups = _groups(run, run.encoding, source)
    compiled = step_lib.compile_prediction(task, run.devices)
    predict = functools.partial(_of_group, run, run.encoding, compiled, variables, source)
    streams = [map(said, predict(group)) for group in groups]
    yield from grouping.in_order([group.examples for group in groups], streams)


def _groups(
    run: evaluation_run.EvaluationRun, encoding: SizedEncoding, source: Source
) -> list[grouping.Group]:
    extents = encoding.extents(source)
    first = -(-int(extents[0]) // encoding.multiple) * encoding.multiple
    values = sum(
        math.prod(size or 0 for size in feature.shape) for feature in run.source.features.values()
    )
    return grouping.groups(
        extents,
        most_rows=run.config.evaluation_batch_size,
        values_per_step=-(-values // first),
        multiple=encoding.multiple,
        devices=run.devices.count,
    )


def _of_group(
    run: evaluation_run.EvaluationRun,
    encoding: SizedEncoding,
    compiled: Callable[[PyTree, PyTree, PyTree], Mapping[str, jax.Array]],
    variables: tuple[PyTree, PyTree],
    source: Source,
    group: grouping.Group,
) -> Iterator[Predicted]:
    """Yields the predictions for the examples of a group, batch by batch."""
    config: Any = copy.deepcopy(run.config)
    config.evaluation_batch_size = group.rows
    # Batches of several groups would be ready at a time.
    config.data.prefetch = 0
    padded = encoding.wrap(View(source, group.examples), group.length)
    yield from evaluation_run.predictions(config, run.devices, compiled, variables, padded)
