"""What a file with sentences about pictures lists, of whatever kind it is."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Captioned:
    """A picture and what people say about it.

    Attributes:
        file: name of the picture's file, with slashes.
        sentences: at least one, words separated by single spaces.
        where: what messages call the place that names it.
        split: `train`, `validation`, `test` and the like; None: a hash of the name decides.
        folder: where in the folder of pictures it lies, if the list says so.
        row: its row in a features file whose rows have no names.
    """

    file: str
    sentences: tuple[str, ...]
    where: str
    split: str | None = None
    folder: str = ""
    row: int = 0


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a file lists.

    Attributes:
        pictures: in the order of the file.
        problems: a sentence for each thing that is wrong and could be left out.
        files: that were read.
        base: the folder from which options name files.
        folder: where its pictures lie if no option says so.
        rows: how many pictures it names, also those that were left out.
        complete: whether every picture in `folder` should be listed.
    """

    pictures: Sequence[Captioned]
    problems: Sequence[str]
    files: Sequence[Path]
    base: Path
    folder: Path
    rows: int
    complete: bool = False
