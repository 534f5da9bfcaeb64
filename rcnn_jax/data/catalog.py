"""The data sets that a config can name, and the function that opens a split of one."""

import dataclasses
import functools
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data import path_options, roots, splits
from rcnn_jax.data.records.damage import Damage
from rcnn_jax.data.records.source import RecordSource
from rcnn_jax.data.sources import (
    RESIDENCIES,
    ArraySource,
    Concatenation,
    Source,
    View,
    select,
    split_name,
)
from rcnn_jax.data.spec import DatasetSpec
from rcnn_jax.errors import UsageError, did_you_mean, nearest

SHIPPED = {
    "digits": "rcnn_jax.data.datasets.images.digits:DIGITS",
    "cifar10": "rcnn_jax.data.datasets.images.cifar:CIFAR10",
    "cifar100": "rcnn_jax.data.datasets.images.cifar:CIFAR100",
    "mnist": "rcnn_jax.data.datasets.images.mnist:MNIST",
    "fashion_mnist": "rcnn_jax.data.datasets.images.mnist:FASHION_MNIST",
    "svhn": "rcnn_jax.data.datasets.images.svhn:SVHN",
    "atis": "rcnn_jax.data.datasets.text.slots:ATIS",
    "snips": "rcnn_jax.data.datasets.text.slots:SNIPS",
    "bookings": "rcnn_jax.data.datasets.text.bookings:BOOKINGS",
    "digit_lines": "rcnn_jax.data.datasets.lines.digit_lines:DIGIT_LINES",
    "mnist_lines": "rcnn_jax.data.datasets.lines.digit_lines:MNIST_LINES",
    "captchas": "rcnn_jax.data.datasets.lines.captchas:CAPTCHAS",
    "spoken_digits": "rcnn_jax.data.datasets.lines.spoken_digits:SPOKEN_DIGITS",
    "shapes_world": "rcnn_jax.data.datasets.shapes.dataset:SHAPES_WORLD",
    "shapes_world_large": "rcnn_jax.data.datasets.shapes.dataset:LARGE_SHAPES_WORLD",
}


# The factories of data sets that are named by a path, such as `lines:FOLDER`.
OF_PATHS = {
    "lines": "rcnn_jax.data.datasets.lines.own_files:pictures",
    "recordings": "rcnn_jax.data.datasets.lines.own_files:recordings",
    "captioned": "rcnn_jax.data.datasets.captioned.files:captioned",
    "karpathy": "rcnn_jax.data.datasets.captioned.files:karpathy",
    "coco_captions": "rcnn_jax.data.datasets.captioned.files:coco_captions",
    "flickr8k": "rcnn_jax.data.datasets.captioned.files:flickr8k",
}


def load_spec(name: str) -> DatasetSpec:
    """Returns the spec of a shipped data set, of a user's files or of an import path.

    Args:
        name: A key of `SHIPPED`, an import path such as `my_fork.data:MINE`, or a prefix in
            `OF_PATHS` with a path, such as `lines:FOLDER`.

    Raises:
        ValueError: If there is no such data set; the message suggests the nearest name.
    """
    prefix, colon, path = name.partition(":")
    kinds = f"{':PATH, '.join(OF_PATHS)}:PATH"
    if path and prefix in OF_PATHS:
        return path_options.build(importing.resolve(OF_PATHS[prefix], "data set"), prefix, path)
    if prefix in OF_PATHS:
        raise ValueError(f"data set {name!r}: PATH is needed in {kinds}")
    if not colon and name not in SHIPPED:
        raise ValueError(
            f"there is no data set {name!r}; shipped are {', '.join(SHIPPED)}, others are named by "
            f"import path ('my_fork.data:MINE'), by TFDS name ('tfds:mnist') or by path "
            f"({kinds}){did_you_mean(name, (*SHIPPED, *OF_PATHS))}"
        )
    try:
        spec = importing.resolve(SHIPPED.get(name, name), "data set")
    except UsageError as error:
        if "." in prefix or _is_module(prefix):
            raise
        raise ValueError(
            f"data set {name!r}: there is no kind {prefix!r} of PATH and no module {prefix!r}; the "
            f"kinds are {kinds} and tfds:NAME, and import paths are like 'my_fork.module:Name', "
            f"with the fork on PYTHONPATH{did_you_mean(prefix, (*OF_PATHS, 'tfds'))}"
        ) from error
    if not isinstance(spec, DatasetSpec):
        raise ValueError(f"data set {name!r} is a {type(spec).__name__}, not a DatasetSpec")
    return spec


def _is_module(name: str) -> bool:
    """Returns whether a name is that of a module that is installed, Python's own excepted."""
    own = name in sys.stdlib_module_names
    return not own and name.isidentifier() and importlib.util.find_spec(name) is not None


def open_source(
    name: str,
    split: str,
    data_dir: str | Path | None = None,
    *,
    residency: str,
    features: Sequence[str] = (),
    damage: Damage | None = None,
) -> Source:
    """Opens a split of a data set.

    The examples and their order are the same for every residency.

    Args:
        name: The data set: a shipped name (`SHIPPED`) such as `cifar10`, an import path to a
            `DatasetSpec` (`my_fork.data:MINE`), a TFDS name (`tfds:mnist`, `tfds:cifar10/3.0.2`),
            or files of the user (`lines:PATH`, `recordings:PATH`, `captioned:PATH`, `karpathy:PATH`
            and the other keys of `OF_PATHS`), optionally with options
            (`recordings:PATH?rate=8000&bins=40`).
        split: A split expression such as `train[:90%]`; see `splits`.
        data_dir: The data root; None for the default of `roots.data_root`.
        residency: Where examples are kept. `memory` and `device` read the original files into host
            memory; `stream` converts them once into ArrayRecord files in the cache folder and reads
            single examples from these.
        features: Names of the features that examples are to have; `()` for all. The records of a
            stream contain all features in any case.
        damage: Handling of records that cannot be read; None to raise at the first one. The
            original files are not records: damage there is always an error.

    Returns:
        The examples of the split.

    Raises:
        DamagedRecordError: If records are read at once and one of them cannot be read.
        FileNotFoundError: If the original files are not found; the message names every place
            searched.
        ValueError: If the name, split, residency or a feature is unknown, or files are damaged.
    """
    if residency not in RESIDENCIES:
        raise ValueError(f"residency {residency!r} is not one of {', '.join(RESIDENCIES)}")
    root, parts = roots.data_root(data_dir), splits.parse(split)
    if name.startswith("tfds:"):
        from rcnn_jax.data.records import public as tfds_public

        public = tfds_public.find(name.removeprefix("tfds:"), root)
        sizes, open_one = public.splits, public.open
    else:
        spec = load_spec(name)
        sizes, open_one = spec.splits, functools.partial(_open_spec, spec, root, residency)
    splits.check_names(parts, sizes, name)
    whole = {part.name: open_one(part.name) for part in parts}
    if features:
        for source in whole.values():
            _check_features(source, features, name)
        whole = {key: select(source, features) for key, source in whole.items()}
    whole = {key: _watched(source, damage or Damage()) for key, source in whole.items()}
    selected = tuple(_select(whole[part.name], part) for part in parts)
    if residency != "stream":
        selected = tuple(map(_in_memory, selected))
    return selected[0] if len(selected) == 1 else Concatenation(selected)


def _open_spec(spec: DatasetSpec, root: Path, residency: str, split: str) -> Source:
    if residency != "stream":
        return ArraySource(spec.columns(root, split), spec.features, split_name(spec.name, split))
    from rcnn_jax.data.records import builder

    return builder.open_records(spec, root, split)


def _check_features(source: Source, names: Sequence[str], dataset: str) -> None:
    for name in names:
        if name not in source.features:
            raise ValueError(
                f"data set {dataset!r} has no feature {name!r}: {nearest(name, source.features)}"
            )


def _watched(source: Source, damage: Damage) -> Source:
    if isinstance(source, RecordSource):
        from rcnn_jax.data.records import builder

        source = dataclasses.replace(source, damage=damage)
        builder.check_files(source)
    return source


def _in_memory(source: Source) -> Source:
    if isinstance(source.source if isinstance(source, View) else source, ArraySource):
        return source
    if all(None not in feature.shape for feature in source.features.values()):
        return ArraySource(source.gather(np.arange(len(source))), source.features)
    name = source.name if isinstance(source, RecordSource) else ""
    examples = [source[index] for index in range(len(source))]
    columns: dict[str, Any] = {name: [e[name] for e in examples] for name in source.features}
    if any("mask" in example for example in examples):
        columns["mask"] = np.array([e.get("mask", 1) for e in examples], np.float32)
    return ArraySource(columns, source.features, name)


def _select(source: Source, part: splits.Part) -> Source:
    rows = part.range(len(source))
    if len(rows) == len(source):
        return source
    return View(source, np.arange(rows.start, rows.stop))
