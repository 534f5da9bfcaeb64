"""Which examples make up batch number `step`: pure functions of (seed, step).

A sampler holds no position. A job that resumes at step s, on any number of processes, asks for
`indices(s)` and goes on as if nothing had happened.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np

PADDING = -1
# (feature, length) or (feature, length, axis): see `cut`.
Cut = tuple[tuple[str, int] | tuple[str, int, int], ...]


@runtime_checkable
class Sampler(Protocol):
    """What the pipeline needs of an order of examples.

    A sampler may have what `SamplerWithMore` lists, too. The functions `pads`, `cut`, `columns` and
    `column_values` of this module give the default for one that lacks it.
    """

    @property
    def size(self) -> int:
        """Number of examples it draws from."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows of the global batch, over all processes."""
        ...

    @property
    def steps_per_epoch(self) -> float:
        """Batches that hold as many rows as there are examples; seldom a whole number."""
        ...

    def indices(self, step: int) -> np.ndarray:
        """The rows of batch `step`, int64 [batch_size]; `PADDING` (-1) marks an empty row.

        It must depend on the sampler's own fields and `step` alone, and be safe to call from
        several threads and in any order.
        """
        ...

    def epoch(self, step: int) -> float:
        """How many times the data have been seen before batch `step`."""
        ...


class SamplerWithMore(Sampler, Protocol):
    """What an order of examples may have besides; each may be left out."""

    @property
    def pads(self) -> bool:
        """Whether batches may have empty rows, which batch statistics leave out; else False."""
        ...

    def cut(self, step: int) -> Cut:
        """How much of padded features batch `step` needs; else all of them stay whole."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """What it adds to each row of a batch: name -> NumPy's name of a type; else nothing.

        It is an attribute of the class, which is asked before a sampler is made.
        """
        ...

    def column_values(self, step: int) -> Mapping[str, np.ndarray]:
        """The columns of batch `step`, each [batch_size]; needed where there are `columns`."""
        ...


def pads(sampler: Sampler) -> bool:
    """Whether batches of a sampler may have empty rows, see `SamplerWithMore.pads`."""
    return getattr(sampler, "pads", False)


def cut(sampler: Sampler, step: int) -> Cut:
    """How much of padded features batch `step` needs.

    Args:
        sampler: may have a method `cut` that says so, see `SamplerWithMore.cut`.
        step: of the batch.

    Returns:
        (feature, its length in this batch), or (feature, length, axis) where it is another axis of
        an example than the first; others stay whole.
    """
    return cast(SamplerWithMore, sampler).cut(step) if hasattr(sampler, "cut") else ()


def shorten(name: str, rows: Any, cut: Cut) -> Any:
    """The part of a feature that a batch needs.

    Args:
        name: of the feature.
        rows: NumPy or jax array [examples, *shape].
        cut: see the function of that name.
    """
    for feature, length, *axis in cut:
        if feature == name:
            rows = rows[(slice(None),) * (1 + sum(axis)) + (slice(length),)]
    return rows


def columns(sampler: Sampler | type[Sampler]) -> dict[str, str]:
    """What a sampler adds to each row of a batch, see `SamplerWithMore.columns`."""
    return dict(getattr(sampler, "columns", {}))


def column_values(sampler: Sampler, step: int) -> dict[str, np.ndarray]:
    """The columns of batch `step`, each `[batch_size]` and of the type that `columns` states."""
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
    """The order of one epoch, int64 [size], read-only.

    It sorts raw Philox output instead of calling `Generator.permutation`: NumPy promises the same
    raw stream in every release (NEP 19), but not the same permutations, and an order must outlive
    an upgrade between stopping and resuming.
    """
    keys = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """Permutations of all examples, one an epoch, laid end to end and cut into batches.

    A batch may straddle epochs, so no example is dropped: each epoch sees each example once.

    Attributes:
        size: number of examples.
        batch_size: rows of the global batch; may exceed `size`.
        seed: 0 to 2**64 - 1.
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
        """Batches in one epoch."""
        return self.size / self.batch_size

    def indices(self, step: int) -> np.ndarray:
        """The rows of batch `step` >= 0, int64 [batch_size]."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        rows = step * self.batch_size + np.arange(self.batch_size)
        batch = np.empty(self.batch_size, np.int64)
        for epoch in range(rows[0] // self.size, rows[-1] // self.size + 1):
            here = rows // self.size == epoch
            batch[here] = permutation(self.size, self.seed, int(epoch))[rows[here] % self.size]
        return batch

    def epoch(self, step: int) -> float:
        """How many times the data have been seen before batch `step`."""
        return step * self.batch_size / self.size


@dataclasses.dataclass(frozen=True)
class ShuffledWithEpochs(Shuffled):
    """`Shuffled`, and each row says which example it is and in which epoch it comes.

    Transforms that follow an example from epoch to epoch ask for it, such as `alternating_flip`.

    Attributes:
        columns: what a batch gets besides: `index`, the example's number, and `epoch`, from 0.
    """

    columns: ClassVar[dict[str, str]] = {"index": "int32", "epoch": "int32"}

    def column_values(self, step: int) -> dict[str, np.ndarray]:
        """The columns of batch `step`, each [batch_size]."""
        rows = step * self.batch_size + np.arange(self.batch_size)
        return {"index": self.indices(step), "epoch": rows // self.size}


@dataclasses.dataclass(frozen=True)
class Sequential:
    """Each example once, in order; the last batch is filled up with `PADDING`.

    Attributes:
        size: number of examples.
        batch_size: rows of the global batch.
        pads: says that batches may have empty rows.
    """

    size: int
    batch_size: int
    pads: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self.size, self.batch_size)

    @property
    def num_batches(self) -> int:
        """Batches that hold every example, the last one perhaps in part."""
        return -(-self.size // self.batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass."""
        return self.size / self.batch_size

    def indices(self, step: int) -> np.ndarray:
        """The rows of batch 0 <= `step` < `num_batches`, int64 [batch_size]."""
        if not 0 <= step < self.num_batches:
            raise ValueError(f"step must be 0 to {self.num_batches - 1}, got {step}")
        rows = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        return np.where(rows < self.size, rows, PADDING)

    def epoch(self, step: int) -> float:
        """How many times the data have been seen before batch `step`."""
        return step * self.batch_size / self.size
