"""Where the answers of `rcnn_jax.predict` go, and the files that a task makes beside them."""

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
"""The file for the answers in a folder."""


class Prediction(NamedTuple):
    """What is said of an example.

    Attributes:
        name: The file, or `FILE:NAME` of what it holds.
        stem: What files about it are called after, see `stem_of`.
        answers: The best first, as the task's `answers` gives them.
        files: Name -> content of the files that the task makes.
    """

    name: str
    stem: str
    answers: list[Answer]
    files: Mapping[str, bytes]


def stem_of(file: pathlib.Path, name: str) -> str:
    """What files about an example are called after.

    Args:
        file: That holds it.
        name: Of the example in a file that holds several; else empty.

    Returns:
        The name of the file without folder and suffix, and that of the example likewise.
    """
    plain = re.sub(r"[^\w.-]+", "_", os.path.splitext(name)[0]).strip("._")
    return f"{file.stem}_{plain}" if plain else file.stem


def made_ready(name: str) -> bool:
    """Makes the folder that `--output` names, and finds out whether it can be written.

    Args:
        name: Of a file; or of a folder, if it is there already or `name` ends in a separator.

    Returns:
        Whether it is a folder.

    Raises:
        UserError: It cannot be written.
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
    """Where answers and files go.

    Attributes:
        answers: The file for the answers.
        folder: The folder for the files that a task makes; None where there is only the file.
    """

    def __init__(self, name: str, is_folder: bool):
        """Notes the places; nothing is written.

        Args:
            name: As `made_ready` takes it.
            is_folder: As `made_ready` gives it.
        """
        path = pathlib.Path(name)
        self.answers = path / ANSWERS if is_folder else path
        self.folder = path if is_folder else None
        self._taken = {self.answers.name}

    def written(
        self, predictions: Iterable[Prediction], rows: list[dict[str, Any]]
    ) -> Iterator[Prediction]:
        """Writes the files of predictions as they come.

        Args:
            predictions: What is said.
            rows: Gets a row for each, for the file of answers.

        Yields:
            The predictions; each once its files are there.

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
        """Names of the files of a prediction; a number tells those of equal stems apart."""
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
