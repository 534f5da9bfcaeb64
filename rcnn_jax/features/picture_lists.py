"""Finds the pictures that a user names: by folders, by files, or by the list of a data set."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.data.files.images import SUFFIXES
from rcnn_jax.features.parts import digest


@dataclasses.dataclass(frozen=True)
class Listed:
    """A picture to process.

    Attributes:
        path: Path of the file, which need not exist.
        name: Name of the picture in results, unique among all pictures.
        number: The `imgid` of the picture in a data set's list; None if it has none.
    """

    path: Path
    name: str
    number: int | None = None


def listed(inputs: Sequence[Path], images: Path | None = None) -> list[Listed]:
    """Lists the pictures that a user names.

    Args:
        inputs: Paths. Each is a folder, of which pictures at any depth are taken in the order of
            their names; a `.json` list in the form of Karpathy's dataset.json (`images` with
            `filename`, optionally `filepath` and `imgid`) or of COCO (`file_name`); or a picture.
        images: Folder of the pictures of a list; None means the folder of the list.

    Returns:
        The pictures; those of a list in the order of their `imgid` if they have one. A picture of a
        folder is named by its path relative to the folder, one of a list by its `filename`.

    Raises:
        FileNotFoundError: A folder, list or picture does not exist.
        ValueError: A list is damaged, there are no pictures, or two pictures have one name.
    """
    pictures: list[Listed] = []
    for given in inputs:
        if given.is_dir():
            pictures += _of_folder(given)
        elif not given.is_file():
            raise FileNotFoundError(f"there is no file or folder {str(given)!r}")
        elif given.suffix == ".json":
            pictures += _of_list(given, images or given.parent)
        else:
            pictures.append(Listed(given, given.name))
    names: dict[str, Path] = {}
    for picture in pictures:
        if picture.name in names:
            raise ValueError(
                f"two pictures are called {picture.name!r}, {names[picture.name]} and "
                f"{picture.path}: name the folder above both"
            )
        names[picture.name] = picture.path
    return pictures


def fingerprint(pictures: Sequence[Listed]) -> str:
    """Computes a fingerprint by which changes of picture files are detected.

    Args:
        pictures: Pictures from `listed`.

    Returns:
        32 hexadecimal digits, which depend on the names, sizes and modification times of the files.
    """
    seen: list[Any] = []
    for picture in pictures:
        try:
            status = picture.path.stat()
            seen.append([picture.name, status.st_size, status.st_mtime_ns])
        except OSError:
            seen.append([picture.name])
    return digest(seen)


def _of_folder(folder: Path) -> list[Listed]:
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise ValueError(f"{folder} holds no pictures, whose names end in {', '.join(SUFFIXES)}")
    return [Listed(path, path.relative_to(folder).as_posix()) for path in paths]


def _of_list(path: Path, folder: Path) -> list[Listed]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise ValueError(f"{path} has no list 'images', or an empty one")
    pictures = [_entry(path, folder, place, entry) for place, entry in enumerate(images)]
    numbers = [picture.number for picture in pictures]
    if None in numbers:
        return pictures
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"{path} gives one imgid to several images")
    return sorted(pictures, key=lambda picture: picture.number or 0)


def _entry(path: Path, folder: Path, place: int, entry: Any) -> Listed:
    name = entry.get("filename", entry.get("file_name")) if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{path}: images[{place}] has no 'filename'")
    number = entry.get("imgid")
    if number is not None and (type(number) is not int or number < 0):
        raise ValueError(f"{path}: the imgid of {name!r} is {number!r}, no number from 0 on")
    inside = folder / str(entry.get("filepath", "")) / name
    # The pictures of a list are often kept in a single folder, whatever `filepath` says.
    beside = folder / name
    return Listed(beside if beside.is_file() and not inside.is_file() else inside, name, number)
