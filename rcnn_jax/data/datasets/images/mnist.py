"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017) from their idx files.

An idx file holds a magic number (two zero bytes, the type, the number of axes), the length of each
axis as a big-endian int32, and the values; it may be gzipped.
"""

import functools
import gzip
import zlib
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.files.line_images import bilinear, read_picture
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UBYTE = 0x08
_READ = "and the original idx files are read, such as train-images-idx3-ubyte.gz"


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes, gzipped or not.

    Args:
        path: Path of the file.
        axes: Expected number of axes, 3 for images and 1 for labels.

    Returns:
        A uint8 array of the shape in the file's header.

    Raises:
        ValueError: The magic number is another one, or there are more or fewer values than the
            header says.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a truncated or damaged gzip file: {error}") from error
    magic = bytes([0, 0, _UBYTE, axes])
    if raw[:4] != magic:
        raise ValueError(
            f"{path} starts with {raw[:4].hex() or 'nothing'}, an idx file of {axes}-axis bytes "
            f"starts with {magic.hex()}"
        )
    shape = np.frombuffer(raw, ">i4", count=min(axes, (len(raw) - 4) // 4), offset=4)
    expected = 4 + 4 * axes + int(np.prod(shape, dtype=np.int64))
    if len(shape) < axes or len(raw) != expected:
        raise ValueError(
            f"{path} holds {len(raw):,} bytes, its header {shape.tolist()} needs {expected:,}: it "
            "is truncated or damaged"
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _find(name: str, aliases: tuple[str, ...], homepage: str, root: Path, split: str) -> list[Path]:
    folders = [root / alias for alias in (*aliases, f"{aliases[-1]}/raw")]
    # Both data sets use the same file names: the root itself is used only if it is named like one.
    here = root.resolve()
    if here.name in aliases or (here.name == "raw" and here.parent.name in aliases):
        folders += [root, root / "raw"]
    # torchvision writes a dot where the original has a hyphen; both may be gzipped.
    choices = [
        [file + end for file in (stem, stem.replace("-idx", ".idx")) for end in ("", ".gz")]
        for stem in _FILES[split]
    ]
    others = {
        pattern: f"which is {what}, {_READ}"
        for alias in aliases
        for pattern, what in (
            (f"{alias}.npz", "Keras's copy"),
            (f"{alias}_t*.csv", "a csv table"),
            (f"{alias}.csv", "a csv table"),
            (f"{alias}.pkl*", "a pickle of Python"),
            (f"{alias}/*.parquet", "a Parquet file"),
            (f"{alias}/processed", "torchvision's older copy"),
        )
    }
    return roots.find_files(name, folders, choices, homepage, others)


def _read(spec: DatasetSpec, root: Path, split: str) -> Columns:
    image_path, label_path = spec.files(root, split)
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{image_path} holds images of {images.shape[1:]}, expected (28, 28)")
    if len(images) != len(labels):
        raise ValueError(
            f"{image_path} holds {len(images):,} images, but {label_path} {len(labels):,} labels"
        )
    if len(labels) and labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise ValueError(f"{label_path}: label {row} is {labels[row]}, allowed are 0 to 9")
    return {"image": images[..., None], "label": labels.astype(np.int32)}


def make_spec(
    name: str,
    aliases: tuple[str, ...],
    classes: int | tuple[str, ...],
    homepage: str,
    *,
    splits: dict[str, int],
    description: str = "",
    citation: str = "",
) -> DatasetSpec:
    """Returns the data set of four idx files.

    Args:
        name: Name of the data set.
        aliases: Folders below the data root that may hold the files; the last one is torchvision's.
        classes: Number or names of the classes.
        homepage: Address of the original distribution.
        splits: Number of examples of `train` and `test`.
        description: Short description of the data set.
        citation: Paper to cite.
    """
    spec = DatasetSpec(
        name=name,
        version="1.0.0",
        features={
            "image": Feature((28, 28, 1), "uint8"),
            "label": Feature((), "int32", classes=classes),
        },
        splits=splits,
        files=functools.partial(_find, name, aliases, homepage),
        read=lambda root, split: _read(spec, root, split),
        # Both data sets are bright on black.
        read_file=lambda path: {"image": bilinear(read_picture(path), 28, 28)},
        description=description,
        homepage=homepage,
        citation=citation,
    )
    return spec


MNIST = make_spec(
    "mnist",
    ("mnist", "MNIST"),
    10,
    "https://yann.lecun.com/exdb/mnist/",
    splits={"train": 60_000, "test": 10_000},
    description="70,000 handwritten digits of 28x28 pixels.",
    citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to "
    "document recognition. Proceedings of the IEEE 86(11), 1998.",
)
FASHION_MNIST = make_spec(
    "fashion_mnist",
    ("fashion_mnist", "fashion-mnist", "FashionMNIST"),
    (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
        "ankle_boot",
    ),
    "https://github.com/zalandoresearch/fashion-mnist",
    splits={"train": 60_000, "test": 10_000},
    description="70,000 pictures of clothes, 28x28 pixels.",
    citation="H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST. arXiv:1708.07747, 2017.",
)  # fmt: skip
