"""What a data set is: its features, its splits, and how its original files become arrays."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.columns import LazyColumn
from rcnn_jax.errors import nearest

# One entry a feature: an array [examples, *shape], or, where examples differ in shape or do not
# fit in memory, any sequence that makes example i when asked for it.
Columns = Mapping[str, np.ndarray | Sequence[Any]]

# What a feature is to transforms, and how one example of it is laid out.
ROLES = {
    "image": "[height, width, channels]",
    "frames": "[time, height, width, channels]",
    "label_map": "integers [height, width] or [height, width, 1]",
    "boxes": "numbers [boxes, 4]",
    "relative_boxes": "floating numbers [boxes, 4]",
}
# The role of a feature that is not tied to the pixels of any other, though its shape may look so.
UNTIED = "none"


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of an example.

    Attributes:
        shape: of one example; `None` for an axis that varies between examples.
        dtype: NumPy's name of the type it is stored in.
        classes: for a label, how many classes there are or what they are called. Its values are
            integers in [0, number of classes).
        entries: for a vector, what each of its numbers is of, for people; (): they have no names.
        role: what it is to transforms, which crop, flip and resize the features of an example
            together. One of:

            - `"image"`: `[height, width, channels]`. A feature called `image` has this role
              without stating it.
            - `"frames"`: `[time, height, width, channels]`, images that all move alike.
            - `"label_map"`: an integer label for each pixel of the image, `[height, width]` or
              `[height, width, 1]`.
            - `"boxes"`: `[boxes, 4]`, rows `y0, x0, y1, x1` in pixels of the image. A box covers
              the half-open ranges from `y0` to `y1` and from `x0` to `x1`. A row without area,
              such as -1 in all four places, is an absent box and stays as it is.
            - `"relative_boxes"`: as `"boxes"`, in shares of the image's height and width.
            - `"none"`: tied to no pixels, though its height and width may be those of the image.
            - `""`: not stated. Transforms leave the feature alone, and those that move pixels
              refuse one that looks like a label map, a further image or boxes.
    """

    shape: tuple[int | None, ...]
    dtype: str
    classes: int | tuple[str, ...] | None = None
    # These two are not in what decides whether prepared records are old: they change nothing of
    # them.
    entries: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    role: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.entries and self.shape != (len(self.entries),):
            raise ValueError(
                f"a feature of shape {list(self.shape)} cannot have {len(self.entries)} entries"
            )
        if self.classes is not None and np.dtype(self.dtype).kind not in "iub":
            raise ValueError(f"a feature of {self.dtype} cannot have classes: these are integers")
        if self.role not in ("", UNTIED, *ROLES):
            raise ValueError(
                f"a feature cannot have the role {self.role!r}: "
                f"{nearest(self.role, (*ROLES, UNTIED))}"
            )
        if self.role in ROLES and not self._fits_role():
            raise ValueError(
                f"a feature of {self.dtype} {list(self.shape)} cannot have the role "
                f"{self.role!r}, which is for {ROLES[self.role]}"
            )

    def _fits_role(self) -> bool:
        axes, kind = len(self.shape), np.dtype(self.dtype).kind
        if self.role in ("image", "frames"):
            return axes == (3 if self.role == "image" else 4)
        if self.role == "label_map":
            return kind in "iu" and (axes == 2 or (axes == 3 and self.shape[2] == 1))
        return axes == 2 and self.shape[1] == 4 and kind in ("iuf" if self.role == "boxes" else "f")

    @property
    def num_classes(self) -> int | None:
        """How many classes a label has; `None` where the feature is not a label."""
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes

    @property
    def names(self) -> tuple[str, ...]:
        """What its classes or entries are called; () where they have no names."""
        return self.classes if isinstance(self.classes, tuple) else self.entries

    def accepts(self, value: np.ndarray) -> bool:
        """Whether one example's value has this type and shape."""
        return (
            value.dtype == np.dtype(self.dtype)
            and len(value.shape) == len(self.shape)
            and all(want in (None, got) for want, got in zip(self.shape, value.shape, strict=True))
        )

    def stray(self, value: np.ndarray) -> int | None:
        """Returns a number in a label's `value` that is no class; None where there is none."""
        classes = self.num_classes
        if classes is None or not value.size:
            return None
        low, high = int(value.min()), int(value.max())
        if low < 0:
            return low
        return high if high >= classes else None

    def fault(self, value: np.ndarray) -> str:
        """What is wrong with one example's value, the end of a sentence; "" where nothing is."""
        if not self.accepts(value):
            return (
                f"is {value.dtype}{list(value.shape)}, the spec says {self.dtype}{list(self.shape)}"
            )
        stray = self.stray(value)
        if stray is None:
            return ""
        return f"holds {stray}, allowed are 0 to {(self.num_classes or 0) - 1}"


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set, named in configs by the import path of such an object.

    Attributes:
        name: of the data set and of its folders, in lower case.
        version: `major.minor.patch`; a change of what `read` returns needs a new one. Prepared
            records are kept by name, version and the code that `read` reaches by name.
        features: name to `Feature`; `mask` is taken, it marks the real rows of a batch.
        splits: name to number of examples, `None` where that is not known beforehand.
        files: `files(root, split)` finds a split's original files below the data root, or raises
            `FileNotFoundError` naming every place it looked at.
        read: `read(root, split)` turns them into `Columns` in the order of the files, and raises
            `ValueError` naming the file, the value and what is allowed where they are damaged.
        description: one line for people.
        homepage: where the original distribution is.
        citation: the paper to cite.
        read_file: takes a file of a user's own to the features that a model reads, so that it can
            be predicted; None where examples are not files.
        read_several: takes a file that holds several of them to pairs (name, features); None where
            a file is one.
    """

    name: str
    version: str
    features: Mapping[str, Feature]
    splits: Mapping[str, int | None]
    files: Callable[[Path, str], Sequence[Path]]
    read: Callable[[Path, str], Columns]
    description: str = ""
    homepage: str = ""
    citation: str = ""
    read_file: Callable[[Path], Mapping[str, np.ndarray]] | None = None
    read_several: Callable[[Path], Sequence[tuple[str, Mapping[str, np.ndarray]]]] | None = None

    def __post_init__(self) -> None:
        if "mask" in self.features:
            raise ValueError(f"{self.name}: a feature cannot be called 'mask', every batch has one")

    def columns(self, root: Path, split: str) -> Columns:
        """Reads a split and holds it against what the spec promises.

        A fork's reader is checked here once, so that a wrong one ends in one sentence instead of
        a shape error in the middle of a model. Arrays and lists are checked in full; of a column
        that makes its examples when asked, the first one, and each of the others as it is made.

        Raises:
            ValueError: if the features, their types, shapes, classes or their number differ.
        """
        columns = self.read(root, split)
        if not isinstance(columns, Mapping):
            raise ValueError(
                f"{self.name}: the reader of split {split!r} returned "
                f"{type(columns).__name__}, expected is a mapping from features to columns"
            )
        if set(columns) != set(self.features):
            raise ValueError(
                f"{self.name}: the reader returned the features {sorted(columns)}, "
                f"the spec says {sorted(self.features)}"
            )
        lengths = {name: len(column) for name, column in columns.items()}
        expected = self.splits[split]
        if len(set(lengths.values())) != 1 or expected not in (None, *lengths.values()):
            raise ValueError(
                f"{self.name}: split {split!r} has {lengths} examples, "
                f"the spec says {'as many for each feature' if expected is None else expected}"
            )
        return {name: self._checked(name, columns[name], split) for name in columns}

    def _checked(
        self, name: str, column: np.ndarray | Sequence[Any], split: str
    ) -> np.ndarray | Sequence[Any]:
        check = functools.partial(self._check_value, name, split)
        if not len(column):
            return column
        if isinstance(column, np.ndarray):
            check(np.asarray(column[0]), 0)
            stray = self.features[name].stray(column)
            if stray is not None:
                which = np.argwhere(column == stray)[0]
                check(np.asarray(column[which[0]]), int(which[0]))
            return column
        if isinstance(column, list | tuple):
            for index, value in enumerate(column):
                check(np.asarray(value), index)
            return column
        # Reading all of a lazy column now would undo its laziness.

        def made(index: int) -> np.ndarray:
            value = np.asarray(column[index])
            check(value, index)
            return value

        lazy = LazyColumn(len(column), made)
        _ = lazy[0]
        return lazy

    def _check_value(self, name: str, split: str, value: np.ndarray, index: int) -> None:
        fault = self.features[name].fault(value)
        if fault:
            raise ValueError(
                f"{self.name}: feature {name!r} of split {split!r} {fault} (example {index})"
            )


def padding(features: Mapping[str, Feature]) -> dict[str, np.ndarray]:
    """What stands for an example that cannot be read: zeros, an axis that varies is empty."""
    zeros = {
        name: np.zeros([size or 0 for size in feature.shape], feature.dtype)
        for name, feature in features.items()
    }
    return {**zeros, "mask": np.zeros((), np.float32)}


def checked(name: str, feature: Feature, value: object) -> np.ndarray:
    """One decoded value, in the type that its feature promises.

    Args:
        name: of the feature.
        feature: what is promised.
        value: as TFDS decodes it: an array, or a Python number for a scalar.

    Returns:
        The array, of `feature.dtype` and a shape that `feature.shape` allows.

    Raises:
        ValueError: if the shape differs, a number does not fit the type, or a label is no class.
    """
    array = value if isinstance(value, np.ndarray) else np.asarray(value, feature.dtype)
    # A Python number is as wide as it likes; in the array it must be the same one, or NaN again.
    if array is not value and not array.ndim and array.item() != value and value == value:
        raise ValueError(f"feature {name!r} holds {value}, which {feature.dtype} cannot")
    fault = feature.fault(array)
    if fault:
        raise ValueError(f"feature {name!r} {fault}")
    return array
