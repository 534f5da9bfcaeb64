"""Street View House Numbers (Netzer et al. 2011), cropped digits from the three .mat files.

Besides the splits of the files there are two that papers use since Sermanet et al. (2012),
Liang and Hu (2015) among them: `validation`, 400 examples of each class from the training file and
200 from the extra file, and `remainder`, all other examples of both files. The choice of examples
in these papers is unknown; here it follows from `VALIDATION_SEED`.
"""

import zlib
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature

VALIDATION_SEED = 0
_FILES = {
    "train": "train_32x32.mat",
    "test": "test_32x32.mat",
    "extra": "extra_32x32.mat",
}
_HELD_OUT = {"train": 400, "extra": 200}
_HOMEPAGE = "http://ufldl.stanford.edu/housenumbers/"
_FORMAT_1 = "which is format 1, whole photographs, and format 2 is read, such as train_32x32.mat"
_OTHERS: dict[str, str] = dict.fromkeys(
    ("train.tar.gz", "test.tar.gz", "*/digitStruct.mat"), _FORMAT_1
)


def _find(root: Path, split: str) -> list[Path]:
    # The extra file has 1.3 GB and is needed by some splits only.
    names = [split] if split in _FILES else list(_HELD_OUT)
    folders = [root / "svhn", root / "SVHN", root]
    choices = [[_FILES[name]] for name in names]
    # Files of so common names mean this data set only where the folder is named like it.
    named = any(folder.is_dir() for folder in folders[:2]) or root.resolve().name.lower() == "svhn"
    return roots.find_files("svhn", folders, choices, _HOMEPAGE, _OTHERS if named else None)


def read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file.

    Args:
        path: Path of the .mat file.

    Returns:
        Images `uint8[examples, 32, 32, 3]` and labels `int32[examples]`, the digits 0 to 9; the
        file stores the digit 0 as 10.

    Raises:
        ValueError: The file is damaged or of another kind, or a label is out of range.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with path.open("rb") as file:
        is_hdf5 = file.read(10) == b"MATLAB 7.3"
    if is_hdf5:
        raise ValueError(
            f"{path} is a file of MATLAB 7.3, which is HDF5: save it in MATLAB by "
            f"save('{path.name}', 'X', 'y', '-v7')"
        )
    try:
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1)
    except (
        MatReadError, ValueError, TypeError, KeyError, OSError, EOFError, IndexError,
        NotImplementedError, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} is truncated or no MATLAB 5 file with X and y ({type(error).__name__}: "
            f"{error})"
        ) from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise ValueError(
            f"{path} has X {images.dtype}{list(images.shape)} with {len(labels)} labels, expected "
            f"uint8[32, 32, 3, {len(labels)}]"
        )
    # Written so that NaN and fractions are wrong, too: MATLAB stores numbers as floating-point.
    wrong = ~((labels >= 1) & (labels <= 10) & (labels == np.rint(labels)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{path}: label {row} is {labels[row]}, allowed are 1 to 10")
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), (labels % 10).astype(np.int32)


def held_out(labels: np.ndarray, per_class: int, seed: int = VALIDATION_SEED) -> np.ndarray:
    """Marks the examples of one file that are held out for validation.

    The examples of class c, in the order of the file, are reordered by the stable argsort of
    `Philox(key=[seed, c]).random_raw`, and the first `per_class` of them are held out.

    Args:
        labels: Labels of the file, `[examples]`.
        per_class: Number of held out examples of each class.
        seed: Seed of the selection.

    Returns:
        `bool[examples]`, true for the examples of the validation split.

    Raises:
        ValueError: A class has too few examples.
    """
    chosen = np.zeros(len(labels), bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        if len(members) < per_class:
            raise ValueError(
                f"svhn: digit {digit} has {len(members)} examples, {per_class} are held out"
            )
        raw = np.random.Philox(key=np.array([seed, digit], np.uint64)).random_raw(len(members))
        chosen[members[np.argsort(raw, kind="stable")[:per_class]]] = True
    return chosen


def _read(root: Path, split: str) -> Columns:
    paths = _find(root, split)
    if split in _FILES:
        images, labels = read_mat(paths[0])
        return {"image": images, "label": labels}
    parts = []
    for path, per_class in zip(paths, _HELD_OUT.values(), strict=True):
        images, labels = read_mat(path)
        validation = held_out(labels, per_class)
        rows = validation if split == "validation" else ~validation
        parts.append((images[rows], labels[rows]))
    images, labels = zip(*parts, strict=True)
    return {"image": np.concatenate(images), "label": np.concatenate(labels)}


SVHN = DatasetSpec(
    name="svhn",
    version="1.0.0",
    features={
        "image": Feature((32, 32, 3), "uint8"),
        "label": Feature((), "int32", classes=10),
    },
    splits={
        "train": 73_257,
        "test": 26_032,
        "extra": 531_131,
        "validation": 6_000,
        "remainder": 598_388,
    },
    files=_find,
    read=_read,
    description="630,420 digits cut out of photographs of house numbers, 32x32 pixels.",
    homepage=_HOMEPAGE,
    citation="Y. Netzer et al. Reading digits in natural images with unsupervised feature "
    "learning. NIPS workshop, 2011.",
)
