"""Data set of the pictures with captions in a listing, whatever the format of its file.

`files` in this folder reads these listings.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.columns import LazyColumn, from_files
from rcnn_jax.data.datasets.captioned.folder import PictureFolder
from rcnn_jax.data.datasets.captioned.listing import Captioned, Listing
from rcnn_jax.data.datasets.captioned.vectors import match
from rcnn_jax.data.datasets.problems import REMEDY, Problems
from rcnn_jax.data.files import image_vectors, text_lines
from rcnn_jax.data.files.images import RELEASE_NOTE
from rcnn_jax.data.files.photographs import Fit, read_photograph
from rcnn_jax.data.records.damage import CHOICES
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.splits import split_of
from rcnn_jax.data.text.sentences import TEXT
from rcnn_jax.output.digests import json_digest

_NOUN = "pictures"  # what examples are called in messages
# What the same files are read as since the version 1.1.0.
_OF_WORDS = "captions keep the dot of `no.` and the like before a figure"
_OF_VECTORS = (
    "vectors belong to the pictures that any array of a features file names; names in other arrays "
    "than files and filenames were not looked at, and vectors were taken by their place"
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is read of the pictures.

    Attributes:
        images: Folder of the pictures, relative to the folder of the data set or of its file.
            Pictures that are not at their listed path are searched for in all its subfolders. "":
            the default folder of the kind of list.
        size: Side in pixels of the square pictures: the shorter side is scaled to it, and the
            middle is cropped.
        features: File with a feature vector for each picture, relative to the same folder as
            `images`, which is read in place of pictures; see `rcnn_jax.data.files.image_vectors`.
        array: Name of the array in the features file, if it has several.
        by: How vectors are found in the features file: `position` takes them in the order of the
            list, `imgid` by the list's numbers of that name, and the name of an array by the names
            or numbers in it. "": by the array whose names are those of pictures, and by `imgid`
            where the file has no names.
        damaged: `stop` at the first picture that is missing or unreadable, lacks a caption or a
            vector, or is not listed; or `skip` such pictures, and report and count them.
        held_out: Share of pictures for validation, and again for test, where the list has no
            splits.
    """

    images: str = ""
    size: int = 224
    features: str = ""
    array: str = ""
    by: str = ""
    damaged: str = "stop"
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if self.damaged not in CHOICES:
            raise ValueError(
                f"the option damaged of a data set of captions is one of {', '.join(CHOICES)}, got "
                f"{self.damaged!r}"
            )
        if self.size < 1 or not 0 <= self.held_out < 0.5:
            raise ValueError(
                f"size must be at least 1 and held_out lie in [0, 0.5), got {self.size} and "
                f"{self.held_out}"
            )
        if self.features and (self.images or self.size != Options.size):
            raise ValueError(
                f"features={self.features} are read in place of pictures: leave images and size out"
            )
        for name, what in (("array", "one of"), ("by", "about")):
            if (value := getattr(self, name)) and not self.features:
                raise ValueError(
                    f"{name}={value} is {what} a features file, and features names none"
                )

    @property
    def changes(self) -> Mapping[str, Any]:
        """The options that differ from their defaults."""
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        return {k: getattr(self, k) for k, v in fields.items() if getattr(self, k) != v}


def spec(
    kind: str,
    path: str,
    listed: Callable[[Path], Listing],
    options: Options,
    *,
    splits: Sequence[str],
    read_as: Sequence[Any] = (),
) -> DatasetSpec:
    """Returns a data set with the features `image` or `features`, `captions` and `file`.

    Args:
        kind: Name of the data set.
        path: Path of the list, below the data root or absolute.
        listed: Function that reads the list from its path.
        options: What is read of the pictures.
        splits: Names of all possible splits.
        read_as: Further settings that affect what `listed` reads, which become part of the name.

    Raises:
        ValueError: The path is empty.
    """
    if not path:
        raise ValueError(f"{kind}: needs the path of a file or folder")
    # Prepared records are stored by name, so that another choice of examples needs another name.
    decided = [sorted(options.changes.items()), *read_as]
    digest = json_digest(decided)[:8]
    fit = Fit(options.size, shorter=options.size)
    if options.features:
        given = {"features": Feature((None,), "float32")}
    else:
        given = {"image": Feature((options.size, options.size, 3), "uint8")}

    def chosen(root: Path, split: str) -> tuple[Listing, list[Captioned], Problems]:
        listing, problems = listed(root / Path(path).expanduser()), Problems(options.damaged, _NOUN)
        # Problems belong to no split: they are reported with the first one.
        for problem in listing.problems if split == splits[0] or options.damaged == "stop" else ():
            problems.meet(problem)
        if not listing.pictures:
            problems.finish(f"{split!r} of {listing.files[0]}", 0)
        return listing, _of_split(listing, split, options.held_out), problems

    def files(root: Path, split: str) -> list[Path]:
        listing, selected, _ = chosen(root, split)
        if options.features:
            return [*listing.files, _beside(listing, options.features)]
        folder = PictureFolder(_images(listing, options))
        pictures = (folder.find(picture) for picture in selected)
        return [*listing.files, *(place for place in pictures if isinstance(place, Path))]

    def read(root: Path, split: str) -> Columns:
        listing, selected, problems = chosen(root, split)
        if options.features:
            selected, column = _vectors(listing, selected, options, problems)
        else:
            selected, column = _pixels(listing, selected, options, fit, problems)
        problems.finish(f"{split!r} of {listing.files[0]}", len(selected))
        return {
            next(iter(given)): column,
            "captions": [_bytes("\n".join(picture.sentences)) for picture in selected],
            "file": [_bytes(picture.file) for picture in selected],
        }

    def of_file(file: Path) -> list[tuple[str, Mapping[str, np.ndarray]]]:
        whole = roots.data_root(None) / Path(path).expanduser()
        base = whole if whole.is_dir() else whole.parent
        return _of_file(file, options.array, base / Path(options.features).expanduser())

    notes = [_OF_VECTORS if options.features else RELEASE_NOTE]
    notes += [_OF_WORDS, *([text_lines.RELEASE_NOTE] if kind == "captioned" else [])]
    return DatasetSpec(
        name=kind if not options.changes and not read_as else f"{kind}_{digest}",
        version="1.1.0",
        features={**given, "captions": TEXT, "file": TEXT},
        splits=dict.fromkeys(splits),
        files=files,
        read=read,
        description=f"Pictures with sentences of {path}.",
        read_file=None if options.features else lambda f: {"image": read_photograph(f, fit)},
        read_several=of_file if options.features else None,
        release_notes={"1.1.0": "; ".join(notes)},
    )


def _of_file(
    path: Path, array: str, trained_on: Path
) -> list[tuple[str, Mapping[str, np.ndarray]]]:
    """Returns the vectors of a features file with the names or numbers of their pictures.

    Args:
        path: Path of the file.
        array: Name of the array in the features file of the data set.
        trained_on: Path of the latter, which need not exist.

    Raises:
        ValueError: If the file is none of features; the message says how features are made.
    """
    if path.suffix not in image_vectors.SUFFIXES and path.is_file():
        about = image_vectors.read_about(trained_on)
        backbone, weights = about.get("backbone", "NAME"), about.get("weights", "FILE")
        raise ValueError(
            f"{path} is no file of features, which this run reads in place of pictures: make one "
            f"by python -m rcnn_jax.features --backbone={backbone} --weights={weights} "
            f"--output=features.npz {path}, and name features.npz here"
        )
    try:
        vectors = image_vectors.read(path, array)
    except ValueError:
        # The name of the array in a user's file may differ from that in the data set.
        if not array:
            raise
        vectors = image_vectors.read(path)
    names = vectors.files or [str(number) for number in range(len(vectors.values))]
    return [(name, {"features": row}) for name, row in zip(names, vectors.values, strict=True)]


@dataclasses.dataclass(frozen=True)
class _Place:
    """A picture that exists, with its location for messages."""

    path: Path
    where: str


def _pixels(
    listing: Listing,
    own: Sequence[Captioned],
    options: Options,
    fit: Fit,
    problems: Problems,
) -> tuple[list[Captioned], LazyColumn]:
    """Returns the pictures of a split that can be read, and a column that reads them."""
    folder = PictureFolder(_images(listing, options))
    kept, images = [], []
    read = functools.partial(read_photograph, fit=fit)
    for picture in own:
        place = folder.find(picture)
        if isinstance(place, str):
            problems.meet(place)
            continue
        if options.damaged == "skip":
            # The number of examples must be known before the first one is requested.
            try:
                read(place)
            except (OSError, ValueError) as error:
                problems.meet(f"{picture.where}: {error}")
                continue
        kept.append(picture)
        images.append(_Place(place, picture.where))
    if listing.complete:
        known = {folder.find(picture) for picture in listing.pictures}
        for place in folder.pictures():
            if place not in known:
                problems.meet(f"{place} has no caption in {listing.files[0]}")

    def read_or_say(place: Path) -> np.ndarray:
        try:
            return read(place)
        except ValueError as error:
            raise ValueError(f"{error}; {REMEDY}") from error

    return kept, from_files(images, read_or_say)


def _vectors(
    listing: Listing, own: Sequence[Captioned], options: Options, problems: Problems
) -> tuple[list[Captioned], np.ndarray]:
    """Returns the pictures of a split that have a vector, and their vectors."""
    path = _beside(listing, options.features)
    try:
        vectors = image_vectors.read(path, options.array)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}: features={options.features} is named from the folder of {listing.files[0]}"
        ) from error
    found = match(vectors, path, listing, options.by)
    kept, chosen = [], []
    for picture in own:
        row = found.rows.get(picture.place)
        if row is None:
            fault = found.faults.get(picture.place, f"has no vector for {picture.file}")
            problems.meet(f"{picture.where}: {path} {fault}")
        else:
            kept.append(picture)
            chosen.append(row)
    return kept, vectors.values[np.asarray(chosen, np.int64)]


def _of_split(listing: Listing, split: str, held_out: float) -> list[Captioned]:
    """Returns the pictures of a split."""
    divided = {picture.split is not None for picture in listing.pictures}
    if len(divided) > 1:
        stray = next(picture for picture in listing.pictures if picture.split is None)
        raise ValueError(f"{stray.where}: {stray.file} belongs to no split, others do")

    def name(picture: Captioned) -> str:
        return PurePosixPath(picture.folder, picture.file).with_suffix("").as_posix()

    selected = [p for p in listing.pictures if (p.split or split_of(name(p), held_out)) == split]
    if not selected:
        raise ValueError(
            f"none of the {len(listing.pictures):,} pictures of {listing.files[0]} belongs to "
            f"{split!r}; a larger held_out= at the end of the data set's name gives it some where "
            "the list has no splits, --config.data.validation= goes without one"
        )
    return selected


def _images(listing: Listing, options: Options) -> Path:
    """Returns the folder of the pictures."""
    folder = _beside(listing, options.images) if options.images else listing.folder
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder} for the pictures of {listing.files[0]}"
        )
    return folder


def _beside(listing: Listing, name: str) -> Path:
    """Returns a path relative to the folder that options name files from."""
    return listing.base / Path(name).expanduser()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
