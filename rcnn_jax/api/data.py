"""Data sets by name."""

import pathlib
from collections.abc import Sequence

from rcnn_jax.data import catalog
from rcnn_jax.data.sources import Source


def open_source(
    name: str,
    split: str = "train",
    data_dir: str | pathlib.Path | None = None,
    residency: str = "memory",
    features: Sequence[str] = (),
) -> Source:
    """Opens a split of any data set that a config can name.

    Usage:

        >>> import rcnn_jax
        >>> digits = rcnn_jax.open_source("digits", "train[:100]")
        >>> len(digits), digits[0]["image"].shape
        (100, (8, 8, 1))

    Args:
        name: What `config.data.name` takes: a shipped data set, an import path to a `DatasetSpec`,
            a TFDS name or a user's files; see `rcnn_jax.data.catalog.open_source`.
        split: The name of a split, perhaps with a slice: `train[:100]`.
        data_dir: Where original data sets lie; None: `RCNN_JAX_DATA` or a cache folder.
        residency: `memory` reads the original files into memory; `stream` makes ArrayRecord files
            of them once, in the cache folder, and reads single examples.
        features: Those that examples are to have; (): all.

    Returns:
        The examples: `len(source)`, `source[i]`, and `source.gather(indices)` for several as arrays
        `[len(indices), ...]` by name.

    Raises:
        FileNotFoundError: The original files are not there; the message names every place that was
            looked at.
        ValueError: There is no such data set, split, residency or feature, or files are damaged.
    """
    names = (features,) if isinstance(features, str) else tuple(features)
    return catalog.open_source(name, split, data_dir, residency=residency, features=names)
