"""The folders of original data sets and of prepared ones."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rcnn_jax.configuration.environment import cache_dir
from rcnn_jax.errors import shortened

ENVIRONMENT = "RCNN_JAX_DATA"


def data_root(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder below which original data sets are searched for.

    Args:
        data_dir: Folder chosen by the user (`--data_dir`). It takes precedence over the environment
            variable `RCNN_JAX_DATA`, which takes precedence over `data/` in the cache folder.

    Returns:
        The folder, with `~` expanded; it need not exist.
    """
    chosen = data_dir or os.environ.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else cache_dir() / "data"


def find_files(
    dataset: str,
    folders: Iterable[Path],
    choices: Sequence[Sequence[str]],
    homepage: str,
    others: Mapping[str, str] | None = None,
) -> list[Path]:
    """Finds the files of a data set, all in the first folder that holds every one of them.

    Args:
        dataset: Name of the data set, for the message.
        folders: Folders to search, in this order.
        choices: For each wanted file, the names that it may have, the preferred one first.
        homepage: Address of the original distribution, for the message.
        others: Mapping from patterns of names, such as `*.npz`, to what files and folders of such
            names are, and which files are read instead. One that lies in or beside a folder is
            named in the message.

    Returns:
        One path for each entry of `choices`, in that order.

    Raises:
        FileNotFoundError: If no folder holds all files. The message names every folder searched,
            what is missing in the first that holds some of the files, the data set in another form
            if it is there, and where to get the files.
    """
    folders = list(folders)
    partial = ""
    for folder in folders:
        paths = [
            next((folder / name for name in names if (folder / name).is_file()), None)
            for names in choices
        ]
        missing = [names[0] for names, path in zip(choices, paths, strict=True) if path is None]
        if not missing:
            return [path for path in paths if path is not None]
        if len(missing) < len(choices) and not partial:
            partial = f" ({folder} lacks {shortened(missing)})"
    raise FileNotFoundError(
        f"{dataset}: {shortened(names[0] for names in choices)} not found in any of "
        f"{', '.join(str(folder) for folder in folders)}{partial}{_other_form(folders, others)}; "
        f"get them from {homepage} and name the folder above with --data_dir or the environment "
        f"variable {ENVIRONMENT}"
    )


def _other_form(folders: Sequence[Path], others: Mapping[str, str] | None) -> str:
    """Returns a clause about the data set in another form, in or beside one of the folders."""
    places = dict.fromkeys([*folders, *(folder.resolve().parent for folder in folders)])
    for pattern, what in (others or {}).items():
        for place in places:
            found = sorted(place.glob(pattern)) if place.is_dir() else []
            if found:
                return f", but {found[0]} is there, {what}"
    return ""
