"""Files of image features: one vector per picture, computed by a pretrained network.

- `.npz`: `features` `float32[images, size]`; `files`, the names of the pictures; `about`, a JSON
  text that states the network, layer and weights, how pictures were prepared, and what was left
  out.
- `.mat`: Karpathy's `vgg_feats.mat`, a MATLAB 5 file with `feats` `[size, images]`. The column is
  the `imgid` of `dataset.json`, and there are no names.

A `.npz` from another source may hold several arrays of features, one of which must be named, and
may call the names of pictures `filenames`.
"""

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from rcnn_jax.errors import shortened

SUFFIXES = (".npz", ".mat")
_NAMES = ("files", "filenames")


@dataclasses.dataclass(frozen=True)
class Features:
    """Feature vectors of pictures.

    Attributes:
        values: Vectors `float32[images, size]`, all finite.
        files: Name of each picture; None if the file has only their order.
        about: Description of how the vectors were made; empty if the file has none.
    """

    values: np.ndarray
    files: tuple[str, ...] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: Path | str, array: str = "") -> Features:
    """Reads a file of features.

    Args:
        path: Path of a `.npz` or `.mat` file.
        array: Name of the array of the `.npz` that holds the features; `""` for `features`, or for
            the only floating array with two axes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or of another format, the features do not have
            two axes, a number is not finite, or the names are not distinct and one per picture.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"features are read from .npz and .mat files, got {str(path)!r}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of features {str(path)!r}")
    try:
        features = _read_npz(path, array) if path.suffix == ".npz" else _read_mat(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # The libraries raise errors of many kinds for damaged files.
    except (OSError, EOFError, TypeError, KeyError, zipfile.BadZipFile, IndexError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    _check(path, features)
    return features


def _read_npz(path: Path, array: str) -> Features:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file, or a damaged one")
    # The file is opened here because NumPy leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        there = file.files
        name = array or ("features" if "features" in there else "")
        if not name:
            matrices = [n for n in there if file[n].ndim == 2 and file[n].dtype.kind == "f"]
            if len(matrices) != 1:
                raise ValueError(
                    "which of its arrays holds features must be said, as in array=NAME: it has "
                    f"{shortened(matrices or there)}"
                )
            name = matrices[0]
        elif name not in there:
            raise ValueError(f"it has no array {name!r}, only {shortened(there)}")
        names = next((n for n in _NAMES if n in there), None)
        about = json.loads(str(file["about"])) if "about" in there else {}
        return Features(
            values=_float32(file[name]),
            files=None if names is None else tuple(map(str, file[names].tolist())),
            about=about if isinstance(about, dict) else {},
        )


def _read_mat(path: Path) -> Features:
    import scipy.io

    try:
        arrays = scipy.io.loadmat(path, variable_names=["feats"])
    except NotImplementedError as error:
        raise ValueError(
            "it is a file of MATLAB 7.3, which is HDF5; save it with -v7, or as .npz"
        ) from error
    except Exception as error:  # The parser raises errors of many kinds for a damaged file.
        raise ValueError(f"it cannot be read as a file of MATLAB 5: {error}") from error
    if not isinstance(arrays.get("feats"), np.ndarray):
        raise ValueError("it has no dense array 'feats'")
    return Features(np.ascontiguousarray(_float32(arrays["feats"]).T))


def _float32(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" or array.ndim != 2:
        raise ValueError(
            f"features are floating numbers on two axes, images and size, got {array.dtype} "
            f"{list(array.shape)}"
        )
    return np.asarray(array, np.float32)


def _check(path: Path, found: Features) -> None:
    if 0 in found.values.shape:
        raise ValueError(f"{path} holds no features, its array is {list(found.values.shape)}")
    broken = np.flatnonzero(~np.isfinite(found.values).all(axis=1))
    if len(broken):
        row = int(broken[0])
        which = f"of image {row}" + ("" if found.files is None else f" ({found.files[row]})")
        raise ValueError(
            f"{path}: {len(broken)} of {len(found.values)} vectors are not finite, the first is "
            f"that {which}"
        )
    if found.files is not None:
        if len(found.files) != len(found.values):
            raise ValueError(f"{path} has {len(found.files)} names for {len(found.values)} vectors")
        if len(set(found.files)) != len(found.files):
            twice = next(name for name in found.files if found.files.count(name) > 1)
            raise ValueError(f"{path} has several vectors for {twice!r}")


def write(
    path: Path,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int],
    files: Sequence[str],
    about: Mapping[str, Any],
) -> None:
    """Writes a file of features atomically: readers see the complete new file or the previous one.

    Args:
        path: Path of a `.npz` or `.mat` file; a `.mat` file stores neither `files` nor `about`.
        blocks: Consecutive blocks `float32[some images, size]`; for a `.npz`, one block at a time
            is held in memory.
        shape: Total shape `(images, size)`.
        files: Name of each picture.
        about: Description of how the features were made, as JSON-compatible values.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the blocks do not have that shape, or the suffix is another one.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"features are written to .npz and .mat files, got {str(path)!r}")
    with _replacing(path) as file:
        if path.suffix == ".mat":
            import scipy.io

            values = np.concatenate(list(_checked(blocks, shape)))
            # Compressed arrays have a checksum in this format, uncompressed ones have none.
            scipy.io.savemat(file, {"feats": values.T}, format="5", do_compression=True)
            return
        with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
            with archive.open("features.npy", "w", force_zip64=True) as member:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                for block in _checked(blocks, shape):
                    member.write(np.ascontiguousarray(block, "<f4").tobytes())
            for name, value in (("files", list(files)), ("about", json.dumps(about))):
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(
                        member, np.asarray(value, np.str_), allow_pickle=False
                    )


def _checked(blocks: Iterable[np.ndarray], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    rows = 0
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != shape[1]:
            raise ValueError(f"a block of features is {list(block.shape)}, rows have {shape[1]}")
        rows += len(block)
        yield block
    if rows != shape[0]:
        raise ValueError(f"there are {rows} vectors for {shape[0]} images")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yields a file that replaces `path` once it is written completely."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
