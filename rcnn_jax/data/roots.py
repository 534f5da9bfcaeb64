"""Where original data sets lie and where prepared ones are kept."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rcnn_jax.configuration.environment import cache_dir

ENVIRONMENT = "RCNN_JAX_DATA"


def data_root(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder below which original data sets are looked for.

    Args:
        data_dir: what the user said (`--data_dir`); it wins over the environment variable
            `RCNN_JAX_DATA`, which wins over `data/` in the cache folder.
    """
    chosen = data_dir or os.environ.get(ENVIRONMENT)
    return Path(chosen).expanduser() if chosen else cache_dir() / "data"


def find_files(
    dataset: str, folders: Iterable[Path], choices: Sequence[Sequence[str]], homepage: str
) -> list[Path]:
    """Finds a data set's files, all in the first folder that holds every one of them.

    Args:
        dataset: its name, for the error.
        folders: where to look, in this order.
        choices: for each wanted file, the names it may have, the preferred one first.
        homepage: where the original distribution is, for the error.

    Returns:
        One path for each entry of `choices`, in that order.

    Raises:
        FileNotFoundError: naming every folder looked at, what is missing in the one that holds
            some of the files, and where to get them.
    """
    folders = list(folders)
    partial = ""
    for folder in folders:
        found = [
            next((folder / name for name in names if (folder / name).is_file()), None)
            for names in choices
        ]
        missing = [names[0] for names, path in zip(choices, found, strict=True) if path is None]
        if not missing:
            return [path for path in found if path is not None]
        if len(missing) < len(choices) and not partial:
            partial = f" ({folder} lacks {', '.join(missing)})"
    raise FileNotFoundError(
        f"{dataset}: {', '.join(names[0] for names in choices)} not found in any of "
        f"{', '.join(str(folder) for folder in folders)}{partial}; get them from {homepage} and "
        f"name the folder above with --data_dir or the environment variable {ENVIRONMENT}"
    )
