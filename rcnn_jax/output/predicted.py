"""Output of `rcnn_jax.predict`: the answers, and the files that a task makes beside them."""

import collections
import errno
import itertools
import os
import pathlib
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rcnn_jax.errors import UserError
from rcnn_jax.output.files import write_atomically

Answer = dict[str, Any]
ANSWERS = "predictions.json"
"""Name of the file for the answers if the output is a folder."""


class Prediction(NamedTuple):
    """Answers to one example.

    Attributes:
        name: Path of the file, or `FILE:NAME` for an example in a file of several.
        stem: Stem of the names of files about the example; see `stem_of`.
        answers: Answers as the task's `answers` returns them, the best first.
        files: Contents of the files that the task makes, by name.
    """

    name: str
    stem: str
    answers: list[Answer]
    files: Mapping[str, bytes]


def about_folder(folder: pathlib.Path) -> str:
    """Says that a folder was named where files are needed, without a full stop.

    Args:
        folder: The folder.

    Returns:
        A sentence that shows how its files are named, by their most frequent suffix.
    """
    suffixes = collections.Counter(
        path.suffix for path in folder.iterdir() if path.is_file() and path.name[0] != "."
    )
    if not suffixes:
        return f"{folder} is a folder without files, and files are needed"
    return f"{folder} is a folder, name its files, as in {folder}/*{suffixes.most_common(1)[0][0]}"


def stem_of(file: pathlib.Path, name: str) -> str:
    """Returns the stem of the names of files about an example.

    Args:
        file: Path of the file that holds the example.
        name: Name of the example in a file that holds several; empty otherwise.

    Returns:
        The name of the file without folder and suffix, followed by that of the example without
        suffix, if it has one. Characters of the latter that are unsafe in file names are replaced
        by `_`.
    """
    plain = re.sub(r"[^\w.-]+", "_", os.path.splitext(name)[0]).strip("._")
    return f"{file.stem}_{plain}" if plain else file.stem


def made_ready(name: str) -> bool:
    """Creates the folder that `--output` names, and checks that it can be written.

    Args:
        name: Path of a file or of a folder. It is a folder if a folder of that name exists or the
            path ends in a separator.

    Returns:
        Whether it is a folder.

    Raises:
        UserError: The folder cannot be created or written.
    """
    path = pathlib.Path(name)
    is_folder = path.is_dir() or name.endswith(("/", os.sep))
    folder = path if is_folder else path.parent
    try:
        if is_folder:
            folder.mkdir(parents=True, exist_ok=True)
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(
            f"--output={name} cannot be written ({error.strerror}): name another place."
        ) from error
    return is_folder


class Output:
    """Destination of answers and files.

    Attributes:
        answers: Path of the file for the answers.
        folder: Folder for the files that a task makes. None if the output is a single file.
    """

    def __init__(self, name: str, is_folder: bool):
        """Sets the paths; nothing is written.

        Args:
            name: Path of a file or of a folder, as for `made_ready`.
            is_folder: Whether it is a folder, from `made_ready`.
        """
        path = pathlib.Path(name)
        self.answers = path / ANSWERS if is_folder else path
        self.folder = path if is_folder else None
        self._taken = {self.answers.name}

    def written(
        self, predictions: Iterable[Prediction], rows: list[dict[str, Any]]
    ) -> Iterator[Prediction]:
        """Writes the files of predictions one by one.

        Args:
            predictions: Predictions for the examples.
            rows: List to which a row for each prediction is appended, for the file of answers.

        Yields:
            Each prediction, once its files are written.

        Raises:
            UserError: A file cannot be written, or the task gives it a name with folders.
        """
        for prediction in predictions:
            names = self._names(prediction)
            for name, content in zip(names, prediction.files.values(), strict=True):
                assert self.folder is not None
                try:
                    write_atomically(self.folder / name, content)
                except OSError as error:
                    raise UserError(
                        f"{self.folder / name} cannot be written ({error.strerror}): name another "
                        "folder with --output."
                    ) from error
            row = {"file": prediction.name, "answers": prediction.answers}
            rows.append(row | ({"files": names} if names else {}))
            yield prediction

    def _names(self, prediction: Prediction) -> list[str]:
        """Returns the names of a prediction's files, with a number if their stem is in use."""
        for name in prediction.files:
            if not name or pathlib.PurePath(name).name != name:
                raise UserError(
                    f"the task calls a file about {prediction.name} {name!r}: it has a name "
                    "without folders, such as mask.png."
                )
        for number in itertools.count(1):
            stem = prediction.stem if number == 1 else f"{prediction.stem}-{number}"
            names = [f"{stem}_{name}" for name in prediction.files]
            if self._taken.isdisjoint(names):
                break
        self._taken.update(names)
        return names
