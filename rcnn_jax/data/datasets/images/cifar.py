"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their original binary files or archives.

A record is one or two label bytes and 3,072 pixel bytes: the red, green and blue plane of a 32x32
image, row by row (https://www.cs.toronto.edu/~kriz/cifar.html, "binary version"). The examples keep
the order of the files, so `train[40000:]` of CIFAR-10 is `data_batch_5.bin`.
"""

import dataclasses
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature

_PIXELS = 32 * 32 * 3
_HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CITATION = "A. Krizhevsky. Learning multiple layers of features from tiny images. 2009."

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
COARSE_CLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
FINE_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BinaryLayout:
    """Files and record format of one of the two data sets.

    Attributes:
        name: Name of the data set, and of its folder below the data root.
        folder: Folder that the archive unpacks to.
        archive: File name of the original archive.
        files: File names of each split, in order.
        records: Number of records in each file of a split.
        labels: `Feature` of each label byte by name, in the order of the bytes.
        others: Names of the data set in other forms, and what they are; see `roots.find_files`.
    """

    name: str
    folder: str
    archive: str
    files: Mapping[str, tuple[str, ...]]
    records: Mapping[str, int]
    labels: Mapping[str, Feature]
    others: Mapping[str, str]

    def find(self, root: Path, split: str) -> list[Path]:
        """Returns the binary files of a split in order, or the one archive.

        Args:
            root: Data root.
            split: Name of the split.

        Raises:
            FileNotFoundError: Neither the files nor the archive exist.
        """
        folders = [root / self.name / self.folder, root / self.folder, root / self.name, root]
        choices = [[name] for name in self.files[split]]
        try:
            return roots.find_files(self.name, folders, choices, _HOMEPAGE, self.others)
        except FileNotFoundError as missing:
            for folder in (root / self.name, root):
                if (folder / self.archive).is_file():
                    return [folder / self.archive]
            raise FileNotFoundError(f"{missing} (the archive {self.archive} will do)") from None

    def read(self, root: Path, split: str) -> Columns:
        """Reads all records of a split.

        Args:
            root: Data root.
            split: Name of the split.

        Returns:
            `image` `uint8[examples, 32, 32, 3]` and the labels, `int32[examples]` each.

        Raises:
            ValueError: A file has another length than the original, or a label is out of range.
        """
        paths = self.find(root, split)
        if paths[0].name == self.archive:
            blocks = _read_archive(paths[0], self.folder, self.files[split])
        else:
            blocks = {str(path): path.read_bytes() for path in paths}
        parts = [self._decode(raw, where, self.records[split]) for where, raw in blocks.items()]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _decode(self, raw: bytes, where: str, records: int) -> dict[str, np.ndarray]:
        """Splits the bytes of one file into labels and images."""
        record = len(self.labels) + _PIXELS
        if len(raw) != records * record:
            raise ValueError(
                f"{where} has {len(raw):,} bytes, {self.name} needs {records * record:,} "
                f"({records:,} records of {record:,} bytes): it is truncated or another file"
            )
        table = np.frombuffer(raw, np.uint8).reshape(records, record)
        columns = {}
        for byte, (name, feature) in enumerate(self.labels.items()):
            values, classes = table[:, byte], feature.num_classes or 256
            if values.max() >= classes:
                row = int(np.argmax(values >= classes))
                raise ValueError(
                    f"{where}: record {row} has {name} {values[row]}, allowed are 0 to "
                    f"{classes - 1}"
                )
            columns[name] = values.astype(np.int32)
        planes = table[:, len(self.labels) :].reshape(records, 3, 32, 32)
        return {"image": np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), **columns}

    def spec(self, description: str) -> DatasetSpec:
        """Returns the data set with this layout.

        Args:
            description: Short description of the data set.
        """
        return DatasetSpec(
            name=self.name,
            version="1.0.0",
            features={"image": Feature((32, 32, 3), "uint8"), **self.labels},
            splits={split: self.records[split] * len(self.files[split]) for split in self.files},
            files=self.find,
            read=self.read,
            description=description,
            homepage=_HOMEPAGE,
            citation=_CITATION,
        )


def _read_archive(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Reads members of a .tar.gz in one pass, without unpacking it, in the order of `names`."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = member.name.removeprefix("./").removeprefix(f"{folder}/")
                stream = archive.extractfile(member) if name in names else None
                if stream is not None:
                    contents[name] = stream.read()
                if len(contents) == len(names):
                    break
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or no .tar.gz archive: {error}") from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise ValueError(f"{path} holds no {folder}/{missing[0]}, as {_HOMEPAGE}'s archive does")
    return {f"{path}:{name}": contents[name] for name in names}


def _others(patterns: Mapping[str, str], archive: str) -> dict[str, str]:
    read = f"and the binary version is read, {archive}"
    return {pattern: f"which is {what}, {read}" for pattern, what in patterns.items()}


CIFAR10_LAYOUT = BinaryLayout(
    name="cifar10",
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    files={
        "train": tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)),
        "test": ("test_batch.bin",),
    },
    records={"train": 10_000, "test": 10_000},
    labels={"label": Feature((), "int32", classes=CIFAR10_CLASSES)},
    others=_others(
        {
            "cifar-10-batches-py*": "the python version",
            "cifar-10-python*": "the python version",
            "cifar-10-batches-mat": "the MATLAB version",
            "cifar-10-matlab*": "the MATLAB version",
            "plain_text/*.parquet": "a Parquet file",
        },
        "cifar-10-binary.tar.gz",
    ),
)
CIFAR100_LAYOUT = BinaryLayout(
    name="cifar100",
    folder="cifar-100-binary",
    archive="cifar-100-binary.tar.gz",
    files={"train": ("train.bin",), "test": ("test.bin",)},
    records={"train": 50_000, "test": 10_000},
    # The coarse label is the first byte; `label` is the fine one, which papers report.
    labels={
        "coarse_label": Feature((), "int32", classes=COARSE_CLASSES),
        "label": Feature((), "int32", classes=FINE_CLASSES),
    },
    others=_others(
        {
            "cifar-100-python*": "the python version",
            "cifar-100-matlab*": "the MATLAB version",
            "cifar100/*.parquet": "a Parquet file",
        },
        "cifar-100-binary.tar.gz",
    ),
)

CIFAR10 = CIFAR10_LAYOUT.spec("60,000 colour photographs of 32x32 pixels in 10 classes.")
CIFAR100 = CIFAR100_LAYOUT.spec("60,000 colour photographs of 32x32 pixels in 100 classes.")
