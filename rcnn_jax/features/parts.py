"""Features computed so far, in small files beside the result, so that a killed job can continue."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rcnn_jax.errors import UserError
from rcnn_jax.output.digests import json_digest
from rcnn_jax.output.files import write_atomically


def digest(value: Any) -> str:
    """Computes a short fingerprint of a value.

    Args:
        value: Value that JSON can represent.

    Returns:
        32 hexadecimal digits.
    """
    return json_digest(value)[:32]


@dataclasses.dataclass(frozen=True)
class Part:
    """The features of consecutive pictures.

    Attributes:
        values: Features of the pictures that could be read, `float32[readable, features]`.
        places: Positions of these pictures in the list of all pictures, `int64[readable]`.
        damaged: A sentence for each picture that could not be read.
        pictures: The `digest` of the state of all pictures of the part when they were read.
    """

    values: np.ndarray
    places: np.ndarray
    damaged: tuple[str, ...]
    pictures: str


class Parts:
    """The folder `NAME.parts` beside a file of features.

    Each part is either complete or absent, and belongs to the job that `job.json` describes: parts
    of another network, other weights or other pictures are refused.
    """

    def __init__(self, output: Path, job: Mapping[str, Any], *, anew: bool = False) -> None:
        """Opens the folder, or creates it.

        Args:
            output: File of features that the parts will be joined to.
            job: Description of everything that determines the features.
            anew: Whether parts of an earlier job are removed.

        Raises:
            UserError: The folder holds parts of another job.
        """
        self._folder = output.with_name(f"{output.name}.parts")
        self._folder.mkdir(exist_ok=True)
        if anew:
            self.remove()
            self._folder.mkdir(exist_ok=True)
        manifest = self._folder / "job.json"
        if manifest.exists():
            try:
                before = json.loads(manifest.read_text(encoding="utf-8"))
            except ValueError:
                before = {}
            other = sorted(k for k in {*before, *job} if before.get(k) != job.get(k))
            if other:
                raise UserError(
                    f"{self._folder} holds parts of another job (its {', '.join(other)} differ): "
                    "--overwrite begins anew, another --output leaves them."
                )
        else:
            write_atomically(manifest, json.dumps(job, indent=2, sort_keys=True))

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06}.npz"

    def read(self, number: int) -> Part | None:
        """Reads a part.

        Args:
            number: Number of the part.

        Returns:
            The part; None if it is absent or damaged, so that it must be computed.
        """
        try:
            # Each array in the archive has a checksum, which is verified on reading.
            content = io.BytesIO(self._path(number).read_bytes())
            with np.load(content, allow_pickle=False) as file:
                damaged, pictures = tuple(file["damaged"].tolist()), str(file["pictures"])
                return Part(file["values"], file["places"], damaged, pictures)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, number: int, part: Part) -> None:
        """Writes a part.

        Args:
            number: Number of the part.
            part: Features and places of the part.

        Raises:
            OSError: The part cannot be written; nothing of it exists then.
        """
        content = io.BytesIO()
        np.savez(
            content,
            values=part.values,
            places=part.places,
            damaged=np.asarray(part.damaged, np.str_),
            pictures=np.asarray(part.pictures),
        )
        write_atomically(self._path(number), content.getvalue())

    def values(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Yields the features of parts, one part at a time.

        Args:
            numbers: Numbers of parts that exist.

        Yields:
            Features `float32[readable, features]`.

        Raises:
            UserError: A part has disappeared or is damaged.
        """
        for number in numbers:
            part = self.read(number)
            if part is None:
                raise UserError(f"{self._path(number)} has gone or is damaged; start again.")
            yield part.values

    def remove(self) -> None:
        """Removes the files of this job, and the folder if nothing else is in it."""
        for path in [*self._folder.glob("part-*.npz"), self._folder / "job.json"]:
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()
