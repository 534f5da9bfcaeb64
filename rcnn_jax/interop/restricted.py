"""Restricted reading of pickles of plain values and NumPy arrays, without running other code.

A pickle is a program, which names functions and calls them. Here it may only name what builds
containers and arrays, and each of these names is bound to a function of this file or a container,
so that an untrusted file can fail but not act.
"""

import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

# Replaces the array class where a pickle passes it on: a string, which cannot be called.
_NDARRAY = "numpy.ndarray"


def _empty_array(kind: str, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Returns the array of no elements that a pickle fills afterwards."""
    if kind != _NDARRAY or tuple(shape) != (0,):
        raise pickle.UnpicklingError(f"it makes a {kind!r} of shape {shape}")
    del code
    return np.empty(0, np.uint8)


def _array_of(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Returns an array from its bytes, as newer pickles hold them."""
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _number(dtype: np.dtype, data: Any) -> Any:
    """Returns a NumPy scalar from its bytes."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype, count=1)[0]


def _number_type(name: str, align: Any = False, copy: Any = True) -> np.dtype:
    """Returns the dtype of an array, always a copy, because the pickle sets its state."""
    del copy
    return np.dtype(name, align=bool(align), copy=True)


def _bytes_of(text: str, encoding: str) -> bytes:
    """Returns bytes that are stored as a text of one character each."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes by {encoding!r}")
    return text.encode("latin1")


_CORES = ("numpy.core", "numpy._core")
_BUILTINS = {"set": set, "frozenset": frozenset, "complex": complex, "bytearray": bytearray}
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _bytes_of,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _number_type,
    **{(f"{core}.multiarray", "_reconstruct"): _empty_array for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _number for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _array_of for core in _CORES},
    **{(module, n): c for module in ("builtins", "__builtin__") for n, c in _BUILTINS.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of an allowed name."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only containers, numbers, texts and NumPy arrays "
                "are read"
            )
        return _ALLOWED[module, name]


def loads(data: bytes, origin: str, *, encoding: str = "latin1") -> Any:
    """Reads a pickle of containers, numbers, texts and NumPy arrays.

    Args:
        data: Content of the pickle, of any protocol.
        origin: Name of the pickle in error messages.
        encoding: Encoding of Python 2 strings; `latin1` keeps their bytes unchanged.

    Returns:
        The unpickled value.

    Raises:
        ValueError: The pickle names anything else, or is damaged.

    Example:
        >>> import pickle
        >>> from rcnn_jax.interop import restricted
        >>> restricted.loads(pickle.dumps({"labels": [1, 2]}), "labels.pkl")
        {'labels': [1, 2]}
    """
    try:
        return _Unpickler(io.BytesIO(data), encoding=encoding).load()
    except Exception as error:  # a damaged pickle raises whatever its steps run into
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{origin} cannot be read as a pickle of arrays: {text}") from error


def load(path: Path, *, encoding: str = "latin1") -> Any:
    """Reads a pickle of containers, numbers, texts and NumPy arrays from a file.

    Args:
        path: Path of the file.
        encoding: Encoding of Python 2 strings; `latin1` keeps their bytes unchanged.

    Returns:
        The unpickled value.

    Raises:
        OSError: The file cannot be read.
        ValueError: The pickle names anything else, or is damaged.
    """
    return loads(path.read_bytes(), str(path), encoding=encoding)
