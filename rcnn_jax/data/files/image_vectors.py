"""Files of image features: one vector a picture, as a pretrained net computed it.

    .npz    `features` float32 `[images, size]`, `files` their names, `about` a JSON text: which
            net, layer and weights, how pictures were prepared, what was left out
    .mat    Karpathy's `vgg_feats.mat`: MATLAB 5, `feats` `[size, images]`; the column is the
            `imgid` of dataset.json, and there are no names

A `.npz` of other people may hold several arrays of features, of which one is named, and call the
names of pictures `filenames`.
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

SUFFIXES = (".npz", ".mat")
_NAMES = ("files", "filenames")


@dataclasses.dataclass(frozen=True)
class Features:
    """Vectors of pictures.

    Attributes:
        values: float32 `[images, size]`, all finite.
        files: the name of each picture; None where the file has only their order.
        about: how they were made, as far as the file says.
    """

    values: np.ndarray
    files: tuple[str, ...] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: Path | str, array: str = "") -> Features:
    """Reads a file of features.

    Args:
        path: of a `.npz` or `.mat` file.
        array: which array of the `.npz` holds them; empty: `features`, or the only one of two axes.

    Returns:
        The features.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or of another kind, features are not `[images, size]`, a number is
            not finite, or names are not one for each picture, each different.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"features are read from .npz and .mat files, got {str(path)!r}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of features {str(path)!r}")
    try:
        found = _read_npz(path, array) if path.suffix == ".npz" else _read_mat(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # The libraries' own errors of damaged files are of many kinds.
    except (OSError, EOFError, TypeError, KeyError, zipfile.BadZipFile, IndexError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    _check(path, found)
    return found


def _read_npz(path: Path, array: str) -> Features:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file, or a damaged one")
    # Opened here: NumPy leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        there = file.files
        name = array or ("features" if "features" in there else "")
        if not name:
            matrices = [n for n in there if file[n].ndim == 2 and file[n].dtype.kind == "f"]
            if len(matrices) != 1:
                raise ValueError(
                    "which of its arrays holds features must be said, as in array=NAME: it has "
                    f"{', '.join(matrices or there)}"
                )
            name = matrices[0]
        elif name not in there:
            raise ValueError(f"it has no array {name!r}, only {', '.join(there)}")
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
        found = scipy.io.loadmat(path, variable_names=["feats"])
    except NotImplementedError as error:
        raise ValueError(
            "it is a file of MATLAB 7.3, which is HDF5; save it with -v7, or as .npz"
        ) from error
    except Exception as error:  # a damaged file makes the parser stumble anywhere
        raise ValueError(f"it cannot be read as a file of MATLAB 5: {error}") from error
    if not isinstance(found.get("feats"), np.ndarray):
        raise ValueError("it has no dense array 'feats'")
    return Features(np.ascontiguousarray(_float32(found["feats"]).T))


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
    """Writes a file of features; a reader sees the whole of it or what was there before.

    Args:
        path: of a `.npz` or `.mat` file; the latter keeps neither names nor `about`.
        blocks: float32 `[some images, size]`, in order; a `.npz` holds one in memory at a time.
        shape: `(images, size)`.
        files: the name of each picture.
        about: how they were made, of what JSON can hold.

    Raises:
        OSError: it cannot be written.
        ValueError: the blocks are not of that shape, or the name ends otherwise.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"features are written to .npz and .mat files, got {str(path)!r}")
    with _replacing(path) as file:
        if path.suffix == ".mat":
            import scipy.io

            values = np.concatenate(list(_checked(blocks, shape)))
            # Compressed: that has a checksum, as plain arrays in this format have not.
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
    """A file that takes the place of `path` when all has been written."""
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
