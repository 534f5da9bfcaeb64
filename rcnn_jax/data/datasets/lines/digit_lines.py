"""Lines of real handwritten digits, composed from data sets of single digits.

`digit_lines` needs no files: its digits are those of scikit-learn, of which the last 360 of 1,797
are used in the test lines and in no others. `mnist_lines` has MNIST's test digits in its test lines
only. The digits of a line, the gaps between them and their heights are random functions of
(seed, split, index).
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.images import mnist
from rcnn_jax.data.files import sklearn_digits
from rcnn_jax.data.files.line_images import read_picture
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.text.sentences import TEXT

SHORTEST, LONGEST = 3, 8
SKLEARN_PARTS = {"train": (0, 1257), "validation": (1257, 1437), "test": (1437, 1797)}
"""Ranges of scikit-learn's digits, in its order, that the lines of each split are composed of."""
MNIST_PARTS = {"train": (0, 55_000), "validation": (55_000, 60_000), "test": (0, 10_000)}
"""Ranges of MNIST's digits that the lines of each split are composed of.

They are those of its training file, and for `test` those of its test file.
"""

# (data root, split) -> images uint8 [digits, size, size], labels int [digits].
Digits = Callable[[Path, str], tuple[np.ndarray, np.ndarray]]


def line(
    draws: Draws, images: np.ndarray, labels: np.ndarray, height: int, gaps: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """Composes one line.

    Args:
        draws: Random numbers of the example.
        images: Digits to choose from, `uint8[digits, tall, wide]`, bright on 0.
        labels: Value of each digit, `[digits]`.
        height: Height of the line in pixels; each digit has a random vertical position in it.
        gaps: Least and greatest number of columns between neighbours, which overlap if it is
            negative.

    Returns:
        The picture `uint8[height, width, 1]`, and its text of 3 to 8 digits.
    """
    tall, wide = images.shape[1:]
    count = SHORTEST + draws.below(LONGEST - SHORTEST + 1)
    rows = draws.integers(count, len(images))
    spaces = gaps[0] + draws.integers(count + 1, gaps[1] - gaps[0] + 1)
    tops = draws.integers(count, height - tall + 1)
    spaces[[0, -1]] = np.maximum(spaces[[0, -1]], 0)
    starts = np.cumsum(spaces[:-1]) + wide * np.arange(count)
    picture = np.zeros((height, int(starts[-1]) + wide + int(spaces[-1])), np.uint8)
    for row, left, top in zip(rows, starts, tops, strict=True):
        window = picture[top : top + tall, left : left + wide]
        np.maximum(window, images[row], out=window)
    return picture[..., None], "".join(str(label) for label in labels[rows])


def lines_of(
    name: str,
    digits: Digits,
    *,
    height: int,
    gaps: tuple[int, int],
    splits: Mapping[str, int],
    files: Callable[[Path, str], list[Path]],
    seed: int = 0,
    description: str = "",
    homepage: str = "",
    citation: str = "",
) -> DatasetSpec:
    """Returns a data set of lines of digits with the features `image` and `text`.

    Args:
        name: Name of the data set.
        digits: Function of (data root, split) that returns the images and labels of the digits.
        height: Height of the lines in pixels.
        gaps: Least and greatest number of columns between neighbours.
        splits: Number of lines of `train`, `validation` and `test`.
        files: Function of (data root, split) that returns the original files; see `DatasetSpec`.
        seed: Seed that determines each line together with its split and index.
        description: Short description of the data set.
        homepage: Address of the original distribution.
        citation: Paper to cite.
    """

    def read(root: Path, split: str) -> Columns:
        images, labels = digits(root, split)
        stream = ("train", "validation", "test").index(split)
        pairs = [
            line(Draws(seed, stream, index), images, labels, height, gaps)
            for index in range(splits[split])
        ]
        return {
            "image": [image for image, _ in pairs],
            "text": [np.frombuffer(text.encode(), np.uint8) for _, text in pairs],
        }

    return DatasetSpec(
        name=name,
        version="1.0.0",
        features={"image": Feature((height, None, 1), "uint8"), "text": TEXT},
        splits=splits,
        files=files,
        read=read,
        description=description,
        homepage=homepage,
        citation=citation,
        read_file=lambda path: {"image": read_picture(path)},
    )


def digits_of_sklearn(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the digits of scikit-learn that the lines of a split are composed of.

    Args:
        root: Not used.
        split: `train`, `validation` or `test`.

    Returns:
        Images `uint8[digits, 8, 8]` in 0..255 and labels `[digits]`.
    """
    del root
    images, labels = sklearn_digits.read()
    part = slice(*SKLEARN_PARTS[split])
    # Rescales values from 0..16 to 0..255, the range of all lines.
    return np.rint(images[part] * (255 / 16)).astype(np.uint8), labels[part]


def _sklearn_files(root: Path, split: str) -> list[Path]:
    """Returns scikit-learn's file of digits, and this file, which composes the lines."""
    del root, split
    return [sklearn_digits.path(), Path(__file__)]


def _mnist_name(split: str) -> str:
    return "test" if split == "test" else "train"


def mnist_digits(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the digits of MNIST that the lines of a split are composed of.

    Args:
        root: Data root.
        split: `train`, `validation` or `test`.

    Returns:
        Images `uint8[digits, 28, 28]` and labels `[digits]`.
    """
    columns = mnist.MNIST.columns(root, _mnist_name(split))
    part = slice(*MNIST_PARTS[split])
    return np.asarray(columns["image"])[part, ..., 0], np.asarray(columns["label"])[part]


DIGIT_LINES = lines_of(
    "digit_lines",
    digits_of_sklearn,
    height=12,
    gaps=(0, 4),
    splits={"train": 8_000, "validation": 500, "test": 2_000},
    files=_sklearn_files,
    description="Lines of 3 to 8 handwritten digits, put together from those of scikit-learn.",
    homepage="https://archive.ics.uci.edu/dataset/80",
    citation="E. Alpaydin and C. Kaynak. Cascading classifiers. Kybernetika 34(4), 1998.",
)
MNIST_LINES = lines_of(
    "mnist_lines",
    mnist_digits,
    height=32,
    gaps=(-6, 6),
    splits={"train": 10_000, "validation": 500, "test": 2_000},
    files=lambda root, split: [*mnist.MNIST.files(root, _mnist_name(split)), Path(__file__)],
    description="Lines of 3 to 8 handwritten digits, put together from those of MNIST.",
    homepage=mnist.MNIST.homepage,
    citation=mnist.MNIST.citation,
)
