"""A small published data set in two record files, and ways to damage it."""

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from rcnn_jax.data import catalog
from rcnn_jax.data.records import builder as tfds_builder
from rcnn_jax.data.spec import DatasetSpec, Feature

SIZE = 12  # in two files of six


def columns_of(size):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(1, 256, (size, 4, 4, 1)).astype(np.uint8),
        "label": (np.arange(size) % 4).astype(np.int32),
    }


SPEC = DatasetSpec(
    name="toy",
    version="1.0.0",
    features={"image": Feature((4, 4, 1), "uint8"), "label": Feature((), "int32", 4)},
    splits={"train": SIZE},
    files=lambda root, split: [],
    read=lambda root, split: columns_of(SIZE),
)
CLEAN = columns_of(SIZE)


def publish(spec, root, shards=1):
    """Puts records where TFDS itself would, so that every residency reads them."""
    builder = tfds_builder.builder_class(spec, root, "train")(
        data_dir=root, file_format="array_record"
    )
    config = tfds.download.DownloadConfig(num_shards=shards)
    builder.download_and_prepare(download_config=config)


def files_below(root):
    return sorted(root.rglob("*.array_record*"))


def start_of(data, record):
    """Where the chunk of a record starts: chunks have 40 bytes of header, which holds the size."""
    place = 64
    for _ in range(record):
        place += 40 + int.from_bytes(data[place + 8 : place + 16], "little")
    return place


def spoil(file, record):
    """Flips one bit in the content of a record."""
    data = bytearray(file.read_bytes())
    data[start_of(data, record) + 60] ^= 4
    file.write_bytes(data)


def rewrite(file, change):
    """Writes a whole file again, with other contents of records and hashes that fit them."""
    reader = array_record_module.ArrayRecordReader(str(file))
    contents = reader.read_all()
    reader.close()
    writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
    for content in change(list(contents)):
        writer.write(content)
    writer.close()


def opened(root, residency, damage=None, split="train"):
    return catalog.open_source("tfds:toy", split, root, residency=residency, damage=damage)
