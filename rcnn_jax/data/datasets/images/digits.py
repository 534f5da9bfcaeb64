"""Handwritten digits, 8x8, from scikit-learn's wheel: real data without a download.

The 1,797 images are the test part of the UCI data set "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak 1998): the pixels of 32x32 bitmaps are counted in 4x4 blocks, which gives
values 0 to 16. The writer of an image, one of 13, is not recorded, so the split is stratified by
class rather than by writer.
"""

import json
from pathlib import Path

import numpy as np

from rcnn_jax.data.files import sklearn_digits
from rcnn_jax.data.files.line_images import bilinear, read_picture
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature

_SPLIT_FILE = Path(__file__).with_name("digits_split.json")


def split_indices() -> dict[str, np.ndarray]:
    """Returns the indices of each split into scikit-learn's order.

    Returns:
        A dict from the name of each split to sorted indices, int64, as committed in
        `digits_split.json`.
    """
    text = _SPLIT_FILE.read_text(encoding="utf-8")
    return {name: np.asarray(index, np.int64) for name, index in json.loads(text)["splits"].items()}


def _files(root: Path, split: str) -> list[Path]:
    """Returns files of scikit-learn, which contains the data, so that the data root is not used."""
    del root, split
    return [sklearn_digits.path(), _SPLIT_FILE]


def _read(root: Path, split: str) -> Columns:
    del root
    images, labels = sklearn_digits.read()
    index = split_indices()[split]
    return {
        "image": images[index, :, :, None],
        "label": labels[index],
        "id": index.astype(np.int32),
    }


def _read_file(path: Path) -> dict[str, np.ndarray]:
    """Reads a picture of one digit as the lit share of each 64th of it, 0 to 16."""
    ink = bilinear(read_picture(path), 8, 8)
    return {"image": np.rint(ink / 255 * 16).astype(np.uint8)}


DIGITS = DatasetSpec(
    name="digits",
    version="1.0.0",
    features={
        "image": Feature((8, 8, 1), "uint8"),
        "label": Feature((), "int32", classes=10),
        # The index in scikit-learn's order, which shows that the splits are disjoint.
        "id": Feature((), "int32"),
    },
    splits={"train": 1257, "validation": 180, "test": 360},
    files=_files,
    read=_read,
    read_file=_read_file,
    description="1,797 handwritten digits of 8x8 pixels with values 0 to 16.",
    homepage="https://archive.ics.uci.edu/dataset/80",
    citation="E. Alpaydin and C. Kaynak. Cascading classifiers. Kybernetika 34(4), 1998.",
)
