"""MNIST and Fashion-MNIST from idx files."""

import gzip
import hashlib

import numpy as np
import pytest

from rcnn_jax.data.datasets.images import mnist

TINY = mnist.make_spec(
    "mnist", ("mnist", "MNIST"), 10, "https://origin", splits={"train": 6, "test": 4}
)
STEMS = {"train": "train", "test": "t10k"}


def encode(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write(folder, dot=False, packed=False):
    """Writes a small set; returns split to (images, labels)."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    written = {}
    for split, size in TINY.splits.items():
        images, labels = rng.integers(0, 256, (size, 28, 28)), rng.integers(0, 10, size)
        for kind, axes, array in (("images", 3, images), ("labels", 1, labels)):
            name = f"{STEMS[split]}-{kind}{'.' if dot else '-'}idx{axes}-ubyte"
            raw = encode(array)
            path = folder / (name + ".gz" if packed else name)
            path.write_bytes(gzip.compress(raw) if packed else raw)
        written[split] = (images, labels)
    return written


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("place", "dot"), [("mnist", False), ("MNIST/raw", False), ("MNIST", True)]
)
def test_the_four_files_are_read_wherever_they_lie(tmp_path, place, dot, packed):
    written = write(tmp_path / place, dot, packed)
    for split, (images, labels) in written.items():
        columns = TINY.columns(tmp_path, split)
        np.testing.assert_array_equal(columns["image"], images[..., None])
        np.testing.assert_array_equal(columns["label"], labels)


def test_the_root_itself_counts_only_under_the_name_of_the_set(tmp_path):
    write(tmp_path / "mnist")
    assert len(TINY.files(tmp_path / "mnist", "train")) == 2
    # The files are called the same, so MNIST must not pass for Fashion-MNIST.
    with pytest.raises(FileNotFoundError, match="fashion_mnist: train-images-idx3-ubyte"):
        mnist.FASHION_MNIST.files(tmp_path / "mnist", "train")


def test_a_folder_with_a_part_of_the_files_says_what_it_lacks(tmp_path):
    write(tmp_path / "mnist")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="mnist lacks train-labels-idx1-ubyte"):
        TINY.files(tmp_path, "train")


def damage(raw, how):
    images = raw[:4] == bytes([0, 0, 8, 3])
    match how:
        case "truncated":
            return raw[:-1]
        case "longer":
            return raw + b"\0"
        case "header only":
            return raw[:6]
        case "empty":
            return b""
        case "foreign":
            return b"\x89PNG" + raw[4:]
        case "floats":
            return bytes([0, 0, 13]) + raw[3:]
        case "gzip cut":
            return gzip.compress(raw)[:40]
        case "label" if not images:
            return raw[:-1] + b"\x0a"
        case "fewer":
            rows = np.frombuffer(raw[16 if images else 8 :], np.uint8)
            return encode(rows.reshape(-1, 28, 28)[:5]) if images else encode(rows[:5])
    raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "file", "says"),
    [
        ("truncated", "train-images-idx3-ubyte", "truncated or damaged"),
        ("longer", "train-labels-idx1-ubyte", "truncated or damaged"),
        ("header only", "train-images-idx3-ubyte", "truncated or damaged"),
        ("empty", "train-images-idx3-ubyte", "starts with nothing"),
        ("foreign", "train-images-idx3-ubyte", "starts with 89504e47.*00000803"),
        ("floats", "train-images-idx3-ubyte", "starts with 00000d03.*00000803"),
        ("gzip cut", "train-images-idx3-ubyte", "gzip"),
        ("label", "train-labels-idx1-ubyte", "label 5 is 10, allowed are 0 to 9"),
        ("fewer", "train-labels-idx1-ubyte", r"(?<!\d)5 labels"),
    ],
)
def test_bad_files_end_in_one_sentence(tmp_path, how, file, says):
    write(tmp_path / "mnist")
    path = tmp_path / "mnist" / file
    path.write_bytes(damage(path.read_bytes(), how))
    with pytest.raises(ValueError, match=f"{file}.*{says}|{says}.*{file}") as error:
        TINY.columns(tmp_path, "train")
    assert "\n" not in str(error.value)


def test_a_shortened_set_is_not_taken_for_the_whole(tmp_path):
    write(tmp_path / "mnist")
    for file in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        path = tmp_path / "mnist" / file
        path.write_bytes(damage(path.read_bytes(), "fewer"))
    with pytest.raises(ValueError, match="the spec says 6"):
        TINY.columns(tmp_path, "train")


@pytest.mark.realdata
def test_real_mnist_is_the_original(real_data):
    train, test = (mnist.MNIST.columns(real_data, split) for split in ("train", "test"))
    md5 = {
        "6bbc9ace898e44ae57da46a324031adb": train["image"][..., 0],
        "a25bea736e30d166cdddb491f175f624": train["label"],
        "2646ac647ad5339dbf082846283269ea": test["image"][..., 0],
        "27ae3e4e09519cfbb04c329615203637": test["label"],
    }
    for digest, array in md5.items():
        assert hashlib.md5(encode(array)).hexdigest() == digest
    assert train["label"][:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train["label"]).tolist() == counts
