"""Lines put together from single digits, and captchas: what is on them, and from which split."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.lines import captchas, digit_lines
from rcnn_jax.data.text.alphabet import decoded


def columns(name, split, root=None):
    source = catalog.open_source(name, split, root, residency="memory")
    return source.columns["image"], [decoded(text) for text in source.columns["text"]]


def test_they_are_the_same_everywhere_and_always():
    """A change of the lines needs a new version of the data set, and then a new sum here."""
    digest = hashlib.sha256()
    for split, size in digit_lines.DIGIT_LINES.splits.items():
        images, texts = columns("digit_lines", split)
        assert len(images) == len(texts) == size
        assert {len(text) for text in texts} == set(range(3, 9))
        for image, text in zip(images, texts, strict=True):
            digest.update(repr((image.shape, text)).encode() + image.tobytes())
    assert digest.hexdigest()[:16] == "d36f8414e42c7032"
    assert digit_lines.DIGIT_LINES.version == "1.0.0"


def test_a_line_shows_what_its_text_says():
    """Each digit is a block of its own value, so that the picture can be read."""
    labels = np.arange(10)
    images = np.broadcast_to((labels[:, None, None] + 1).astype(np.uint8), (10, 5, 4))
    for index in range(40):
        image, text = digit_lines.line(Draws(0, 0, index), images, labels, 9, (1, 3))
        assert image.dtype == np.uint8
        assert image.shape[0] == 9
        across = image[..., 0].max(axis=0)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], across, [0]]).astype(int)) != 0)
        starts, ends = edges[::2], edges[1::2]
        assert (ends - starts == 4).all()
        assert "".join(str(across[start] - 1) for start in starts) == text
        gaps = np.concatenate([starts, [len(across)]]) - np.concatenate([[0], ends])
        assert ((gaps >= 1) & (gaps <= 3)).all()
        assert ((image[..., 0] > 0).sum(axis=0)[across > 0] == 5).all()


def test_overlapping_digits_keep_the_brighter_ink():
    images = np.full((2, 3, 4), 7, np.uint8)
    found = [
        digit_lines.line(Draws(0, 0, i), images, np.arange(2), 3, (-3, -3))[0] for i in range(9)
    ]
    for image in found:
        assert (image == 7).all()
    assert {image.shape[1] for image in found} <= set(range(6, 12))


def test_test_lines_have_the_last_360_digits_and_no_others():
    images, labels = load_digits(return_X_y=True)
    for split, part in (
        ("train", slice(0, 1257)), ("validation", slice(1257, 1437)), ("test", slice(-360, None)),
    ):  # fmt: skip
        own, its_labels = digit_lines.digits_of_sklearn(None, split)
        np.testing.assert_array_equal(its_labels, labels[part])
        expected = np.rint(images[part].reshape(-1, 8, 8) * 255 / 16)
        np.testing.assert_array_equal(own, expected)


def zipped(root, names, end=".png"):
    folder = root / "captcha_misads"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for number, name in enumerate(names):
            stream = io.BytesIO()
            paper = np.full((27, 72), 255, np.uint8)
            paper[5, 5 : 6 + number % 60] = 0
            Image.fromarray(paper).save(stream, "PNG")
            archive.writestr(f"train/{name}{end}", stream.getvalue())
    return folder / "train.zip"


def test_captchas_are_named_by_their_text(tmp_path):
    names = [f"{number:04d}" for number in range(820)]
    path = zipped(tmp_path, [*names, *captchas.MISNAMED])
    found = {}
    for split, size in (("test", 600), ("validation", 200), ("train", 20)):
        rows = captchas.CAPTCHAS.read(tmp_path, split)
        found[split] = [decoded(text) for text in rows["text"]]
        assert len(rows["image"]) == size
        for image, text in zip(rows["image"][:5], found[split], strict=False):
            assert (image > 0).sum() == 1 + int(text) % 60
    assert sorted(text for own in found.values() for text in own) == names
    zipped(tmp_path, [*names, "toolong"])
    with pytest.raises(ValueError, match=r"train.zip: train/toolong.png is not named by four"):
        captchas.CAPTCHAS.read(tmp_path, "train")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"train.zip is a damaged zip file"):
        captchas.CAPTCHAS.read(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"captchas: train.zip not found"):
        captchas.CAPTCHAS.columns(tmp_path / "nowhere", "train")


@pytest.mark.realdata
def test_real_captchas(real_data):
    """3,120 pictures, of which three are misnamed.

    A change of their pixels needs a new version of the data set, and then a new sum here.
    """
    texts, digest = [], hashlib.sha256()
    for split, size in captchas.SPLITS.items():
        images, own = columns("captchas", split, real_data)
        assert len(images) == len(own) == size
        # Ink is what is bright, and there is less of it than of paper.
        assert max(image.mean() for image in images) < 127
        texts += own
        for image, text in zip(images, own, strict=True):
            digest.update(image.tobytes() + text.encode())
    assert digest.hexdigest()[:16] == "da2bff93f73357df"
    assert captchas.CAPTCHAS.version == "1.0.0"
    assert len(set(texts)) == len(texts) == 3_120 - len(captchas.MISNAMED)
    assert set("".join(texts)) == set("012345678abcdefghijklmnopqrstuvwxy")


@pytest.mark.realdata
def test_real_lines_of_mnist(real_data):
    digits = {
        split: digit_lines.mnist_digits(real_data, split) for split in digit_lines.MNIST_PARTS
    }
    assert {split: len(labels) for split, (_, labels) in digits.items()} == {
        "train": 55_000, "validation": 5_000, "test": 10_000,
    }  # fmt: skip
    assert digits["train"][1][:5].tolist() == [5, 0, 4, 1, 9]
    assert digits["test"][1][:5].tolist() == [7, 2, 1, 0, 4]
    images, texts = columns("mnist_lines", "test", real_data)
    assert len(images) == len(texts) == 2_000
    assert all(image.shape[0] == 32 and image.max() > 200 for image in images)
