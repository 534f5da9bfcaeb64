"""Converts the user's arrays, dicts and files to examples."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rcnn_jax.data.sources import ArraySource, Source
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UserError, nearest
from rcnn_jax.experiment import file_examples


def as_source(
    inputs: Any,
    config: Any,
    workdir: pathlib.Path,
    features: Mapping[str, Feature],
    reads: Sequence[str],
) -> Source:
    """Converts the user's inputs to examples as the data set stores them.

    Args:
        inputs: A `Source`; the path of a file, or several paths; examples as a list of dicts or as
            one dict of arrays `[examples, ...]`; or one such array, if the model reads one feature.
        config: Config of the run.
        workdir: Workdir of the run.
        features: Features of an example as the data set stores it; empty if they are not known.
        reads: Names of the features that the task reads of an example; empty if it does not state
            them.

    Returns:
        The examples.

    Raises:
        UserError: There are no examples, or they do not match the features.
        ValueError: A file cannot be read.
    """
    if isinstance(inputs, Source):
        return inputs
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if isinstance(inputs, list | tuple) and not inputs:
        raise UserError("there are no examples.")
    if isinstance(inputs, Mapping):
        columns = dict(inputs)
    elif _all_of(inputs, (str, os.PathLike)):
        columns, features = _of_files([pathlib.Path(file) for file in inputs], config, workdir)
    elif _all_of(inputs, Mapping):
        names = list(inputs[0])
        for number, example in enumerate(inputs):
            if set(example) != set(names):
                raise UserError(
                    f"example {number} has the features {sorted(example)}, the first one "
                    f"{sorted(names)}: all examples need the same."
                )
        columns = {name: [example[name] for example in inputs] for name in names}
    elif len(reads) == 1:
        columns = {reads[0]: inputs}
    else:
        known = ", ".join(map(repr, features)) or "those of the data set"
        raise UserError(
            f"{config.task.name} does not read one feature alone: hand over a dict of arrays, or a "
            f"list of dicts, by the names of features ({known})."
        )
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
        raise UserError(f"there must be as many examples of each feature, and some, got {sizes}.")
    missing = [name for name in reads if name not in columns]
    if missing:
        raise UserError(f"{config.task.name} needs {missing[0]!r}, there are {sorted(columns)}.")
    read = {name: _column(name, values, features, config) for name, values in columns.items()}
    return ArraySource(read, {k: features[k] for k in read if k in features} if features else {})


def _all_of(inputs: Any, kind: Any) -> bool:
    several = isinstance(inputs, list | tuple) and len(inputs) > 0
    return several and all(isinstance(item, kind) for item in inputs)


def _of_files(
    files: Sequence[pathlib.Path], config: Any, workdir: pathlib.Path
) -> tuple[dict[str, list[Any]], Mapping[str, Feature]]:
    features, read = file_examples.reader(config, workdir)
    examples = [example for file in files for _, example in read(file)]
    return {name: [example[name] for example in examples] for name in examples[0]}, features


def _column(
    name: str, values: Any, features: Mapping[str, Feature], config: Any
) -> np.ndarray | list[np.ndarray]:
    """Converts the values of one feature to the dtype that the data set stores."""
    if name == "mask" or not features:
        return np.asarray(values, np.float32 if name == "mask" else None)
    if name not in features:
        raise UserError(
            f"the data set {config.data.name!r} has no feature {name!r}: {nearest(name, features)}."
        )
    feature = features[name]
    if None in feature.shape:
        return [_cast(name, _encoded(value), feature, config) for value in values]
    array = np.asarray(values)
    return _cast(name, array, Feature((len(array), *feature.shape), feature.dtype), config)


def _encoded(value: Any) -> np.ndarray:
    """Converts a value to an array; text becomes its UTF-8 bytes, as data sets store it."""
    return np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else np.asarray(value)


def _cast(name: str, array: np.ndarray, feature: Feature, config: Any) -> np.ndarray:
    """Casts an array to the dtype of a feature if that does not change its values."""
    same = array.dtype == np.dtype(feature.dtype)
    cast = array if same or array.dtype.kind not in "biuf" else array.astype(feature.dtype)
    wider = np.dtype(feature.dtype).kind == "f"
    if not feature.accepts(cast) or not (same or wider or np.array_equal(cast, array)):
        raise UserError(
            f"{name!r} is {array.dtype}{list(array.shape)}, where the data set "
            f"{config.data.name!r} stores {feature.dtype}{list(feature.shape)}: hand it over as "
            "it is stored, before `config.data.preprocess`."
        )
    return cast
