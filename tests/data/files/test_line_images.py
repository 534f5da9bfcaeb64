"""Pictures of lines: which grey values a file becomes, and heights that keep proportions."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnn_jax.data.files.line_images import (
    bilinear,
    clearly_dark_ink,
    ink_is_dark,
    read_grey,
    read_picture,
    to_height,
    width_at,
)

RNG = np.random.default_rng(0)
INK = np.zeros((5, 7), np.uint8)
INK[1:4, 2] = 200  # bright on dark


def as_file(array, kind="PNG", **arguments):
    stream = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(
        stream, kind, **arguments
    )
    return stream.getvalue()


def transparent():
    rgba = np.zeros((5, 7, 4), np.uint8)
    rgba[..., 3] = INK  # black ink, as opaque as it is bright in `INK`
    return rgba


def held_sideways():
    image = Image.fromarray(255 - np.rot90(INK))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees to the right it is upright
    return as_file(image, exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        as_file(INK),
        as_file(255 - INK),
        as_file(np.repeat(255 - INK[..., None], 3, axis=2)),
        as_file(Image.fromarray(255 - INK).quantize(2)),
        as_file(transparent()),
        as_file((255 - INK).astype(np.uint16) * 257),
        as_file(255 - INK, "TIFF"),
        held_sideways(),
    ],
    ids=["dark", "light", "rgb", "palette", "transparent", "16 bits", "tiff", "sideways"],
)
def test_ink_is_bright_and_paper_dark(data):
    found = read_picture(Path("a.png"), data)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], INK)


def line(ink, paper, share=0.2, noise=0):
    """Strokes on paper; the border is paper."""
    grey = np.full((16, 60), paper, np.int64)
    grey[2:-2, 2 : 2 + round(share * 16 * 60 / 12)] = ink
    grey += RNG.integers(-noise, noise + 1, grey.shape)
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize(
    ("ink", "paper"),
    [(0, 255), (40, 115), (10, 60), (0, 25), (90, 126), (130, 250), (200, 245), (3, 128)],
)
@pytest.mark.parametrize("noise", [0, 4])
def test_ink_is_told_from_paper_at_any_exposure(ink, paper, noise):
    for share in (0.02, 0.1, 0.3):
        dark = line(ink, paper, share, noise)
        assert ink_is_dark(dark)
        assert not ink_is_dark(255 - dark)
        assert clearly_dark_ink(line(ink, paper, 0.2, noise)) is True
        assert clearly_dark_ink(255 - line(ink, paper, 0.2, noise)) is False
        # Contrast stays: paper becomes 255 - paper.
        found = read_picture(Path("a.png"), as_file(dark[..., 0]))
        np.testing.assert_array_equal(found, 255 - dark)
        np.testing.assert_array_equal(
            read_picture(Path("a.png"), as_file(255 - dark[..., 0])), found
        )
        np.testing.assert_array_equal(read_grey(Path("a.png"), as_file(dark[..., 0])), dark)


def test_two_of_three_signs_decide():
    page = line(0, 255, 0.2)
    page[[0, -1]] = page[:, [0, -1]] = 0  # the black border of a scan, or the frame of a table
    assert ink_is_dark(page)
    assert not ink_is_dark(255 - page)
    assert clearly_dark_ink(page) is None
    garment = np.full((28, 28, 1), 255, np.uint8)  # an object that fills a white picture
    garment[1:-1, 3:-3] = 100
    assert ink_is_dark(garment)
    assert clearly_dark_ink(garment) is None
    for grey, dark in ((0, False), (127, False), (128, True), (255, True)):
        blank = np.full((3, 4, 1), grey, np.uint8)
        assert ink_is_dark(blank) is dark
        assert clearly_dark_ink(blank) is None


def test_two_colours():
    one_bit = as_file(Image.fromarray(255 - INK).convert("1", dither=Image.Dither.NONE))
    np.testing.assert_array_equal(read_picture(Path("a.png"), one_bit)[..., 0], (INK > 0) * 255)


def test_a_picture_that_is_none(tmp_path):
    for name, data, says in (
        ("empty.png", b"", "is empty"),
        ("cut.png", as_file(RNG.integers(0, 255, (40, 40), np.uint8))[:-700], "cannot be read as"),
        ("text.png", b"hello", "cannot be read as a picture"),
        ("far.tif", as_file(np.full((2, 2), 1e6, np.float32), "TIFF"), r"go from 1e\+06 to 1e\+06"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}.*{says}") as error:
            read_picture(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(8, 20), (50, 133), (1, 1), (17, 3)])
def test_resizing_is_that_of_pillow(shape):
    for size in ((16, 40), (5, 30), (17, 3), (1, 1)):
        image = RNG.integers(0, 256, shape).astype(np.uint8)
        expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
        found = bilinear(image[..., None], *size)
        assert found.shape == (*size, 1)
        # Pillow rounds between the two axes.
        assert np.abs(found[..., 0].astype(int) - np.asarray(expected)).max() <= 1


def test_heights_keep_proportions():
    image = RNG.integers(0, 256, (10, 31, 1)).astype(np.uint8)
    for height, scale, width in ((20, True, 62), (5, True, 16), (10, False, 31), (5, False, 16)):
        assert to_height(image, height, scale=scale).shape == (height, width, 1)
        assert width_at(image.shape, height, scale=scale) == width
    padded = to_height(image, 13, scale=False)
    np.testing.assert_array_equal(padded[1:11], image)
    assert padded.shape == (13, 31, 1)
    assert not padded[[0, 11, 12]].any()
    assert width_at((100, 2, 1), 10, scale=True) == 1
