"""CIFAR from binary files and archives."""

import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.images import cifar

pytestmark = pytest.mark.one_row

LAYOUT = dataclasses.replace(cifar.CIFAR10_LAYOUT, records={"train": 4, "test": 3})
LAYOUT100 = dataclasses.replace(cifar.CIFAR100_LAYOUT, records={"train": 5, "test": 3})


def write(folder, layout, seed=0):
    """Writes small files of the layout; returns every split's records, [examples, bytes]."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    tables = {}
    for split, names in layout.files.items():
        parts = []
        for name in names:
            table = rng.integers(0, 256, (layout.records[split], len(layout.labels) + 3072))
            for byte, feature in enumerate(layout.labels.values()):
                table[:, byte] %= feature.num_classes
            (folder / name).write_bytes(table.astype(np.uint8).tobytes())
            parts.append(table)
        tables[split] = np.concatenate(parts)
    return tables


@pytest.mark.parametrize(
    "place", ["cifar10/cifar-10-batches-bin", "cifar-10-batches-bin", "cifar10", "."]
)
def test_files_are_found_and_kept_in_order(tmp_path, place):
    root = tmp_path / "root"
    tables = write(root / place, LAYOUT)
    assert LAYOUT.files["train"] == tuple(f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5))
    columns = LAYOUT.spec("").columns(root, "train")
    assert columns["label"].tolist() == tables["train"][:, 0].tolist()
    red, green, blue = (columns["image"][..., c].reshape(20, -1) for c in range(3))
    planes = np.concatenate([red, green, blue], axis=1)
    np.testing.assert_array_equal(planes, tables["train"][:, 1:])


def test_cifar100_has_coarse_and_fine_labels(tmp_path):
    tables = write(tmp_path / "cifar100" / "cifar-100-binary", LAYOUT100)
    columns = LAYOUT100.spec("").columns(tmp_path, "train")
    assert columns["coarse_label"].tolist() == tables["train"][:, 0].tolist()
    assert columns["label"].tolist() == tables["train"][:, 1].tolist()
    assert columns["image"][2, 0, 1].tolist() == tables["train"][2, [3, 1027, 2051]].tolist()
    features = LAYOUT100.spec("").features
    assert (features["coarse_label"].num_classes, features["label"].num_classes) == (20, 100)


def test_an_archive_reads_as_the_unpacked_files_do(tmp_path):
    write(tmp_path / "unpacked" / LAYOUT.folder, LAYOUT)
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / LAYOUT.archive, "w:gz") as archive:
        archive.add(tmp_path / "unpacked" / LAYOUT.folder, LAYOUT.folder)
    for split in ("train", "test"):
        packed = LAYOUT.read(tmp_path / "packed", split)
        for name, column in LAYOUT.read(tmp_path / "unpacked", split).items():
            np.testing.assert_array_equal(packed[name], column)
    assert [path.name for path in (tmp_path / "packed").iterdir()] == [LAYOUT.archive]


def test_a_file_of_another_length_is_named(tmp_path):
    write(tmp_path / "cifar10", LAYOUT)
    path = tmp_path / "cifar10" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3\.bin has 12,291 bytes.*needs 12,292"):
        LAYOUT.read(tmp_path, "train")


def test_a_label_out_of_range_is_named(tmp_path):
    write(tmp_path / "cifar10", LAYOUT)
    path = tmp_path / "cifar10" / "data_batch_2.bin"
    raw = bytearray(path.read_bytes())
    raw[2 * 3073] = 10
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"data_batch_2\.bin: record 2 has label 10.*0 to 9"):
        LAYOUT.read(tmp_path, "train")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "member"])
def test_a_bad_archive_is_named(tmp_path, damage):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        content = np.random.default_rng(0).bytes(100_000)
        member = tarfile.TarInfo(f"{LAYOUT.folder}/data_batch_1.bin")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    raw = {"truncated": buffer.getvalue()[:50_000], "foreign": b"GIF89a" * 100}
    (tmp_path / LAYOUT.archive).write_bytes(raw.get(damage, buffer.getvalue()))
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz") as error:
        LAYOUT.read(tmp_path, "train")
    assert ("data_batch_2.bin" if damage == "member" else "truncated") in str(error.value)


def test_missing_files_name_every_place_and_the_origin(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        catalog.open_source("cifar10", "train", tmp_path, residency="memory")
    for text in (
        str(tmp_path / "cifar10" / "cifar-10-batches-bin"),
        str(tmp_path / "cifar-10-batches-bin"),
        "data_batch_5.bin",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "--data_dir",
        "RCNN_JAX_DATA",
        "cifar-10-binary.tar.gz",
    ):
        assert text in str(error.value)


@pytest.fixture(scope="module")
def real_cifar10(cifar10_root):
    return {split: cifar.CIFAR10.columns(cifar10_root, split) for split in ("train", "test")} | {
        "root": cifar10_root
    }


@pytest.mark.realdata
def test_real_cifar10_encodes_back_to_the_original_files(real_cifar10):
    # git blob ids of the five files as their authors published them
    published = [
        "da09f891072747be90e69e4f00ba7cba870dc87e",
        "7e958840b7a55df3353574298ebc9ca0e4bba48e",
        "5259a3e9674ffdf2d5c33a1067f7192ff06c9e2f",
        "301e7d16d78428f13262e87a5bc78ed45b8224aa",
        "51fe428dfbdd065852912743ae8b7b63bb1e9d8d",
    ]
    columns = real_cifar10["train"]
    for batch, blob in enumerate(published):
        rows = slice(10_000 * batch, 10_000 * (batch + 1))
        pixels = columns["image"][rows].transpose(0, 3, 1, 2).reshape(10_000, 3072)
        labels = columns["label"][rows].astype(np.uint8)
        raw = np.concatenate([labels[:, None], pixels], axis=1).tobytes()
        assert hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest() == blob


@pytest.mark.realdata
def test_real_cifar10_has_its_known_labels(real_cifar10):
    train, test = real_cifar10["train"]["label"], real_cifar10["test"]["label"]
    assert np.bincount(train).tolist() == [5000] * 10
    assert np.bincount(test).tolist() == [1000] * 10
    names = cifar.CIFAR10_CLASSES
    assert [names[i] for i in train[:5]] == ["frog", "truck", "truck", "deer", "automobile"]
    assert [names[i] for i in test[:5]] == ["cat", "ship", "ship", "airplane", "frog"]


@pytest.mark.realdata
def test_the_last_tenth_thousand_is_data_batch_5(real_cifar10):
    root = real_cifar10["root"]
    held_out = catalog.open_source("cifar10", "train[40000:]", root, residency="memory")
    raw = next(root.rglob("data_batch_5.bin")).read_bytes()
    table = np.frombuffer(raw, np.uint8).reshape(10_000, 3073)
    batch = held_out.gather(np.arange(10_000))
    np.testing.assert_array_equal(batch["label"], table[:, 0])
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 2], table[:, 1 + 2048])
