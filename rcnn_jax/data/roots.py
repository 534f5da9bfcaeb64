"""The folders of original data sets and of prepared ones."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rcnn_jax.configuration.environment import cache_dir

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
    dataset: str, folders: Iterable[Path], choices: Sequence[Sequence[str]], homepage: str
) -> list[Path]:
    """Finds the files of a data set, all in the first folder that holds every one of them.

    Args:
        dataset: Name of the data set, for the message.
        folders: Folders to search, in this order.
        choices: For each wanted file, the names that it may have, the preferred one first.
        homepage: Address of the original distribution, for the message.

    Returns:
        One path for each entry of `choices`, in that order.

    Raises:
        FileNotFoundError: If no folder holds all files. The message names every folder searched,
            what is missing in the first that holds some of the files, and where to get them.
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
            partial = f" ({folder} lacks {', '.join(missing)})"
    raise FileNotFoundError(
        f"{dataset}: {', '.join(names[0] for names in choices)} not found in any of "
        f"{', '.join(str(folder) for folder in folders)}{partial}; get them from {homepage} and "
        f"name the folder above with --data_dir or the environment variable {ENVIRONMENT}"
    )
