"""The handwritten digits that lie in scikit-learn's package.

The file is read as `sklearn.datasets.load_digits` does, but without importing scikit-learn, which
takes a second of every start.
"""

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np

_SHAPE = (1797, 65)


def path() -> Path:
    """Returns the path of the file.

    Raises:
        FileNotFoundError: scikit-learn is not installed, or does not hold the file.
    """
    found = importlib.util.find_spec("sklearn")
    folders = (found.submodule_search_locations or []) if found else []
    files = [Path(folder) / "datasets" / "data" / "digits.csv.gz" for folder in folders]
    for file in files:
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"the digits of scikit-learn were not found ({', '.join(map(str, files)) or 'no package'}):"
        " pip install 'scikit-learn>=1.6,<2'"
    )


@functools.cache
def read() -> tuple[np.ndarray, np.ndarray]:
    """Reads the digits.

    Returns:
        Images `uint8[1797, 8, 8]` with values from 0 to 16, and labels `int32[1797]` from 0 to 9.

    Raises:
        FileNotFoundError: scikit-learn is not installed, or does not hold the file.
        ValueError: The file does not hold 1,797 digits of 64 such values.
    """
    file = path()
    with gzip.open(file, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int32)
    pixels, labels = table[:, :-1], table[:, -1]
    if table.shape != _SHAPE or not ((pixels >= 0) & (pixels <= 16)).all():
        raise ValueError(
            f"{file} holds a table {list(table.shape)} with pixels from {pixels.min()} to "
            f"{pixels.max()}, expected is {list(_SHAPE)} with 0 to 16"
        )
    return pixels.astype(np.uint8).reshape(-1, 8, 8), labels
