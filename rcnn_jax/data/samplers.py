"""Samplers, which state the examples that make up batch `step`, as pure functions of (seed, step).

A sampler holds no position. A job that resumes at step s, on any number of processes, asks for
`indices(s)` and continues as if it had not stopped.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np

PADDING = -1
# Pairs (feature, length) or triples (feature, length, axis); see `cut`.
Cut = tuple[tuple[str, int] | tuple[str, int, int], ...]


@runtime_checkable
class Sampler(Protocol):
    """The interface of a sampler that the pipeline requires.

    A sampler may also have the members of `SamplerWithMore`. The functions `pads`, `cut`, `columns`
    and `column_values` of this module return the default for a sampler that lacks one of them.
    """

    @property
    def size(self) -> int:
        """Number of examples that the sampler draws from."""
        ...

    @property
    def batch_size(self) -> int:
        """Number of rows of the global batch, over all processes."""
        ...

    @property
    def steps_per_epoch(self) -> float:
        """Number of batches that hold as many rows as there are examples; rarely a whole number."""
        ...

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of one batch.

        The result must depend on the fields of the sampler and on `step` alone, and the method must
        be safe to call from several threads and in any order.

        Args:
            step: Number of the batch, from 0.

        Returns:
            Indices `int64[batch_size]`; `PADDING` (-1) marks an empty row.
        """
        ...

    def epoch(self, step: int) -> float:
        """Returns how many times the data have been read before a batch.

        Args:
            step: Number of the batch, from 0.
        """
        ...


class SamplerWithMore(Sampler, Protocol):
    """Optional members of a sampler; each may be absent."""

    @property
    def pads(self) -> bool:
        """Whether batches may have empty rows, which batch statistics exclude; False if absent."""
        ...

    def cut(self, step: int) -> Cut:
        """Returns the lengths to which padded features are cut in a batch.

        Without this method all features stay whole.

        Args:
            step: Number of the batch, from 0.

        Returns:
            Pairs `(feature, length)` or triples `(feature, length, axis)`; see the function `cut`.
        """
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """Columns added to each batch: a mapping from name to NumPy's name of a dtype.

        It is an attribute of the class and is read before a sampler is created. Without it no
        columns are added.
        """
        ...

    def column_values(self, step: int) -> Mapping[str, np.ndarray]:
        """Returns the added columns of a batch; required if there are `columns`.

        Args:
            step: Number of the batch, from 0.

        Returns:
            Mapping from each name in `columns` to an array `[batch_size]`.
        """
        ...


def pads(sampler: Sampler) -> bool:
    """Returns whether batches of a sampler may have empty rows.

    Args:
        sampler: The sampler; False if it has no attribute `pads`.
    """
    return getattr(sampler, "pads", False)


def cut(sampler: Sampler, step: int) -> Cut:
    """Returns the lengths to which padded features are cut in a batch.

    Args:
        sampler: The sampler, which may have a method `cut`; see `SamplerWithMore.cut`.
        step: Number of the batch, from 0.

    Returns:
        Pairs `(feature, length in this batch)`, or triples `(feature, length, axis)` if an axis of
        an example other than the first is cut. Features that are not named stay whole.
    """
    return cast(SamplerWithMore, sampler).cut(step) if hasattr(sampler, "cut") else ()


def shorten(name: str, rows: Any, cut: Cut) -> Any:
    """Returns the part of a feature that a batch needs.

    Args:
        name: Name of the feature.
        rows: NumPy or JAX array `[examples, ...]`.
        cut: Lengths as returned by the function `cut`.

    Returns:
        `rows`, cut along the axis that `cut` states for this feature.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.samplers import shorten
        >>> shorten("words", np.zeros((4, 20)), (("words", 15),)).shape
        (4, 15)
    """
    for feature, length, *axis in cut:
        if feature == name:
            rows = rows[(slice(None),) * (1 + sum(axis)) + (slice(length),)]
    return rows


def columns(sampler: Sampler | type[Sampler]) -> dict[str, str]:
    """Returns the columns that a sampler adds to each batch.

    Args:
        sampler: A sampler or its class.

    Returns:
        Mapping from name to NumPy's name of the dtype; empty if the sampler adds none.
    """
    return dict(getattr(sampler, "columns", {}))


def column_values(sampler: Sampler, step: int) -> dict[str, np.ndarray]:
    """Returns the columns that a sampler adds to one batch.

    Args:
        sampler: The sampler.
        step: Number of the batch, from 0.

    Returns:
        Mapping from name to an array `[batch_size]` of the dtype that `columns` states.
    """
    names = columns(sampler)
    if not names:
        return {}
    values = cast(SamplerWithMore, sampler).column_values(step)
    return {name: np.asarray(values[name], dtype) for name, dtype in names.items()}


def _check(size: int, batch_size: int) -> None:
    if size < 1:
        raise ValueError(f"a sampler needs at least one example, got size {size}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


@functools.lru_cache(maxsize=8)
def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of the examples in one epoch.

    The function sorts raw Philox output instead of calling `Generator.permutation`. NumPy promises
    the same raw stream in every release (NEP 19) but not the same permutations, and an order must
    survive an upgrade between stopping and resuming.

    Args:
        size: Number of examples.
        seed: Seed in `[0, 2**64)`.
        epoch: Number of the epoch, from 0.

    Returns:
        A permutation of `[0, size)`, `int64[size]`, read-only.
    """
    keys = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """A new permutation of all examples in each epoch, concatenated and cut into batches.

    A batch may contain examples of two or more epochs, so no example is dropped: each epoch
    contains each example once.

    Attributes:
        size: Number of examples.
        batch_size: Number of rows of the global batch; it may exceed `size`.
        seed: Seed of the permutations, in `[0, 2**64)`.

    Raises:
        ValueError: If `size` or `batch_size` is below 1, or `seed` lies outside its range.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.samplers import Shuffled
        >>> sampler = Shuffled(size=6, batch_size=4, seed=0)
        >>> sampler.steps_per_epoch, sampler.indices(0).shape
        (1.5, (4,))
        >>> rows = np.concatenate([sampler.indices(step) for step in range(3)])
        >>> np.bincount(rows).tolist()
        [2, 2, 2, 2, 2, 2]
    """

    size: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        _check(self.size, self.batch_size)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be 0 to 2**64 - 1, got {self.seed}")

    @property
    def steps_per_epoch(self) -> float:
        """Number of batches in one epoch."""
        return self.size / self.batch_size

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of one batch.

        Args:
            step: Number of the batch, at least 0.

        Returns:
            Indices `int64[batch_size]` in `[0, size)`.

        Raises:
            ValueError: If `step` is negative.
        """
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        rows = step * self.batch_size + np.arange(self.batch_size)
        batch = np.empty(self.batch_size, np.int64)
        for epoch in range(rows[0] // self.size, rows[-1] // self.size + 1):
            here = rows // self.size == epoch
            batch[here] = permutation(self.size, self.seed, int(epoch))[rows[here] % self.size]
        return batch

    def epoch(self, step: int) -> float:
        """Returns how many times the data have been read before a batch.

        Args:
            step: Number of the batch, from 0.
        """
        return step * self.batch_size / self.size


@dataclasses.dataclass(frozen=True)
class ShuffledWithEpochs(Shuffled):
    """`Shuffled`, with columns that state the example of each row and the epoch it belongs to.

    Transforms that follow an example from epoch to epoch need them, such as `alternating_flip`.

    Attributes:
        columns: Columns added to each batch: `index`, the index of the example, and `epoch`, the
            number of the epoch from 0, both int32.
    """

    columns: ClassVar[dict[str, str]] = {"index": "int32", "epoch": "int32"}

    def column_values(self, step: int) -> dict[str, np.ndarray]:
        """Returns the added columns of a batch.

        Args:
            step: Number of the batch, from 0.

        Returns:
            `index` and `epoch`, each `[batch_size]`.
        """
        rows = step * self.batch_size + np.arange(self.batch_size)
        return {"index": self.indices(step), "epoch": rows // self.size}


@dataclasses.dataclass(frozen=True)
class Sequential:
    """Each example once, in order; the last batch is filled up with `PADDING`.

    Attributes:
        size: Number of examples.
        batch_size: Number of rows of the global batch.
        pads: True, because the last batch may have empty rows.

    Raises:
        ValueError: If `size` or `batch_size` is below 1.

    Example:
        >>> from rcnn_jax.data.samplers import Sequential
        >>> Sequential(size=5, batch_size=3).indices(1).tolist()
        [3, 4, -1]
    """

    size: int
    batch_size: int
    pads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.size, self.batch_size)

    @property
    def num_batches(self) -> int:
        """Number of batches that hold every example, the last one perhaps only partly full."""
        return -(-self.size // self.batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Number of examples divided by the batch size."""
        return self.size / self.batch_size

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of one batch.

        Args:
            step: Number of the batch, in `[0, num_batches)`.

        Returns:
            Indices `int64[batch_size]`; `PADDING` marks an empty row.

        Raises:
            ValueError: If `step` lies outside its range.
        """
        if not 0 <= step < self.num_batches:
            raise ValueError(f"step must be 0 to {self.num_batches - 1}, got {step}")
        rows = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        return np.where(rows < self.size, rows, PADDING)

    def epoch(self, step: int) -> float:
        """Returns how many times the data have been read before a batch.

        Args:
            step: Number of the batch, from 0.
        """
        return step * self.batch_size / self.size
