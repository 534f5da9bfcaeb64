"""Files of image features: one vector per picture, computed by a pretrained network.

- `.npz`: `features` `float32[images, size]`; `files`, the names of the pictures; `about`, a JSON
  text that states the network, layer and weights, how pictures were prepared, and what was left
  out.
- `.mat`: Karpathy's `vgg_feats.mat`, a MATLAB 5 file with `feats` `[size, images]`. The column is
  the `imgid` of `dataset.json`, and there are no names.

A file from another source may hold several arrays of features, one of which must be named. The
names of its pictures may stand in any array with a text or an integer for each vector.
"""

import collections
import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from rcnn_jax.data.files import vector_names
from rcnn_jax.errors import shortened

SUFFIXES = (".npz", ".mat")
_NAMES = ("files", "filenames")


@dataclasses.dataclass(frozen=True)
class Features:
    """Feature vectors of pictures.

    Attributes:
        values: Vectors `float32[images, size]`, all finite.
        files: Name of each picture: the array `files` or `filenames`, or the only array of names
            without repetition. None if there is none.
        about: Description of how the vectors were made; empty if the file has none.
        names: All arrays that hold a text for each vector, by name, `files` and `filenames` first.
        numbers: All arrays that hold an integer for each vector, by name.
        unread: Mapping from other arrays that may have been meant as names to a clause that says
            why they are none.
    """

    values: np.ndarray
    files: tuple[str, ...] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    numbers: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    unread: Mapping[str, str] = dataclasses.field(default_factory=dict)


def read(path: Path | str, array: str = "") -> Features:
    """Reads a file of features.

    Names may be texts, bytes in UTF-8, or Python objects that are texts, bytes or paths.

    Args:
        path: Path of a `.npz` or `.mat` file.
        array: Name of the array of the `.npz` that holds the features; `""` for `features`, or for
            the only floating array with two axes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or of another format, the features do not have
            two axes, a number is not finite, or `files` are not distinct names, one per picture.
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


def read_about(path: Path) -> Mapping[str, Any]:
    """Returns the description in a `.npz` file of features without reading the vectors.

    Args:
        path: Path of the file.

    Returns:
        The description; empty if there is no such file or it holds none.
    """
    try:
        if not zipfile.is_zipfile(path):
            return {}
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return _about(file)
    except (OSError, EOFError, TypeError, KeyError, ValueError, zipfile.BadZipFile):
        return {}


def _about(file: Any) -> Mapping[str, Any]:
    about = json.loads(str(file["about"])) if "about" in file.files else {}
    return about if isinstance(about, dict) else {}


def _read_npz(path: Path, array: str) -> Features:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file, or a damaged one")
    # The file is opened here because NumPy leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        headers = {name: vector_names.header(file, name) for name in file.files}
        name = array or ("features" if "features" in headers else "")
        if not name:
            matrices = [
                n for n, (shape, kind) in headers.items() if len(shape) == 2 and kind == "f"
            ]
            if len(matrices) != 1:
                raise ValueError(
                    "which of its arrays holds features must be said, as in array=NAME: it has "
                    f"{shortened(matrices or headers)}"
                )
            name = matrices[0]
        elif name not in headers:
            raise ValueError(f"it has no array {name!r}, only {shortened(headers)}")
        if headers[name][1] == "O":
            raise ValueError(
                f"its array {name!r} holds Python objects; features are numbers, such as those of "
                "np.stack(list(features)).astype('float32')"
            )
        values = _float32(file[name])
        found, unread = {}, {}
        for other in sorted(headers, key=lambda n: n not in _NAMES):
            shape, kind = headers[other]
            if other in (name, "about") or kind not in "USOiu":
                continue
            if not vector_names.one_axis(shape, len(values)):
                if kind in "USO" and (shape or kind == "O"):
                    unread[other] = vector_names.unfit(shape, len(values))
                continue
            try:
                found[other] = vector_names.entries(file, other, kind)
            except ValueError as error:
                unread[other] = f"cannot be read: {error}"
        return _named(values, _about(file), found, unread)


def _named(
    values: np.ndarray,
    about: Mapping[str, Any],
    found: Mapping[str, list[Any]],
    unread: Mapping[str, str],
) -> Features:
    names = {k: tuple(v) for k, v in found.items() if v and isinstance(v[0], str)}
    numbers = {k: tuple(v) for k, v in found.items() if v and isinstance(v[0], int)}
    files = next((names[name] for name in _NAMES if name in names), None)
    distinct = [entries for entries in names.values() if len(set(entries)) == len(entries)]
    if files is None and len(distinct) == 1:
        files = distinct[0]
    return Features(values, files, about, names, numbers, unread)


def _read_mat(path: Path) -> Features:
    import scipy.io

    try:
        variables = [each for each in scipy.io.whosmat(path) if each[0] != "feats"]
        unread = {}
        arrays = scipy.io.loadmat(path, variable_names=["feats"])
        if isinstance(arrays.get("feats"), np.ndarray) and arrays["feats"].ndim == 2:
            count = arrays["feats"].shape[1]
            others = [name for name, shape, _ in variables if vector_names.one_axis(shape, count)]
            for name, shape, kind in variables:
                if kind in ("cell", "char") and name not in others:
                    unread[name] = vector_names.unfit(shape, count)
            if others:
                arrays |= scipy.io.loadmat(path, variable_names=others)
    except NotImplementedError as error:
        raise ValueError(
            "it is a file of MATLAB 7.3, which is HDF5; save it with -v7, or as .npz"
        ) from error
    except Exception as error:  # The parser raises errors of many kinds for a damaged file.
        raise ValueError(f"it cannot be read as a file of MATLAB 5: {error}") from error
    if not isinstance(arrays.get("feats"), np.ndarray):
        raise ValueError("it has no dense array 'feats'")
    values = np.ascontiguousarray(_float32(arrays["feats"]).T)
    found = {}
    for name, entries in arrays.items():
        if name != "feats" and isinstance(entries, np.ndarray):
            cells = vector_names.cells(entries.ravel())
            if len(cells) == len(values):
                found[name] = cells
    return _named(values, {}, found, unread)


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
    for array in _NAMES:
        if array in found.unread:
            raise ValueError(f"{path}: its array {array!r} {found.unread[array]}")
        names = collections.Counter(found.names.get(array, ()))
        if twice := next((name for name, count in names.items() if count > 1), None):
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
