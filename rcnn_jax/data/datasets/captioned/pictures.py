"""Pictures with sentences that a file lists, as a data set; of what kind the file is, is not known.

`files` in this folder reads them and names the options that are explained here.
"""

import collections
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rcnn_jax.data.columns import LazyColumn, from_files
from rcnn_jax.data.datasets.captioned.listing import Captioned, Listing
from rcnn_jax.data.files import image_vectors
from rcnn_jax.data.files.line_images import SUFFIXES
from rcnn_jax.data.files.photographs import Fit, read_photograph
from rcnn_jax.data.records.damage import CHOICES
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.splits import split_of
from rcnn_jax.data.text.sentences import TEXT
from rcnn_jax.output.digests import json_digest

_REMEDY = "damaged=skip at the end of the data set's name, behind a ? or &, goes on without it"
_NAMED = 5  # problems that are named one by one where they are skipped


@dataclasses.dataclass(frozen=True)
class Options:
    """What is read of the pictures.

    Attributes:
        images: folder of the pictures, named from the folder that the data set names or that holds
            its file; "": where the kind of list has them. Those that are not where their names say
            are looked for in all its sub-folders.
        size: pictures become squares of this side: the shorter side is scaled to it and the middle
            is cut out.
        features: file with a vector for each picture, named as `images` is, see
            `rcnn_jax.data.files.image_vectors`; then no pictures are read.
        array: which array of the features file, if it has several.
        damaged: `stop` at the first picture that is missing or cannot be read, has no sentence or
            vector, or is listed nowhere; or `skip` them, named and counted.
        held_out: share of pictures for validation, and again for test, where the list has no
            splits.
    """

    images: str = ""
    size: int = 224
    features: str = ""
    array: str = ""
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
        if self.array and not self.features:
            raise ValueError(
                f"array={self.array} is one of a features file, and features names none"
            )

    @property
    def changes(self) -> Mapping[str, Any]:
        """Those that are not as they would be."""
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
    """A data set with the features `image` or `features`, `captions` and `file`.

    Args:
        kind: what the data set is called.
        path: of the list, below the data root unless it is absolute.
        listed: reads it.
        options: see `Options`.
        splits: names of all that there may be.
        read_as: what else decides what `listed` reads.
    """
    if not path:
        raise ValueError(f"{kind}: needs the path of a file or folder")
    # Prepared records are kept by name: another choice of examples needs another one.
    decided = [sorted(options.changes.items()), *read_as]
    digest = json_digest(decided)[:8]
    fit = Fit(options.size, shorter=options.size)
    if options.features:
        given = {"features": Feature((None,), "float32")}
    else:
        given = {"image": Feature((options.size, options.size, 3), "uint8")}

    def chosen(root: Path, split: str) -> tuple[Listing, list[Captioned], _Problems]:
        listing, problems = listed(root / Path(path).expanduser()), _Problems(options.damaged)
        # What belongs to no split is told of with the first.
        for problem in listing.problems if split == splits[0] or options.damaged == "stop" else ():
            problems.meet(problem)
        if not listing.pictures:
            problems.finish(f"{split!r} of {listing.files[0]}", 0)
        return listing, _of_split(listing, split, options.held_out), problems

    def files(root: Path, split: str) -> list[Path]:
        listing, own, _ = chosen(root, split)
        if options.features:
            return [*listing.files, _beside(listing, options.features)]
        found = _Folder(_images(listing, options))
        pictures = (found.find(picture) for picture in own)
        return [*listing.files, *(place for place in pictures if isinstance(place, Path))]

    def read(root: Path, split: str) -> Columns:
        listing, own, problems = chosen(root, split)
        if options.features:
            own, column = _vectors(listing, own, options, problems)
        else:
            own, column = _pixels(listing, own, options, fit, problems)
        problems.finish(f"{split!r} of {listing.files[0]}", len(own))
        return {
            next(iter(given)): column,
            "captions": [_bytes("\n".join(picture.sentences)) for picture in own],
            "file": [_bytes(picture.file) for picture in own],
        }

    return DatasetSpec(
        name=kind if not options.changes and not read_as else f"{kind}_{digest}",
        version="1.0.0",
        features={**given, "captions": TEXT, "file": TEXT},
        splits=dict.fromkeys(splits),
        files=files,
        read=read,
        description=f"Pictures with sentences of {path}.",
        read_file=None if options.features else lambda f: {"image": read_photograph(f, fit)},
        read_several=functools.partial(_of_file, array=options.array) if options.features else None,
    )


def _of_file(path: Path, array: str) -> list[tuple[str, Mapping[str, np.ndarray]]]:
    """The vectors of a file of features, by the name or else the number of their pictures."""
    try:
        found = image_vectors.read(path, array)
    except ValueError:
        # A user's own file need not call its array as the data set does.
        if not array:
            raise
        found = image_vectors.read(path)
    names = found.files or [str(number) for number in range(len(found.values))]
    return [(name, {"features": row}) for name, row in zip(names, found.values, strict=True)]


class _Problems:
    """What is wrong with single pictures: the end, or counted and named on stderr."""

    def __init__(self, choice: str) -> None:
        self._choice, self._met = choice, []

    def meet(self, problem: str) -> None:
        if self._choice == "stop":
            raise ValueError(f"{problem}; {_REMEDY}")
        self._met.append(problem)

    def finish(self, what: str, left: int) -> None:
        if not left:
            first = f": {self._met[0]}" if self._met else ""
            raise ValueError(f"no picture is left of the split {what}{first}")
        for problem in self._met[:_NAMED]:
            print(f"warning: {problem}; it is left out", file=sys.stderr, flush=True)
        if self._met:
            print(
                f"warning: {len(self._met):,} problems were met in the split {what}, "
                f"{left:,} pictures are left",
                file=sys.stderr,
                flush=True,
            )


@dataclasses.dataclass(frozen=True)
class _Folder:
    """Finds pictures below a folder."""

    path: Path

    def find(self, picture: Captioned) -> Path | str:
        """The picture's path, or a sentence that says that there is none."""
        for place in (self.path / picture.folder / picture.file, self.path / picture.file):
            if place.is_file():
                return place
        found = self._names.get(PurePosixPath(picture.file).name, ())
        if len(found) == 1:
            return found[0]
        which = f"more than one picture {picture.file}" if found else f"no picture {picture.file}"
        return f"{picture.where}: there is {which} in {self.path}"

    @functools.cached_property
    def _names(self) -> Mapping[str, Sequence[Path]]:
        found: dict[str, list[Path]] = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                found.setdefault(name, []).append(Path(folder, name))
        return found

    def pictures(self) -> list[Path]:
        """All files that are pictures by their names, in alphabetical order."""
        every = (place for places in self._names.values() for place in places)
        return sorted(p for p in every if p.suffix.lower() in SUFFIXES and p.name[0] != ".")


@dataclasses.dataclass(frozen=True)
class _Place:
    """A picture that is there, for messages."""

    path: Path
    where: str


def _pixels(
    listing: Listing,
    own: Sequence[Captioned],
    options: Options,
    fit: Fit,
    problems: _Problems,
) -> tuple[list[Captioned], LazyColumn]:
    folder = _Folder(_images(listing, options))
    kept, places = [], []
    read = functools.partial(read_photograph, fit=fit)
    for picture in own:
        place = folder.find(picture)
        if isinstance(place, str):
            problems.meet(place)
            continue
        if options.damaged == "skip":
            # How many examples there are must be known before the first is asked for.
            try:
                read(place)
            except (OSError, ValueError) as error:
                problems.meet(f"{picture.where}: {error}")
                continue
        kept.append(picture)
        places.append(_Place(place, picture.where))
    if listing.complete:
        known = {folder.find(picture) for picture in listing.pictures}
        for place in folder.pictures():
            if place not in known:
                problems.meet(f"{place} has no caption in {listing.files[0]}")

    def read_or_say(place: Path) -> np.ndarray:
        try:
            return read(place)
        except ValueError as error:
            raise ValueError(f"{error}; {_REMEDY}") from error

    return kept, from_files(places, read_or_say)


def _vectors(
    listing: Listing, own: Sequence[Captioned], options: Options, problems: _Problems
) -> tuple[list[Captioned], np.ndarray]:
    path = _beside(listing, options.features)
    try:
        found = image_vectors.read(path, options.array)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}: features={options.features} is named from the folder of {listing.files[0]}"
        ) from error
    values = found.values
    if found.files is None and len(values) != listing.rows:
        raise ValueError(
            f"{path} has {len(values):,} vectors without names, {listing.files[0]} lists "
            f"{listing.rows:,} pictures: as many are needed"
        )
    names = found.files or ()
    short = [PurePosixPath(name).name for name in names]
    alone = {name for name, number in collections.Counter(short).items() if number == 1}
    # A name in full goes before one without its folders, which must be the only one.
    rows = {name: row for row, name in enumerate(short) if name in alone}
    rows |= {name: row for row, name in enumerate(names)}
    kept, chosen = [], []
    for picture in own:
        asked = (f"{picture.folder}/{picture.file}", picture.file, PurePosixPath(picture.file).name)
        row = next((rows[name] for name in asked if name in rows), None)
        row = picture.row if found.files is None else row
        if row is None:
            problems.meet(f"{picture.where}: {path} has no vector for {picture.file}")
        else:
            kept.append(picture)
            chosen.append(row)
    return kept, values[np.asarray(chosen, np.int64)]


def _of_split(listing: Listing, split: str, held_out: float) -> list[Captioned]:
    divided = {picture.split is not None for picture in listing.pictures}
    if len(divided) > 1:
        stray = next(picture for picture in listing.pictures if picture.split is None)
        raise ValueError(f"{stray.where}: {stray.file} belongs to no split, others do")

    def name(picture: Captioned) -> str:
        return PurePosixPath(picture.folder, picture.file).with_suffix("").as_posix()

    own = [p for p in listing.pictures if (p.split or split_of(name(p), held_out)) == split]
    if not own:
        raise ValueError(
            f"none of the {len(listing.pictures):,} pictures of {listing.files[0]} belongs to "
            f"{split!r}; a larger held_out= at the end of the data set's name gives it some where "
            "the list has no splits, --config.data.validation= goes without one"
        )
    return own


def _images(listing: Listing, options: Options) -> Path:
    folder = _beside(listing, options.images) if options.images else listing.folder
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder} for the pictures of {listing.files[0]}"
        )
    return folder


def _beside(listing: Listing, name: str) -> Path:
    return listing.base / Path(name).expanduser()


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)
