"""What is found in a user's folder or list: lines, and faults of single files."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Line:
    """A file and its text.

    Attributes:
        path: Path of the picture or recording.
        text: Text without white space at its ends.
        source: File that holds the text.
        where: Location of the text for messages: the file, and the line of a list.
        name: Name that determines the split where the user has not.
    """

    path: Path
    text: str
    source: Path
    where: str
    name: str


@dataclasses.dataclass(frozen=True)
class Found:
    """The lines of a folder or list, and what is wrong with others.

    Attributes:
        lines: Lines in alphabetical order of their files, or in the order of the list.
        problems: Pairs of a name, which determines the split of the problem as that of a line does,
            and a sentence without a full stop that names a file and what is wrong with it.
    """

    lines: Sequence[Line]
    problems: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Kind:
    """The kind of files that have texts.

    Attributes:
        prefix: Prefix of the data set's name, such as `lines`, for messages.
        noun: What the files are called in messages, in the plural.
        suffixes: Suffixes of the files in lower case.
        first: Suffixes, among these, whose files take precedence over others of the same name.
        why_not_read: Function from the path of another file to a clause that says why it is not
            read, or None if its format is not known.
    """

    prefix: str
    noun: str
    suffixes: Sequence[str]
    first: Sequence[str]
    why_not_read: Callable[[Path], str | None]

    def takes(self, path: Path) -> bool:
        """Returns whether a file is of this kind by its name.

        Args:
            path: Path of the file.
        """
        return path.suffix.lower() in self.suffixes

    @property
    def way_out(self) -> str:
        """Advice how files of any layout become readable, for the end of a sentence."""
        return (
            "write a list with a line for each file, its path from the folder of the list, a tab "
            f"and its text, and name it as {self.prefix}:LIST.tsv"
        )


def text_of(content: str, where: str) -> str:
    """Returns a text without white space at its ends.

    Args:
        content: The text.
        where: Location of the text, for messages.

    Raises:
        ValueError: If nothing is left, or the text has several lines.
    """
    if not content.strip():
        raise ValueError(f"{where}: the text is empty")
    return content.strip()


def is_there(path: Path) -> bool:
    """Returns whether a file exists, by a name that need not be that of a file.

    Args:
        path: Path of the file. A text that was taken for a name may be too long for one.
    """
    try:
        return path.is_file()
    except OSError:
        return False
