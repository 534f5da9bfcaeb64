"""Batches of sequences of similar length, so that little of a batch is padding."""

import dataclasses
import functools

import numpy as np

from rcnn_jax.data.samplers import PADDING, Cut, permutation
from rcnn_jax.data.sources import ArraySource, Source


def lengths_of(source: Source, feature: str) -> np.ndarray:
    """Returns the length of each sequence of a source.

    Args:
        source: The examples. An example that could not be read has the length 0.
        feature: Name of the feature that holds the length.

    Returns:
        Lengths `int64[examples]`.

    Raises:
        ValueError: If the source has no such feature.
    """
    if feature not in source.features:
        raise ValueError(
            f"buckets need a feature {feature!r}, the data set has "
            f"{', '.join(map(repr, source.features))}"
        )
    if isinstance(source, ArraySource):
        return np.asarray(source.columns[feature]).astype(np.int64)
    return np.array([source[index][feature] for index in range(len(source))], np.int64)


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Each example once per epoch, in batches whose sequences all fall into one bucket of lengths.

    The last batch of a bucket is filled up with empty rows. Both the examples of each batch and the
    order of all batches are drawn anew for every epoch. Each edge costs one compilation.

    Attributes:
        source: The examples; only their lengths are read.
        batch_size: Number of rows of the global batch.
        seed: Seed of the permutations, in `[0, 2**64)`.
        edges: Rising lengths above 0. A bucket holds the sequences that are longer than the
            previous edge and at most as long as its edge; sequences longer than all edges have a
            bucket of their own.
        features: Names of the features that are cut to the edge of the bucket.
        axes: For each of `features`, the axis of an example along which it is cut, such as 1 for
            the width of `image`; `()` for the first axis of all.
        length: Name of the feature that holds the length of an example.
        pads: True, because batches may have empty rows.

    Raises:
        ValueError: If an argument lies outside its range, or a feature to be cut is missing or has
            no such axis.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.buckets import Buckets
        >>> from rcnn_jax.data.sources import ArraySource
        >>> columns = {"words": np.zeros((5, 30), np.int32), "length": np.array([2, 12, 30, 4, 11])}
        >>> sampler = Buckets(
        ...     ArraySource(columns), batch_size=2, seed=0, edges=(5, 15), features=("words",)
        ... )
        >>> sampler.steps_per_epoch
        3.0
        >>> sorted(sorted(sampler.indices(step).tolist()) for step in range(3))
        [[-1, 2], [0, 3], [1, 4]]
        >>> sorted(sampler.cut(step) for step in range(3))
        [(), (('words', 5),), (('words', 15),)]
    """

    source: Source = dataclasses.field(repr=False)
    batch_size: int
    seed: int
    edges: tuple[int, ...] = (10, 15, 20)
    features: tuple[str, ...] = ("words", "tags")
    axes: tuple[int, ...] = ()
    length: str = "length"
    pads: bool = dataclasses.field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.seed < 2**64:
            raise ValueError(
                "batch_size must be at least 1 and seed 0 to 2**64 - 1, got "
                f"{self.batch_size} and {self.seed}"
            )
        rising = all(a < b for a, b in zip((0, *self.edges), self.edges, strict=False))
        if not self.edges or not rising:
            raise ValueError(f"edges of buckets are rising lengths above 0, got {self.edges}")
        if self.axes and len(self.axes) != len(self.features):
            raise ValueError(
                f"axes={self.axes} of buckets are one for each of the features {self.features}"
            )
        for name, axis in self._axes:
            shape = self.source.features[name].shape if name in self.source.features else ()
            if shape and not 0 <= axis < len(shape):
                raise ValueError(
                    f"buckets cut axis {axis} of the feature {name!r}, an example of it has "
                    f"{list(shape)}"
                )
            if not shape:
                raise ValueError(
                    f"buckets cut a feature {name!r}, the data set has sequences "
                    f"{', '.join(repr(k) for k, f in self.source.features.items() if f.shape)}"
                )

    @property
    def _axes(self) -> tuple[tuple[str, int], ...]:
        return tuple(zip(self.features, self.axes or (0,) * len(self.features), strict=True))

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.source)

    @functools.cached_property
    def _bucket_of(self) -> np.ndarray:
        return np.searchsorted(np.asarray(self.edges), lengths_of(self.source, self.length))

    @functools.cached_property
    def _batches(self) -> np.ndarray:
        """The bucket of each batch of an epoch, before the batches are shuffled."""
        counts = np.bincount(self._bucket_of, minlength=len(self.edges) + 1)
        return np.repeat(np.arange(len(counts)), -(-counts // self.batch_size))

    @property
    def steps_per_epoch(self) -> float:
        """Number of batches in one epoch."""
        return float(len(self._batches))

    def _place(self, step: int) -> tuple[int, int, int]:
        """Returns the epoch, the bucket, and the number of the batch among those of its bucket."""
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        epoch, place = divmod(step, len(self._batches))
        drawn = int(permutation(len(self._batches), self.seed ^ _ORDER, epoch)[place])
        bucket = int(self._batches[drawn])
        return epoch, bucket, drawn - int(np.searchsorted(self._batches, bucket))

    def indices(self, step: int) -> np.ndarray:
        """Returns the examples of one batch.

        Args:
            step: Number of the batch, at least 0.

        Returns:
            Indices `int64[batch_size]`; `PADDING` marks an empty row.

        Raises:
            ValueError: If `step` is negative.
        """
        epoch, bucket, number = self._place(step)
        order = permutation(self.size, self.seed, epoch)
        members = order[self._bucket_of[order] == bucket]
        rows = members[number * self.batch_size : (number + 1) * self.batch_size]
        return np.append(rows, np.full(self.batch_size - len(rows), PADDING, np.int64))

    def cut(self, step: int) -> Cut:
        """Returns the lengths to which padded features are cut in a batch.

        Args:
            step: Number of the batch, at least 0.

        Returns:
            Pairs `(feature, length)`, or triples `(feature, length, axis)` for an axis other than
            the first; see `rcnn_jax.data.samplers.cut`. Empty for the bucket beyond the last edge.
        """
        _, bucket, _ = self._place(step)
        if bucket == len(self.edges):
            return ()
        lengths = []
        for name, axis in self._axes:
            length = min(self.edges[bucket], self.source.features[name].shape[axis] or 0)
            lengths.append((name, length, axis) if axis else (name, length))
        return tuple(lengths)

    def epoch(self, step: int) -> float:
        """Returns how many times the data have been read before a batch.

        Args:
            step: Number of the batch, from 0.
        """
        return step / len(self._batches)


_ORDER = 1 << 63  # makes the order of batches independent of the order of examples
