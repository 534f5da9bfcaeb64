"""Opens data sets by name."""

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
        name: Name as in `config.data.name`: a shipped data set, an import path of a `DatasetSpec`,
            a TFDS name or the user's files; see `rcnn_jax.data.catalog.open_source`.
        split: Name of the split, optionally with a slice such as `train[:100]`.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.
        residency: `memory` reads the original files into memory; `stream` converts them once to
            ArrayRecord files in the cache folder and reads single examples.
        features: Names of the features that examples have; an empty sequence means all.

    Returns:
        The examples: `len(source)`, `source[i]`, and `source.gather(indices)`, which returns
        several of them as arrays `[len(indices), ...]` by name.

    Raises:
        FileNotFoundError: The original files do not exist; the message names every place that was
            searched.
        ValueError: There is no such data set, split, residency or feature, or files are damaged.
    """
    names = (features,) if isinstance(features, str) else tuple(features)
    return catalog.open_source(name, split, data_dir, residency=residency, features=names)
