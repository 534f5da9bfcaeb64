"""Arrays of names and numbers of pictures beside the features in `.npz` and `.mat` files."""

from typing import IO, Any

import numpy as np

from rcnn_jax.data.files import object_arrays


def header(file: Any, name: str) -> tuple[tuple[int, ...], str]:
    """Returns the shape of an array in a `.npz` and the letter of the kind of its dtype.

    Args:
        file: The opened `.npz`.
        name: Name of the array.

    Returns:
        The shape, and a letter such as `"U"` of texts; `((), "")` for a member that is no array.
    """
    with _opened(file, name) as opened:
        try:
            version = np.lib.format.read_magic(opened)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(opened)
        except ValueError:  # A file of another kind may lie in the archive.
            return (), ""
        return shape, dtype.kind


def _opened(file: Any, name: str) -> IO[bytes]:
    """Opens the file in a `.npz` that holds an array."""
    return file.zip.open(name if name in file.zip.namelist() else f"{name}.npy")


def entries(file: Any, name: str, kind: str) -> list[str] | list[int]:
    """Returns a one-axis array of a `.npz` as texts or integers.

    Args:
        file: The opened `.npz`.
        name: Name of the array.
        kind: Letter of the kind of its dtype, one of `"USOiu"`.

    Raises:
        ValueError: If bytes are no UTF-8, or objects are no names.
    """
    if kind == "O":
        with _opened(file, name) as opened:
            # The header was read before, and leads to the pickle.
            version = np.lib.format.read_magic(opened)
            size = int.from_bytes(opened.read(2 if version == (1, 0) else 4), "little")
            opened.read(size)
            return object_arrays.read(opened.read())
    return _decoded(file[name].ravel().tolist())


def _decoded(entries: list[Any]) -> list[Any]:
    """Decodes names that are bytes."""
    if not entries or not isinstance(entries[0], bytes):
        return entries
    try:
        return [entry.decode() for entry in entries]
    except UnicodeDecodeError as error:
        raise ValueError(f"the name {error.object!r} is no UTF-8") from None


def unfit(shape: tuple[int, ...], count: int) -> str:
    """Returns why an array of texts or objects does not hold the names of pictures.

    Args:
        shape: Shape of the array.
        count: Number of vectors.
    """
    if len(shape) == 1:
        return f"has {shape[0]} names for {count} vectors"
    return f"has the shape {list(shape)}, not a name for each of {count} vectors"


def one_axis(shape: tuple[int, ...], count: int) -> bool:
    """Returns whether an array has an element for each vector, on one axis.

    Args:
        shape: Shape of the array, of which further axes are 1.
        count: Number of vectors.
    """
    return max(shape, default=0) == count and sum(size != 1 for size in shape) <= 1


def cells(entries: np.ndarray) -> list[Any]:
    """Returns texts or whole numbers of MATLAB.

    Args:
        entries: Array on one axis.

    Returns:
        The elements without the blanks behind texts; empty if they are anything else.
    """
    if entries.dtype.kind == "O":
        elements = [cell.item() if getattr(cell, "size", 0) == 1 else None for cell in entries]
        texts = [element.rstrip() for element in elements if isinstance(element, str)]
        return texts if len(texts) == len(elements) else []
    if entries.dtype.kind == "U":
        return [entry.rstrip() for entry in entries.tolist()]
    # MATLAB's numbers are floating unless somebody says otherwise.
    if (
        entries.dtype.kind in "iuf"
        and (np.isfinite(entries) & (entries == np.floor(entries))).all()
    ):
        return [int(entry) for entry in entries.tolist()]
    return []
