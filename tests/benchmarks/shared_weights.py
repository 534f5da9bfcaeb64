"""Weights that the first side of a row leaves for the others, as arrays by name."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def filled(
    weights: Mapping[str, np.ndarray], constant: Callable[[str], bool]
) -> dict[str, np.ndarray]:
    """The same weights with random numbers added where initial ones are all 0 or all 1.

    A bias of 0 at the wrong layer, or one step's scale in the place of another's, would otherwise
    go unseen.

    Args:
        weights: initial ones, by name.
        constant: whether those of a name are all alike.
    """
    rng = np.random.default_rng(1)
    found = {}
    for name, value in weights.items():
        value = np.asarray(value)
        if constant(name):
            value = value + 0.1 * rng.uniform(-1, 1, value.shape).astype(value.dtype)
        found[name] = value
    return found


def save(folder: pathlib.Path, weights: Mapping[str, np.ndarray]) -> None:
    """Leaves the weights in the folder of a row."""
    arrays: dict[str, Any] = dict(weights)
    np.savez(_file(folder), **arrays)


def there(folder: pathlib.Path) -> bool:
    """Whether a side has left weights."""
    return _file(folder).exists()


def load(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The weights that the first side left.

    Raises:
        FileNotFoundError: it left none.
    """
    with np.load(_file(folder), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _file(folder: pathlib.Path) -> pathlib.Path:
    return folder / "weights.npz"
