"""Batches on the device, in an order that depends on (seed, step) alone.

Three residencies deliver the same bits: `stream` reads record files with Grain's threads, `memory`
gathers rows of host arrays, and `device` keeps whole arrays on the device and sends only indices.
Each process reads its rows of the global batch.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data import samplers
from rcnn_jax.data.samplers import Cut, Sampler, Sequential
from rcnn_jax.data.sources import RESIDENCIES, Example, Source

Batch = dict[str, Any]
Place = Callable[[Batch], Batch]
_END: Any = object()


class DeviceSource:
    """All examples of a source as arrays on the device.

    Build it once if batches are drawn repeatedly, as for an evaluation every epoch.

    Attributes:
        arrays: Mapping from name to array `[examples, ...]`, with a `mask` if some examples could
            not be read.
    """

    def __init__(self, source: Source, place_all: Place = jax.device_put) -> None:
        """Transfers the examples to the device.

        Args:
            source: The examples, which must fit in host and device memory.
            place_all: Takes host arrays `[examples, ...]` to arrays that every device of the mesh
                holds in full, so that it can select its rows without communication.
        """
        self.arrays = place_all(source.gather(np.arange(len(source))))
        self._size = len(source)

    def __len__(self) -> int:
        return self._size

    def batch(self, placed: Batch, cut: Cut = ()) -> Batch:
        """Selects the rows of one batch on the device.

        Args:
            placed: `index` int32 and `mask` float32, already laid out as the caller's `place` lays
                out a batch: `[batch]`, or `[devices, batch / devices]` for pmap.
            cut: Lengths to which features are cut; see `samplers.cut`.

        Returns:
            Features of the rows in the layout of `index`, zeros where `mask` is 0, and `mask`.
        """
        sharding = placed["index"].sharding
        rows = _gather_rows(sharding, cut)(self.arrays, placed["index"], placed["mask"])
        # The arrays contain a mask if some examples could not be read; it replaces this one.
        return {"mask": placed["mask"], **rows}


@functools.lru_cache(maxsize=32)
def _gather_rows(sharding: jax.sharding.Sharding, cut: Cut) -> Callable[..., Batch]:
    """Returns the compiled gather, whose results have the sharding of the indices."""

    def gather(arrays: Mapping[str, jax.Array], index: jax.Array, mask: jax.Array) -> Batch:
        def rows(array: jax.Array) -> jax.Array:
            picked = array.at[index].get(mode="promise_in_bounds")
            real = mask.reshape(mask.shape + (1,) * (picked.ndim - mask.ndim)) > 0
            return jnp.where(real, picked, jnp.zeros_like(picked))

        return {name: rows(samplers.shorten(name, a, cut)) for name, a in arrays.items()}

    return jax.jit(gather, out_shardings=sharding)


class Batches(Iterator[Batch]):
    """Iterator over device batches that prepares batches ahead of time in one background thread.

    Close it, or use it in a `with` statement, if iteration may stop before the end.

    Attributes:
        step: Number of the next batch; a resumed job passes it as `start_step` of a new iterator.
        waited_s: Seconds that `next` has waited for data since the start.
    """

    def __init__(
        self, batches: Generator[Batch, None, None], start_step: int, prefetch: int
    ) -> None:
        """Starts the thread.

        Args:
            batches: Generator of the device batches in order.
            start_step: Number of the first batch.
            prefetch: Number of batches to keep ready or in preparation, at least 0; with 0 they are
                made in the caller's thread.

        Raises:
            ValueError: If `prefetch` is negative.
        """
        if prefetch < 0:
            raise ValueError(f"prefetch must be at least 0, got {prefetch}")
        self.step = start_step
        self.waited_s = 0.0
        self._batches = batches
        # A JAX option set by a context manager is only in effect in the thread that sets it.
        self._make = functools.partial(_next_batch, batches, jnp.result_type(float) == np.float64)
        self._ahead: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        self._thread = None
        if prefetch:
            self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="batches")
            for _ in range(prefetch):
                self._ahead.append(self._thread.submit(self._make))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        try:
            batch = self._make() if self._thread is None else self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        finally:
            self.waited_s += time.perf_counter() - started
        if batch is _END:
            self.close()
            raise StopIteration
        if self._thread is not None:
            self._ahead.append(self._thread.submit(self._make))
        self.step += 1
        return batch

    def close(self) -> None:
        """Discards the batches that were prepared and ends the thread; may be called twice."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
            self._ahead.clear()
        self._batches.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _next_batch(batches: Iterator[Batch], x64: bool) -> Any:
    with jax.enable_x64(x64):
        return next(batches, _END)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of each global batch that one process reads."""

    sampler: Sampler
    local: np.ndarray | None

    def __post_init__(self) -> None:
        size = self.sampler.batch_size
        if self.local is not None and (self.local.min() < 0 or self.local.max() >= size):
            raise ValueError(
                f"local_rows must be from 0 to batch_size - 1 = {size - 1}, got "
                f"{self.local.min()} to {self.local.max()}"
            )

    def __call__(self, step: int) -> np.ndarray:
        rows = np.asarray(self.sampler.indices(step))
        size, name = self.sampler.batch_size, type(self.sampler).__name__
        if rows.shape != (size,) or rows.dtype.kind not in "iu":
            raise ValueError(
                f"{name} gives {rows.dtype}{list(rows.shape)} for batch {step}, which are to be "
                f"{size} whole numbers, one a row (config.batch_size)"
            )
        if rows.min() < samplers.PADDING or rows.max() >= self.sampler.size:
            wrong = rows.min() if rows.min() < samplers.PADDING else rows.max()
            raise ValueError(
                f"{name} names example {wrong} in batch {step}, there are {self.sampler.size}: "
                "allowed are 0 to the number of examples - 1, and -1 for an empty row"
            )
        if rows.min() < 0 and not samplers.pads(self.sampler):
            raise ValueError(
                f"{name} gives batch {step} empty rows and has no attribute "
                "`pads = True`, without which batch statistics would count them"
            )
        return rows if self.local is None else rows[self.local]

    def columns(self, step: int) -> Example:
        """Returns the columns that the sampler adds to these rows."""
        added = samplers.column_values(self.sampler, step)
        return added if self.local is None else {k: v[self.local] for k, v in added.items()}

    def on_host(self, source: Source, step: int) -> Example:
        """Returns these rows of batch `step`, gathered on the host."""
        batch = host_batch(source, self(step), samplers.cut(self.sampler, step))
        return _joined(batch, self.columns(step))


def training_rows(source: Source, sampler: Sampler, step: int, rows: np.ndarray) -> Example:
    """Returns some rows of a batch on the host, with the columns that the sampler adds.

    Args:
        source: The examples.
        sampler: The order of the examples.
        step: Number of the batch.
        rows: Indices of rows of the global batch, `int64[rows]` in `[0, batch_size)`.

    Returns:
        Each feature `[rows, ...]`, the added columns `[rows]`, and `mask` `float32[rows]`; see
        `host_batch`.
    """
    return _Rows(sampler, rows).on_host(source, step)


def _joined(batch: Batch, columns: Batch) -> Batch:
    taken = set(batch) & set(columns)
    if taken:
        raise ValueError(
            f"the sampler adds a column {min(taken)!r}, which the examples have already: "
            "choose a sampler without columns, or rename that feature"
        )
    return {**batch, **columns}


def host_batch(source: Source, rows: np.ndarray, cut: Cut = ()) -> Example:
    """Gathers one batch on the host.

    Args:
        source: A source of n examples.
        rows: Indices of examples, `int64[batch]` in `[-1, n)`; -1 is padding.
        cut: Lengths to which features are cut; see `samplers.cut`.

    Returns:
        Each feature `[batch, ...]`, zeros in padded rows, and `mask` `float32[batch]`, 1 where the
        row is real and 0 where it is padding. A row whose example could not be read is padding.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.pipeline import host_batch
        >>> from rcnn_jax.data.sources import ArraySource
        >>> source = ArraySource({"label": np.array([4, 5, 6])})
        >>> batch = host_batch(source, np.array([2, 0, -1]))
        >>> batch["label"].tolist(), batch["mask"].tolist()
        ([6, 4, 0], [1.0, 1.0, 0.0])
    """
    real = rows >= 0
    # A batch of padding alone still needs the shapes: a process may get one at the end of a split.
    gathered = source.gather(rows[real] if real.any() else np.zeros(1, np.int64))
    batch, mask = {}, real.astype(np.float32)
    gathered |= {name: samplers.shorten(name, gathered[name], cut) for name, *_ in cut}
    for name, values in gathered.items():
        if name == "mask":
            mask[real] = values[: int(real.sum())]
            continue
        batch[name] = values
        if not real.all():
            batch[name] = np.zeros((len(rows), *values.shape[1:]), values.dtype)
            batch[name][real] = values[: int(real.sum())]
    return {**batch, "mask": mask}


def _from_memory(
    source: Source, rows: _Rows, steps: range, place: Place
) -> Generator[Batch, None, None]:
    for step in steps:
        yield place(rows.on_host(source, step))


def _from_device(
    source: DeviceSource, rows: _Rows, steps: range, place: Place
) -> Generator[Batch, None, None]:
    for step in steps:
        picked = rows(step)
        index = np.maximum(picked, 0).astype(np.int32)
        mask = (picked >= 0).astype(np.float32)
        # The columns are placed separately, because they may have these names.
        placed, columns = place({"index": index, "mask": mask}), rows.columns(step)
        examples = source.batch(placed, samplers.cut(rows.sampler, step))
        yield _joined(examples, place(columns) if columns else {})


def _from_stream(
    source: Source, rows: _Rows, steps: range, place: Place, workers: int
) -> Generator[Batch, None, None]:
    try:
        import grain
    except ImportError as error:
        raise ValueError(
            f"residency 'stream' needs Grain ({error}): pip install grain, or use residency "
            "'memory' or 'device'"
        ) from error
    dataset = grain.MapDataset.range(steps.start, steps.stop)
    dataset = dataset.map(lambda step: rows.on_host(source, int(step)))
    # Grain keeps the order whichever thread finishes first, and starts at any step without reading.
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    iterator = iter(dataset.to_iter_dataset(options))
    try:
        for batch in iterator:
            yield place(batch)
    finally:
        iterator.close()


def train_batches(
    source: Source | DeviceSource,
    sampler: Sampler,
    *,
    start_step: int,
    num_steps: int,
    residency: str,
    place: Place,
    place_all: Place = jax.device_put,
    prefetch: int = 2,
    workers: int = 4,
    local_rows: np.ndarray | None = None,
) -> Batches:
    """Returns an iterator over batches `start_step` to `start_step + num_steps - 1`.

    The batches do not depend on what was read before.

    Args:
        source: The examples. A `DeviceSource` is allowed only where `residency` is `device`.
        sampler: The order of the examples; its `size` must be the number of examples of the source.
        start_step: Number of the first batch, at least 0; it is the only state.
        num_steps: Number of batches, at least 0.
        residency: `stream`, `memory` or `device`.
        place: Transfers this process's rows, host arrays `[len(local_rows), ...]`, to the device in
            the layout of the training step. It is called in a background thread and must not wait
            for the device. Where `residency` is `device` it receives only `mask` and int32 `index`.
        place_all: Transfers all examples to the device, see `DeviceSource`. It is used only where
            `residency` is `device` and the source is not a `DeviceSource`.
        prefetch: Number of batches ready or in preparation on the device; with 0 they are made in
            the caller's thread.
        workers: Number of Grain's reading threads, at least 1; used for `stream` only.
        local_rows: Rows of each global batch that this process reads, int64 in `[0, batch_size)`;
            None for all of them.

    Returns:
        Iterator over dicts of each feature `[batch, ...]`, the columns that the sampler adds, and
        `mask` `float32[batch]`.

    Raises:
        ValueError: If an argument lies outside its range or contradicts another. Errors in a worker
            are raised by `next`.
    """
    if residency not in RESIDENCIES:
        raise ValueError(f"residency {residency!r} is not one of {', '.join(RESIDENCIES)}")
    if sampler.size != len(source):
        raise ValueError(
            f"the sampler orders {sampler.size} examples, the source has {len(source)}"
        )
    if start_step < 0 or num_steps < 0 or workers < 1:
        raise ValueError(
            "start_step and num_steps must be at least 0 and workers at least 1, got "
            f"{start_step}, {num_steps} and {workers}"
        )
    rows = _Rows(sampler, local_rows)
    steps = range(start_step, start_step + num_steps)
    if residency == "device":
        resident = source if isinstance(source, DeviceSource) else DeviceSource(source, place_all)
        batches = _from_device(resident, rows, steps, place)
    elif isinstance(source, DeviceSource):
        raise ValueError(f"a DeviceSource serves residency 'device', not {residency!r}")
    elif residency == "memory":
        batches = _from_memory(source, rows, steps, place)
    else:
        batches = _from_stream(source, rows, steps, place, workers)
    return Batches(batches, start_step, prefetch)


def evaluation_batches(
    source: Source | DeviceSource,
    order: int | Sampler,
    *,
    residency: str,
    place: Place,
    place_all: Place = jax.device_put,
    prefetch: int = 2,
    workers: int = 4,
    local_rows: np.ndarray | None = None,
) -> Batches:
    """Returns an iterator that contains each example exactly once; `mask` is 0 in padded rows.

    Every process gets the same number of batches, some of them perhaps of padding alone, so that
    collective operations stay in step.

    Args:
        source: The examples. A `DeviceSource` is allowed only where `residency` is `device`.
        order: Number of rows of a batch, for batches in order of which the last is padded; or a
            sampler that gives each example once.
        residency: `stream`, `memory` or `device`.
        place: Transfers this process's rows to the device; see `train_batches`.
        place_all: Transfers all examples to the device; see `train_batches`.
        prefetch: Number of batches ready or in preparation on the device; with 0 they are made in
            the caller's thread.
        workers: Number of Grain's reading threads, at least 1; used for `stream` only.
        local_rows: Rows of each global batch that this process reads, int64 in `[0, batch_size)`;
            None for all of them.

    Returns:
        Iterator over dicts of each feature `[batch, ...]`, the columns that the sampler adds, and
        `mask` `float32[batch]`.

    Raises:
        ValueError: If an argument lies outside its range, or the sampler does not give each example
            exactly once.
    """
    sampler = Sequential(len(source), order) if isinstance(order, int) else order
    steps = math.ceil(sampler.steps_per_epoch)
    rows = np.concatenate([sampler.indices(step) for step in range(steps)])
    if not np.array_equal(np.sort(rows[rows >= 0]), np.arange(len(source))):
        raise ValueError(
            f"{type(sampler).__name__} does not give each of {len(source)} examples once in "
            f"{steps} batches, as evaluation needs: choose another config.evaluation_sampler"
        )
    return train_batches(
        source,
        sampler,
        start_step=0,
        num_steps=steps,
        residency=residency,
        place=place,
        place_all=place_all,
        prefetch=prefetch,
        workers=workers,
        local_rows=local_rows,
    )
