"""Names in NumPy arrays of Python objects, as pandas and h5py leave them, without running a pickle.

Such an array is stored as a pickle, which is a program. Here it may only name what an array of
texts, bytes, integers and paths consists of, and each of these names is bound to a function or a
class of this file, so that an untrusted file can fail but not act.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


class _Array:
    """Takes the state of an array that is unpickled: its shape and its elements."""

    shape: Sequence[int] = ()
    elements: Sequence[Any] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, _, _, self.elements = state


class _Dtype:
    """Takes the name and the byte order of a dtype that is unpickled."""

    def __init__(self, name: str) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _number(dtype: _Dtype, data: bytes) -> Any:
    """Returns a NumPy scalar that is a text, bytes or an integer."""
    kind, little = dtype.name[:1], dtype.order != ">"
    if kind == "U":
        return data.decode("utf-32-le" if little else "utf-32-be").rstrip("\0")
    if kind == "S":
        return bytes(data)
    if kind in "iu":
        return int.from_bytes(data, "little" if little else "big", signed=kind == "i")
    raise pickle.UnpicklingError(f"it holds a number of type {dtype.name}")


def _array(kind: Any, shape: Any, code: Any) -> _Array:
    del kind, shape, code
    return _Array()


_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
_PATHS = {
    "PosixPath": PurePosixPath, "PurePosixPath": PurePosixPath, "Path": PurePosixPath,
    "WindowsPath": PureWindowsPath, "PureWindowsPath": PureWindowsPath,
}  # fmt: skip
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "numpy.ndarray",  # a text, which cannot be called
    ("numpy", "dtype"): lambda name, align=False, copy=True: _Dtype(name),
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin1"),
    **{(core, "_reconstruct"): _array for core in _CORES},
    **{(core, "scalar"): _number for core in _CORES},
    **{(module, name): c for module in ("pathlib", "pathlib._local") for name, c in _PATHS.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of an allowed name."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ALLOWED[module, name]


def read(data: bytes) -> list[str] | list[int]:
    """Reads the pickle of a one-axis array whose elements are all names, or all integers.

    Args:
        data: The pickle, as a `.npy` file holds it behind its header.

    Returns:
        The names as texts, bytes decoded as UTF-8 and paths with slashes; or the integers.

    Raises:
        ValueError: If the elements are anything else, or the pickle is damaged.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.files import object_arrays
        >>> object_arrays.read(np.array(["a.png", b"b.png"], object).dumps())
        ['a.png', 'b.png']
    """
    try:
        found = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # A damaged pickle raises whatever its steps run into.
        raise ValueError(f"it is no array of names: {error}") from error
    shape = tuple(found.shape) if isinstance(found, _Array) else ()
    if len([size for size in shape if size != 1]) > 1 or not shape:
        raise ValueError("it is no array of names on one axis")
    elements = list(found.elements)
    if elements and all(type(element) is int for element in elements):
        return elements
    return [_text(place, element) for place, element in enumerate(elements)]


def _text(place: int, element: Any) -> str:
    if isinstance(element, bytes):
        return element.decode()
    if isinstance(element, PurePosixPath | PureWindowsPath):
        return element.as_posix()
    if not isinstance(element, str):
        raise ValueError(f"its element {place} is {element!r}, which is no name")
    return element
