"""The description of a data set: its features, its splits and how its original files are read."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.data.columns import LazyColumn
from rcnn_jax.errors import nearest

# One entry per feature: an array [examples, *shape], or, where examples differ in shape or do not
# fit in memory, any sequence that computes example i on access.
Columns = Mapping[str, np.ndarray | Sequence[Any]]

# The roles of features for transforms, and the layout of one example of each.
ROLES = {
    "image": "[height, width, channels]",
    "frames": "[time, height, width, channels]",
    "label_map": "integers [height, width] or [height, width, 1]",
    "boxes": "numbers [boxes, 4]",
    "relative_boxes": "floating numbers [boxes, 4]",
}
# The role of a feature that is not tied to the pixels of any other, even if its shape suggests it.
UNTIED = "none"


@dataclasses.dataclass(frozen=True)
class Feature:
    """Type, shape and meaning of one feature of an example.

    Attributes:
        shape: Shape of one example, `None` for an axis whose size varies between examples.
        dtype: NumPy's name of the dtype that the feature is stored in, such as `"uint8"`.
        classes: For a label, the number of its classes or a tuple of their names; `None` for any
            other feature. The values of a label are integers in `[0, number of classes)`.
        entries: For a vector, a human-readable name of each of its numbers; `()` where the numbers
            have no names.
        role: The feature's role for transforms, which crop, flip and resize the features of an
            example together. It is one of:

            - `"image"`: Pixels `[height, width, channels]`. A feature called `image` has this role
              without stating it.
            - `"frames"`: Images `[time, height, width, channels]` that all move alike.
            - `"label_map"`: An integer label for each pixel of the image, `[height, width]` or
              `[height, width, 1]`.
            - `"boxes"`: Boxes `[boxes, 4]`, rows `y0, x0, y1, x1` in pixels of the image. A box
              covers the half-open ranges from `y0` to `y1` and from `x0` to `x1`. A row without
              area, such as -1 in all four places, is an absent box and stays as it is.
            - `"relative_boxes"`: Boxes as for `"boxes"`, in fractions of the image's height and
              width.
            - `"none"`: The feature is not tied to any pixels, though its height and width may be
              those of the image.
            - `""`: The role is not stated. Transforms leave the feature alone, and those that move
              pixels reject a feature that looks like a label map, a further image or boxes.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.spec import Feature
        >>> label = Feature((), "int32", classes=("cat", "dog"))
        >>> label.num_classes
        2
        >>> label.fault(np.array(2, np.int32))
        'holds 2, allowed are 0 to 1'
        >>> Feature((None, 40), "float32").accepts(np.zeros((7, 40), np.float32))
        True
    """

    shape: tuple[int | None, ...]
    dtype: str
    classes: int | tuple[str, ...] | None = None
    # These two do not enter the fingerprint of prepared records, because the records do not depend
    # on them.
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
        """The number of classes of a label; `None` if the feature is not a label."""
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the feature's classes or entries; `()` if it has none."""
        return self.classes if isinstance(self.classes, tuple) else self.entries

    def accepts(self, value: np.ndarray) -> bool:
        """Returns whether the value of one example has this feature's dtype and shape.

        Args:
            value: The feature's value for one example, without a batch axis.

        Returns:
            True if the dtype is equal and every axis has its size or is one that varies.
        """
        return (
            value.dtype == np.dtype(self.dtype)
            and len(value.shape) == len(self.shape)
            and all(want in (None, got) for want, got in zip(self.shape, value.shape, strict=True))
        )

    def stray(self, value: np.ndarray) -> int | None:
        """Returns a number in the value of a label that is not one of its classes.

        Args:
            value: Values of the label, an array of any shape.

        Returns:
            The smallest value if it is negative, else the largest if it is not below the number of
            classes. `None` if all values are classes, `value` is empty or the feature is not a
            label.
        """
        classes = self.num_classes
        if classes is None or not value.size:
            return None
        low, high = int(value.min()), int(value.max())
        if low < 0:
            return low
        return high if high >= classes else None

    def fault(self, value: np.ndarray) -> str:
        """Describes what is wrong with the value of one example.

        Args:
            value: The feature's value for one example, without a batch axis.

        Returns:
            The end of a sentence that begins with the feature's name; `""` if nothing is wrong.
        """
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
    """A data set; configs name one by the import path of such an object.

    Attributes:
        name: Name of the data set and of its folders, in lower case.
        version: Version `major.minor.patch`. A change of what `read` returns needs a new one.
            Prepared records are kept by name, version and the code that `read` reaches by name.
        features: Mapping from names to `Feature`s. The name `mask` is reserved: it marks the real
            rows of a batch.
        splits: Mapping from the name of a split to its number of examples, `None` where the number
            is not known beforehand.
        files: `files(root, split)` returns the original files of a split below the data root, or
            raises `FileNotFoundError` naming every place that it searched.
        read: `read(root, split)` reads these files into `Columns`, in the order of the files. It
            raises `ValueError` naming the file, the value and what is allowed if they are damaged.
        description: One line about the data set for people.
        homepage: Address of the original distribution.
        citation: The paper to cite.
        read_file: Reads a file of the user into the features that a model reads, so that the file
            can be predicted; `None` where examples are not files.
        read_several: Reads a file that holds several examples into pairs `(name, features)`;
            `None` where a file is one example.
        release_notes: Mapping from a version to one sentence about what the same files are read as
            since then. A run that was trained on an older version prints it when it is evaluated.

    Raises:
        ValueError: If a feature is called `mask`, or a version is not `major.minor.patch`.
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
    release_notes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if "mask" in self.features:
            raise ValueError(f"{self.name}: a feature cannot be called 'mask', every batch has one")
        for version in (self.version, *self.release_notes):
            if not re.fullmatch(r"\d+\.\d+\.\d+", version):
                raise ValueError(
                    f"{self.name}: a version is major.minor.patch, such as 1.0.0, got {version!r}"
                )

    def notes_since(self, version: str) -> list[str]:
        """Returns the release notes of the versions after a given one, the oldest first.

        Args:
            version: Version `major.minor.patch`; `""` for one before any that has notes.

        Example:
            >>> from rcnn_jax.data.spec import DatasetSpec
            >>> notes = {"1.1.0": "Pages are turned.", "1.10.0": "Blots are left out."}
            >>> spec = DatasetSpec("pages", "1.10.0", {}, {}, None, None, release_notes=notes)
            >>> spec.notes_since("1.2.0")
            ['Blots are left out.']
        """

        def order(version: str) -> tuple[int, ...]:
            return tuple(map(int, version.split("."))) if version else ()

        notes = sorted(self.release_notes, key=order)
        return [self.release_notes[each] for each in notes if order(each) > order(version)]

    def columns(self, root: Path, split: str) -> Columns:
        """Reads a split and checks it against the spec.

        A fork's reader is checked here once, so that a wrong one fails with one sentence instead of
        a shape error in the middle of a model. Arrays and lists are checked in full. Of a lazy
        column, the first example is checked now and each of the others when it is read.

        Args:
            root: Data root of the original files.
            split: Name of the split, a key of `splits`.

        Returns:
            Columns with one entry per feature, all equally long.

        Raises:
            ValueError: If the features, their dtypes, shapes, classes or number of examples differ
                from the spec.
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
        # Reading all of a lazy column here would defeat its laziness.

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
    """Returns the example that replaces one that cannot be read.

    Args:
        features: Mapping from names to `Feature`s.

    Returns:
        Zeros of each feature's dtype and shape, where axes that vary have size 0, and `mask`
        `float32[]` of 0.
    """
    zeros = {
        name: np.zeros([size or 0 for size in feature.shape], feature.dtype)
        for name, feature in features.items()
    }
    return {**zeros, "mask": np.zeros((), np.float32)}


def checked(name: str, feature: Feature, value: object) -> np.ndarray:
    """Returns one decoded value as an array of the dtype that its feature promises.

    Args:
        name: Name of the feature, for messages.
        feature: The feature that the value must conform to.
        value: The value as TFDS decodes it: an array, or a Python number for a scalar.

    Returns:
        Array of `feature.dtype` and a shape that `feature.shape` allows.

    Raises:
        ValueError: If the shape differs, a number does not fit the dtype, or a label is not one of
            the feature's classes.
    """
    array = value if isinstance(value, np.ndarray) else np.asarray(value, feature.dtype)
    # A Python number has any width; the array must hold the same number, or NaN for NaN.
    if array is not value and not array.ndim and array.item() != value and value == value:
        raise ValueError(f"feature {name!r} holds {value}, which {feature.dtype} cannot")
    fault = feature.fault(array)
    if fault:
        raise ValueError(f"feature {name!r} {fault}")
    return array
