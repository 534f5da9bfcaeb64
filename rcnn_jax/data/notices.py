"""Warnings about single files of many: the first are printed, all are counted."""

import sys
from pathlib import Path

_UNCOUNTED: list["Notices"] = []


class Notices:
    """Warnings of one kind, each about a file.

    Attributes:
        summary: What the files have in common, as the end of a sentence that begins with their
            number, such as `files have no text`.
        shown: Number of files that are named.
    """

    # Without a `__dict__`: what has been read so far is no part of the code that reads, of which
    # `rcnn_jax.data.records.code_digest` makes the address of records.
    __slots__ = ("_counted", "_files", "shown", "summary")

    def __init__(self, summary: str, shown: int = 3) -> None:
        """Starts with no file.

        Args:
            summary: What the files have in common, as the end of a sentence that begins with their
                number.
            shown: Number of files that are named.
        """
        self.summary, self.shown = summary, shown
        self._files: set[Path] = set()
        self._counted = shown

    def warn(self, file: Path, text: str) -> None:
        """Prints a warning about a file, if it is one of the first; each file counts once.

        Args:
            file: Path of the file.
            text: The warning without its prefix and without a full stop.
        """
        if file in self._files:
            return
        self._files.add(file)
        if len(self._files) <= self.shown:
            _print(text)
        elif self not in _UNCOUNTED:
            _UNCOUNTED.append(self)

    def sum_up(self) -> None:
        """Prints how many files there were, if there are more than were named or counted before."""
        if len(self._files) > self._counted:
            self._counted = len(self._files)
            _print(f"{len(self._files):,} {self.summary}; the first {self.shown} are named above")


def sum_up() -> None:
    """Prints, for each kind of warning, how many files it was about, if some were not named.

    It is called where all files of a split have been read.
    """
    while _UNCOUNTED:
        _UNCOUNTED.pop(0).sum_up()


def _print(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
