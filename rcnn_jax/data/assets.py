"""What was fitted on the training split, kept with checksums in the workdir.

Evaluation and prediction read the pixel mean or the whitening matrix here and never need the
training data. The folder holds one .npy file an array and a `manifest.json`. A file's name carries
the start of its checksum, so a new set of arrays never overwrites an old one: replacing the
manifest is the only step that counts, and it is atomic.
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
    """Writes the arrays and then the manifest that makes them count.

    Args:
        folder: usually `<workdir>/assets`; made if absent.
        assets: name to array; names are file names without a dot in front or a slash.

    Raises:
        ValueError: if an array holds Python objects, or a name cannot be a file name.
        OSError: if the disk is full or read-only; what was saved before stays valid.
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
    """Whether a set of arrays was saved in full."""
    return (Path(folder) / MANIFEST).is_file()


def load(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays and verifies every byte.

    Raises:
        FileNotFoundError: if the manifest or a file it names is absent.
        ValueError: if a file was changed since it was saved; the sentence names it.
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
