"""SVHN from .mat files."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from rcnn_jax.data.datasets.images import svhn

SIZES = {"train": 120, "test": 30, "extra": 90}


@pytest.fixture
def root(tmp_path):
    """Small files with the labels 1 to 10 in turn; the corner pixel is the example's number."""
    (tmp_path / "svhn").mkdir()
    for split, size in SIZES.items():
        images = np.random.default_rng(size).integers(0, 256, (32, 32, 3, size)).astype(np.uint8)
        images[0, 0, 0] = np.arange(size)
        labels = (np.arange(size) % 10 + 1).astype(np.uint8)[:, None]
        savemat(tmp_path / "svhn" / f"{split}_32x32.mat", {"X": images, "y": labels})
    return tmp_path


def test_images_come_example_first_and_ten_is_zero(root):
    columns = svhn.SVHN.read(root, "train")
    assert columns["image"].shape == (120, 32, 32, 3)
    assert columns["image"][:, 0, 0, 0].tolist() == list(range(120))
    original = loadmat(root / "svhn" / "train_32x32.mat")["X"]
    np.testing.assert_array_equal(columns["image"][77], original[..., 77])
    assert columns["label"][:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_validation_and_remainder_part_both_files_by_class(root, monkeypatch):
    monkeypatch.setattr(svhn, "_HELD_OUT", {"train": 4, "extra": 2})
    parts = {split: svhn.SVHN.read(root, split) for split in ("validation", "remainder")}
    assert np.bincount(parts["validation"]["label"]).tolist() == [6] * 10
    assert len(parts["remainder"]["label"]) == 120 + 90 - 60
    both = np.concatenate([part["image"] for part in parts.values()]).reshape(210, -1)
    files = [svhn.SVHN.read(root, split)["image"].reshape(-1, 3072) for split in _held()]
    assert sorted(map(bytes, both)) == sorted(map(bytes, np.concatenate(files)))
    again = svhn.SVHN.read(root, "validation")
    np.testing.assert_array_equal(again["image"], parts["validation"]["image"])


def _held():
    return ("train", "extra")


def test_the_held_out_examples_depend_on_the_seed_and_never_repeat():
    labels = np.repeat(np.arange(10), 50)
    first, second = (svhn.held_out(labels, 7, seed) for seed in (0, 1))
    assert np.bincount(labels[first]).tolist() == [7] * 10
    assert (first != second).any()
    with pytest.raises(ValueError, match="digit 0 has 50 examples, 51 are held out"):
        svhn.held_out(labels, 51)


def test_training_needs_no_extra_file(root):
    (root / "svhn" / "extra_32x32.mat").unlink()
    assert len(svhn.SVHN.read(root, "train")["label"]) == 120
    with pytest.raises(FileNotFoundError, match=r"extra_32x32\.mat not found|lacks extra"):
        svhn.SVHN.read(root, "remainder")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "other variables", "layout"])
def test_bad_files_end_in_one_sentence(root, damage):
    path = root / "svhn" / "train_32x32.mat"
    raw = path.read_bytes()
    if damage == "other variables":
        savemat(path, {"A": np.zeros(3)})
    elif damage == "layout":
        savemat(path, {"X": np.zeros((120, 32, 32, 3), np.uint8), "y": np.ones((120, 1))})
    else:
        path.write_bytes(
            {"truncated": raw[: len(raw) // 2], "foreign": b"x" * 999}.get(damage, b"")
        )
    with pytest.raises(ValueError, match=r"train_32x32\.mat") as error:
        svhn.SVHN.read(root, "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("label", [11, 0, 1.5, np.nan])
def test_a_label_out_of_range_is_named(root, label):
    path = root / "svhn" / "test_32x32.mat"
    labels = np.ones((30, 1))
    savemat(path, {"X": np.zeros((32, 32, 3, 30), np.uint8), "y": labels})
    assert svhn.SVHN.read(root, "test")["label"].tolist() == [1] * 30
    labels[17] = label
    savemat(path, {"X": np.zeros((32, 32, 3, 30), np.uint8), "y": labels})
    with pytest.raises(ValueError, match=r"test_32x32\.mat: label 17 is .*, allowed are 1 to 10"):
        svhn.SVHN.read(root, "test")


def test_the_published_sizes():
    sizes = svhn.SVHN.splits
    assert sizes["validation"] == 10 * (400 + 200)
    assert sizes["train"] + sizes["extra"] == sizes["validation"] + sizes["remainder"]
