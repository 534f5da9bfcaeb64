"""Examples by index: in memory, as views of each other, or from record files."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data import damage as damage_lib
from rcnn_jax.data import path_options, roots, splits
from rcnn_jax.data.damage import Damage
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.errors import UsageError, did_you_mean, nearest

Example = dict[str, np.ndarray]

RESIDENCIES = ("stream", "memory", "device")
SHIPPED = {
    "digits": "rcnn_jax.data.digits:DIGITS",
    "cifar10": "rcnn_jax.data.cifar:CIFAR10",
    "cifar100": "rcnn_jax.data.cifar:CIFAR100",
    "mnist": "rcnn_jax.data.mnist:MNIST",
    "fashion_mnist": "rcnn_jax.data.mnist:FASHION_MNIST",
    "svhn": "rcnn_jax.data.svhn:SVHN",
    "atis": "rcnn_jax.data.slots:ATIS",
    "snips": "rcnn_jax.data.slots:SNIPS",
    "bookings": "rcnn_jax.data.bookings:BOOKINGS",
    "digit_lines": "rcnn_jax.data.digit_lines:DIGIT_LINES",
    "mnist_lines": "rcnn_jax.data.digit_lines:MNIST_LINES",
    "captchas": "rcnn_jax.data.captchas:CAPTCHAS",
    "spoken_digits": "rcnn_jax.data.spoken_digits:SPOKEN_DIGITS",
    "shapes_world": "rcnn_jax.data.shapes.dataset:SHAPES_WORLD",
    "shapes_world_large": "rcnn_jax.data.shapes.dataset:LARGE_SHAPES_WORLD",
}
# `lines:FOLDER` and the like: what makes a data set of a path.
OF_PATHS = {
    "lines": "rcnn_jax.data.line_files:pictures",
    "recordings": "rcnn_jax.data.line_files:recordings",
    "captioned": "rcnn_jax.data.caption_files:captioned",
    "karpathy": "rcnn_jax.data.caption_files:karpathy",
    "coco_captions": "rcnn_jax.data.caption_files:coco_captions",
    "flickr8k": "rcnn_jax.data.caption_files:flickr8k",
}


@runtime_checkable
class Source(Protocol):
    """A fixed sequence of examples with random access."""

    @property
    def features(self) -> Mapping[str, Feature]:
        """Name to `Feature` of what an example holds."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """Example 0 <= `index` < len, or `IndexError`."""
        ...

    def gather(self, indices: np.ndarray) -> Example:
        """Several examples, stacked: name to array [len(indices), *shape].

        Where some could not be read and that was not to stop the run, there is also `mask`,
        float32 [len(indices)]: 0 for those, whose features are zeros, and 1 for the others.
        `__getitem__` says the same of one example, [].
        """
        ...


def _named(dataset: str, split: str) -> str:
    return f"{dataset} split {split!r}"


def check_indices(indices: np.ndarray, size: int) -> None:
    """Refuses indices that are none of a source's 0 to `size` - 1."""
    # NumPy would count -1 from the end, which is never meant here.
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        worst = indices.min() if indices.min() < 0 else indices.max()
        raise IndexError(f"example {worst} of a source with {size}")


def _stack(
    name: str, values: Sequence[Any], whole: np.ndarray, numbers: Sequence[int], where: str
) -> np.ndarray:
    """Stacks the values of examples; those that are not whole take the shape of the others.

    Args:
        name: of the feature.
        values: one an example.
        whole: which examples could be read.
        numbers: what the examples are called in messages.
        where: the data set and split, for messages; may be empty.
    """
    arrays = [np.asarray(value) for value in values]
    read = [(a.shape, n) for a, n, true in zip(arrays, numbers, whole, strict=True) if true]
    for shape, number in read:
        if shape != read[0][0]:
            of = f" of {where}" if where else ""
            raise ValueError(
                f"feature {name!r} differs in shape between examples and cannot be stacked into a "
                f"batch: example {read[0][1]}{of} has {list(read[0][0])}, example {number} has "
                f"{list(shape)}; an encoder makes one shape of them, such as config.encoder.name="
                "rcnn_jax.data.padding:Padded, and what nothing reads is left out by "
                "config.data.features"
            )
    if read:
        shape = read[0][0]
        arrays = [a if a.shape == shape else np.zeros(shape, a.dtype) for a in arrays]
    return np.stack(arrays)


def check_stacking(source: Source, rows: np.ndarray) -> None:
    """Gathers some examples where their shapes may differ, so that this is said before a start.

    Args:
        source: as a model is to read it.
        rows: of a batch, int64; negative ones are padding.

    Raises:
        ValueError: they cannot be stacked; the sentence names two of them.
    """
    if any(None in feature.shape for feature in source.features.values()):
        source.gather(rows[rows >= 0])


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Examples held as columns in host memory.

    Attributes:
        columns: name to array [examples, *shape], or to a lazy sequence of as many values. A
            column `mask` says which examples could be read, see `Source.gather`.
        features: name to `Feature`; without it, taken from the columns.
        name: the data set and split, for messages.
    """

    columns: Columns
    features: Mapping[str, Feature] = dataclasses.field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"all columns must be equally long, got {lengths}")
        if not self.features:
            first = {name: np.asarray(column[0]) for name, column in self.columns.items()}
            found = {name: Feature(v.shape, v.dtype.name) for name, v in first.items()}
            object.__setattr__(self, "features", found)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return {name: np.asarray(column[index]) for name, column in self.columns.items()}

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`."""
        check_indices(indices, len(self))
        mask = self.columns.get("mask")
        whole = np.ones(len(indices)) if mask is None else np.asarray(mask)[indices]
        numbers = indices.tolist()
        return {
            name: column[indices]
            if isinstance(column, np.ndarray)
            else _stack(name, [column[i] for i in numbers], whole, numbers, self.name)
            for name, column in self.columns.items()
        }


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Examples read from ArrayRecord files, one decoded at a time.

    Attributes:
        records: what `tfds.data_source` gives: `__len__`, `__getitem__`, `__getitems__`, and the
            `dataset_info` and `split` that say where they lie.
        features: name to `Feature`; other features of the records are left out.
        damage: what to do about records that cannot be read.
        remedy: what a user can do about them, a clause; may be empty.
    """

    records: Any
    features: Mapping[str, Feature]
    damage: Damage = dataclasses.field(default_factory=Damage)
    remedy: str = ""

    @property
    def name(self) -> str:
        """The data set and split, for messages."""
        return _named(self.records.dataset_info.name, str(self.records.split))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return self._read(index)

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`.

        Raises:
            DamagedRecordError: for one that cannot be read, where `damage` says to stop.
        """
        check_indices(indices, len(self))
        numbers = indices.tolist()
        examples = self._read_several(numbers)
        mask = np.array([e.get("mask", 1) for e in examples], np.float32)
        batch = {
            name: _stack(name, [e[name] for e in examples], mask, numbers, self.name)
            for name in self.features
        }
        return batch if mask.all() else {**batch, "mask": mask}

    def _read_several(self, indices: list[int]) -> list[Example]:
        if not any(self.damage.knows(damage_lib.key(self.records, index)) for index in indices):
            try:
                return [self._decode(record) for record in self.records.__getitems__(indices)]
            except Exception:  # noqa: BLE001 - which record it was, one at a time will tell
                pass
        return [self._read(index) for index in indices]

    def _read(self, index: int) -> Example:
        if not self.damage.knows(damage_lib.key(self.records, index)):
            try:
                return self._decode(self.records[index])
            except (ImportError, MemoryError):
                raise  # of this machine, not of the record
            except Exception as error:  # noqa: BLE001 - decoders raise whatever they like
                record = damage_lib.name_record(self.records, index, error, self.remedy)
                self.damage.meet(record)
        return damage_lib.padding(self.features)

    def _decode(self, record: Mapping[str, Any]) -> Example:
        # The type is the spec's, in every residency.
        return {
            name: damage_lib.checked(name, f, record[name]) for name, f in self.features.items()
        }


@dataclasses.dataclass(frozen=True)
class View:
    """Some examples of another source.

    Attributes:
        source: the other source.
        rows: which of its examples, int64 [examples]; may repeat and reorder them.
    """

    source: Source
    rows: np.ndarray

    def __post_init__(self) -> None:
        check_indices(self.rows, len(self.source))

    @property
    def features(self) -> Mapping[str, Feature]:
        """Those of the other source."""
        return self.source.features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        return self.source[int(self.rows[index])]

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`."""
        check_indices(indices, len(self))
        return self.source.gather(self.rows[indices])


@dataclasses.dataclass(frozen=True)
class Concatenation:
    """Several sources with the same features, one after the other."""

    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        names = [sorted(source.features) for source in self.sources]
        if any(other != names[0] for other in names):
            raise ValueError(f"sources with different features cannot be joined: {names}")

    @property
    def features(self) -> Mapping[str, Feature]:
        """Those of the first source."""
        return self.sources[0].features

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        check_indices(np.asarray([index]), len(self))
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[which][index - int(self._ends[which]) + len(self.sources[which])]

    def gather(self, indices: np.ndarray) -> Example:
        """See `Source.gather`."""
        check_indices(indices, len(self))
        which = np.searchsorted(self._ends, indices, side="right")
        if not len(indices):
            return self.sources[0].gather(indices)
        batch: Example = {}
        for part in np.unique(which):
            here = which == part
            start = self._ends[part] - len(self.sources[part])
            for name, values in self.sources[part].gather(indices[here] - start).items():
                # A part without a mask is whole.
                make = np.ones if name == "mask" else np.empty
                rows = batch.setdefault(name, make((len(indices), *values.shape[1:]), values.dtype))
                rows[here] = values
        return batch


def load_spec(name: str) -> DatasetSpec:
    """The spec of a shipped data set, of a user's files or of an import path.

    Raises:
        ValueError: if there is none; the sentence suggests the nearest name.
    """
    prefix, _, path = name.partition(":")
    if path and prefix in OF_PATHS:
        return path_options.build(importing.resolve(OF_PATHS[prefix], "data set"), prefix, path)
    if ":" not in name and name not in SHIPPED:
        raise ValueError(
            f"there is no data set {name!r}; shipped are {', '.join(SHIPPED)}, others are named by "
            f"import path ('my_fork.data:MINE'), by TFDS name ('tfds:mnist') or by path "
            f"('lines:FOLDER', 'recordings:FOLDER', 'captioned:FOLDER', 'karpathy:FILE', "
            f"'coco_captions:FILE', 'flickr8k:FOLDER'){did_you_mean(name, SHIPPED)}"
        )
    try:
        spec = importing.resolve(SHIPPED.get(name, name), "data set")
    except UsageError as error:
        near = did_you_mean(prefix, OF_PATHS)
        if not near or "." in prefix:
            raise
        hint = "" if prefix in OF_PATHS else near
        raise ValueError(
            f"data set {name!r}: PATH is needed in {':PATH, '.join(OF_PATHS)}:PATH{hint}"
        ) from error
    if not isinstance(spec, DatasetSpec):
        raise ValueError(f"data set {name!r} is a {type(spec).__name__}, not a DatasetSpec")
    return spec


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
        name: `cifar10` and the like (`SHIPPED`), an import path to a `DatasetSpec`
            (`my_fork.data:MINE`), a TFDS name (`tfds:mnist`, `tfds:cifar10/3.0.2`), or a user's
            files (`lines:PATH`, `recordings:PATH`, see `line_files`; `captioned:PATH`,
            `karpathy:PATH` and others, see `caption_files`), with options of the path's own
            (`recordings:PATH?rate=8000&bins=40`).
        split: a split expression; see `splits`.
        data_dir: the data root; without it, see `roots.data_root`.
        residency: `memory` or `device` read the original files into host memory, `stream` makes
            ArrayRecord files of them once, in the cache folder, and reads single examples.
        features: those that examples are to have, by name; (): all. The records of a stream have
            all of them, whatever is asked for.
        damage: what to do about records that cannot be read; without it, the first one met is an
            error. The original files are no records: damage there is always an error.

    Raises:
        DamagedRecordError: where records are read at once, for the first that cannot be.
        FileNotFoundError: if the original files are not found; names every place looked at.
        ValueError: for an unknown name, split, residency or feature, or damaged files.
    """
    if residency not in RESIDENCIES:
        raise ValueError(f"residency {residency!r} is not one of {', '.join(RESIDENCIES)}")
    root, parts = roots.data_root(data_dir), splits.parse(split)
    if name.startswith("tfds:"):
        from rcnn_jax.data import tfds_public

        public = tfds_public.find(name.removeprefix("tfds:"), root)
        sizes, open_one = public.splits, public.open
    else:
        spec = load_spec(name)
        sizes, open_one = spec.splits, functools.partial(_open_spec, spec, root, residency)
    splits.check_names(parts, sizes, name)
    whole = {part.name: open_one(part.name) for part in parts}
    if features:
        whole = {key: _narrowed(source, features, name) for key, source in whole.items()}
    whole = {key: _watched(source, damage or Damage()) for key, source in whole.items()}
    selected = tuple(_select(whole[part.name], part) for part in parts)
    if residency != "stream":
        selected = tuple(map(_in_memory, selected))
    return selected[0] if len(selected) == 1 else Concatenation(selected)


def _open_spec(spec: DatasetSpec, root: Path, residency: str, split: str) -> Source:
    if residency != "stream":
        return ArraySource(spec.columns(root, split), spec.features, _named(spec.name, split))
    from rcnn_jax.data import tfds_builder

    return tfds_builder.open_records(spec, root, split)


def _narrowed(source: Any, names: Sequence[str], dataset: str) -> Source:
    """The source with some of its features alone."""
    for name in names:
        if name not in source.features:
            raise ValueError(
                f"data set {dataset!r} has no feature {name!r}: {nearest(name, source.features)}"
            )
    kept = {name: source.features[name] for name in names}
    if not isinstance(source, ArraySource):
        return dataclasses.replace(source, features=kept)
    columns = {name: source.columns[name] for name in (*names, "mask") if name in source.columns}
    return ArraySource(columns, kept, source.name)


def _watched(source: Source, damage: Damage) -> Source:
    if isinstance(source, RecordSource):
        from rcnn_jax.data import tfds_builder

        source = dataclasses.replace(source, damage=damage)
        tfds_builder.check_files(source)
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
