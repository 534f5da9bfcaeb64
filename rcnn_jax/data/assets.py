"""Arrays fitted on the training split, kept with checksums in the workdir.

Evaluation and prediction read the pixel mean or the whitening matrix here and never need the
training data. The folder holds one `.npy` file per array and a `manifest.json`. The name of a file
contains the first digits of its checksum, so a new set of arrays never overwrites an old one.
Replacing the manifest is the only step that takes effect, and it is atomic.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.output.digests import json_digest
from rcnn_jax.output.files import write_atomically

MANIFEST = "manifest.json"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def save(folder: str | os.PathLike[str], assets: Mapping[str, np.ndarray]) -> None:
    """Writes the arrays, then the manifest that makes them effective.

    Args:
        folder: Folder of the assets, usually `<workdir>/assets`; created if absent.
        assets: Mapping from names to arrays. A name must be usable as a file name: it is not empty,
            does not start with a dot and contains no slash.

    Raises:
        ValueError: If an array holds Python objects, or a name cannot be a file name.
        OSError: If the disk is full or read-only; the assets saved before stay valid.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, object]] = {}
    for name, value in sorted(assets.items()):
        if not name or name.startswith(".") or os.sep in name:
            raise ValueError(f"the asset name {name!r} cannot be a file name")
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise ValueError(f"asset {name!r} holds Python objects, only plain arrays are kept")
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getvalue()
        checksum = _sha256(data)
        file = f"{name}-{checksum[:12]}.npy"
        write_atomically(folder / file, data)
        entries[name] = {"file": file, "sha256": checksum}
    manifest = {"arrays": entries, "sha256": json_digest(entries, compact=False)}
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    for stale in set(folder.glob("*.npy")) - {folder / str(e["file"]) for e in entries.values()}:
        stale.unlink()


def exist(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a complete set of arrays was saved.

    Args:
        folder: Folder of the assets.
    """
    return (Path(folder) / MANIFEST).is_file()


def load(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays and verifies every byte.

    Args:
        folder: Folder of the assets.

    Returns:
        Mapping from names to arrays, as given to `save`.

    Raises:
        FileNotFoundError: If the manifest or a file that it names is absent.
        ValueError: If a file was changed since it was saved; the message names it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: no assets were saved in this workdir")
    try:
        manifest = json.loads(path.read_bytes())
        entries = manifest["arrays"]
        intact = manifest["sha256"] == json_digest(entries, compact=False)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ValueError(f"{path} was damaged or edited: its checksum does not match")
    return {name: _load_array(Path(folder) / e["file"], e["sha256"]) for name, e in entries.items()}


def _load_array(path: Path, sha256: str) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, though {MANIFEST} beside it names it")
    data = path.read_bytes()
    if _sha256(data) != sha256:
        raise ValueError(f"{path} was damaged or edited: its SHA-256 differs from {MANIFEST}'s")
    return np.load(io.BytesIO(data), allow_pickle=False)
