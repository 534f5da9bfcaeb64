"""The folder that holds the pictures of a list."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from rcnn_jax.data.datasets.captioned.listing import Captioned
from rcnn_jax.data.files.images import SUFFIXES


@dataclasses.dataclass(frozen=True)
class PictureFolder:
    """Finds pictures below a folder.

    Attributes:
        path: Path of the folder.
    """

    path: Path

    def find(self, picture: Captioned) -> Path | str:
        """Finds a picture at its listed path, or as the only file of its name at any depth.

        Args:
            picture: Picture of a list.

        Returns:
            The path of its file, or a sentence that explains why there is none.
        """
        names = dict.fromkeys((picture.file, picture.file.replace("\\", "/")))
        for folder in (self.path / picture.folder, self.path):
            for candidate in (folder / name for name in names):
                if candidate.is_file():
                    return candidate
        matches = self._names.get(PurePosixPath([*names][-1]).name, ())
        if len(matches) == 1:
            return matches[0]
        which = f"more than one picture {picture.file}" if matches else f"no picture {picture.file}"
        return f"{picture.where}: there is {which} in {self.path}"

    @functools.cached_property
    def _names(self) -> Mapping[str, Sequence[Path]]:
        paths: dict[str, list[Path]] = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                paths.setdefault(name, []).append(Path(folder, name))
        return paths

    def pictures(self) -> list[Path]:
        """Returns all files with the suffix of a picture, in alphabetical order."""
        files = (path for paths in self._names.values() for path in paths)
        return sorted(p for p in files if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
