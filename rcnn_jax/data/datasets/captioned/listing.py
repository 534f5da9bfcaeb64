"""The contents of a file with captions of pictures, whatever its format."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Captioned:
    """A picture and its captions.

    Attributes:
        file: Name of the picture's file, with slashes.
        sentences: Captions, at least one, with words separated by single spaces.
        where: Location that names the picture, for messages.
        split: Name of its split, such as `train`, `validation` or `test`; None: determined by a
            hash of its name.
        folder: Subfolder of the folder of pictures that holds it, if the list names one.
        place: Place of the picture in the list, counted from 0; those left out count, too.
        ids: Numbers by which the list knows the picture, such as `imgid`, `cocoid` or `id`.
    """

    file: str
    sentences: tuple[str, ...]
    where: str
    split: str | None = None
    folder: str = ""
    place: int = 0
    ids: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Listing:
    """The contents of a list of pictures.

    Attributes:
        pictures: Pictures with captions in the order of the file.
        problems: One sentence for each entry that is wrong and could be left out.
        files: Files that were read.
        base: Folder that options name files relative to.
        folder: Folder of the pictures unless an option names another.
        rows: Number of pictures that the list names, including those that were left out.
        complete: Whether every picture in `folder` should be listed.
    """

    pictures: Sequence[Captioned]
    problems: Sequence[str]
    files: Sequence[Path]
    base: Path
    folder: Path
    rows: int
    complete: bool = False
