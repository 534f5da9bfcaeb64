"""Finds the pictures that a user names: by folders, by files, or by the list of a data set."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rcnn_jax.data.datasets.captioned import json_lists, layouts
from rcnn_jax.data.files.images import SUFFIXES, why_not_read
from rcnn_jax.errors import shortened
from rcnn_jax.features.parts import digest

# Pictures in the common sense, of which nothing here reads the pixels.
_GRAPHICS = (
    ".svg", ".psd", ".pdf", ".eps", ".ps", ".ai", ".exr", ".hdr", ".pfm", ".djvu", ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".ico", ".xcf", ".jxr", ".bpg",
)  # fmt: skip
_OF_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini")


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


def left_out(inputs: Sequence[Path]) -> tuple[list[str], str]:
    """Says which files of folders are not among the pictures of `listed`.

    Hidden files, and those in which systems keep previews and settings, are passed over.

    Args:
        inputs: Paths as those of `listed`.

    Returns:
        A sentence without a full stop for each reason why pictures are left out, which names the
        first of them; and one that counts the files that are no pictures, `""` if there are none.
    """
    reasons, others = collections.defaultdict(list), collections.Counter()
    for folder in inputs:
        for path in _files(folder) if folder.is_dir() else ():
            if reason := _why_left_out(path):
                reasons[reason].append(path.relative_to(folder).as_posix())
            elif path.suffix.lower() not in SUFFIXES:
                others[path.suffix.lower() or "without suffix"] += 1
    sentences = [f"{shortened(names, 5)}: {reason}" for reason, names in reasons.items()]
    kinds = [f"{count:,} {suffix}" for suffix, count in others.most_common()]
    noun = "file that is no picture" if others.total() == 1 else "files that are no pictures"
    return sentences, f"{others.total():,} {noun}: {shortened(kinds, 5)}" if others else ""


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files at any depth that are not hidden, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        hidden = path.name.startswith(".") or path.name.lower() in _OF_SYSTEMS
        if not hidden and (path.is_file() or path.is_symlink()) and not path.is_dir():
            yield path


def _why_left_out(path: Path) -> str:
    """Returns why a file that is a picture by its name cannot be read; "" for any other."""
    suffix = path.suffix.lower()
    if suffix in _GRAPHICS:
        return f"{suffix} is not read"
    if suffix in SUFFIXES and not path.is_file():
        return "the file that the link leads to is not there"
    return (why_not_read(path) or "") if suffix in SUFFIXES else ""


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
    paths = [
        path
        for path in _files(folder)
        if path.suffix.lower() in SUFFIXES and not _why_left_out(path)
    ]
    if not paths:
        sentences, others = left_out([folder])
        there = "; ".join([*sentences, *filter(None, [others])])
        raise ValueError(
            f"{folder} holds no pictures that are read, but {there}"
            if there
            else f"{folder} holds no pictures, whose names end in {', '.join(SUFFIXES)}"
        )
    return [Listed(path, path.relative_to(folder).as_posix()) for path in paths]


def _of_list(path: Path, folder: Path) -> list[Listed]:
    content = json_lists.read(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        what = layouts.of_json(content)
        raise ValueError(
            f"{path} has no list 'images', or an empty one" + (f": it is {what}" if what else "")
        )
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
