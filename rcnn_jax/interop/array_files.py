"""Reads the arrays in .npz and .safetensors files by name, without running any code."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rcnn_jax.errors import UserError

# Its package has no dtype of NumPy for them.
_FLOAT8 = {"F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2}


def npz(path: Path) -> dict[str, np.ndarray]:
    """Reads an .npz file without pickles.

    Args:
        path: Path of the file.

    Returns:
        Arrays by name; bfloat16, whose name NumPy does not keep, becomes float32.

    Raises:
        ValueError: The file is damaged or holds something else than arrays.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .npz file")
    arrays = {}
    # Opened here: NumPy leaves a damaged file open.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        for name in file.files:
            try:
                array = file[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                raise ValueError(
                    f"{name!r} holds Python objects, which are not read: save each array by its "
                    "name, by numpy.savez('weights.npz', **arrays)"
                ) from error
            if not isinstance(array, np.ndarray):
                raise ValueError(f"its member {name!r} is no array")
            arrays[name] = _numbers(name, array)
    return arrays


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array of .npz as numbers; NumPy forgets the name of bfloat16."""
    if array.dtype.kind != "V":
        return array
    if array.dtype != np.dtype("V2"):
        raise ValueError(f"{name!r} is no array of numbers but of {array.dtype}")
    return array.view(jnp.bfloat16).astype(np.float32)


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a .safetensors file.

    Args:
        path: Path of the file.

    Returns:
        Arrays by name; bfloat16 and float8 become float32.

    Raises:
        UserError: The package safetensors is not installed.
        ValueError: The file holds numbers of a format that is not read.
    """
    try:
        from safetensors import safe_open  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"reading {str(path)!r} needs a package: pip install 'rcnn-jax[weights]'."
        ) from error
    arrays = {}
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118
            dtype = file.get_slice(name).get_dtype()
            if dtype in _FLOAT8:
                arrays[name] = _float8(path, name, _FLOAT8[dtype])
            elif re.fullmatch(r"BOOL|BF16|F(16|32|64)|[IU](8|16|32|64)", dtype):
                arrays[name] = _plain(file.get_tensor(name))
            else:
                raise ValueError(f"{name!r} is an array of {dtype}, which is not read")
    return arrays


def _float8(path: Path, name: str, dtype: Any) -> np.ndarray:
    """Reads an array of a .safetensors file whose package has no such dtype for NumPy."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start = file.tell()
        begin, end = header[name]["data_offsets"]
        file.seek(start + begin)
        content = file.read(end - begin)
    return np.frombuffer(content, dtype).reshape(header[name]["shape"]).astype(np.float32)


def _plain(array: np.ndarray) -> np.ndarray:
    """Returns an array that NumPy can compute with: bfloat16 becomes float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
