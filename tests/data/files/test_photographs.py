"""Photographs: every kind of picture becomes the right colours, the rest one sentence."""

import concurrent.futures
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rcnn_jax.data.files.photographs import Fit, batches, read_photograph

EXACT = Fit(4)


def saved(folder, image, name="a.png", **options):
    path = folder / name
    image.save(path, **options)
    return path


def one_colour(mode, colour, size=(4, 4)):
    return Image.new(mode, size, colour)


SIXTEEN = Image.fromarray(np.full((4, 4), 128 * 257, np.uint16))
PALETTE = one_colour("P", 1)
PALETTE.putpalette([9, 9, 9, 200, 100, 50])


@pytest.mark.parametrize(
    ("image", "name", "colour"),
    [
        (one_colour("RGB", (200, 100, 50)), "a.png", (200, 100, 50)),
        (one_colour("L", 77), "a.png", (77, 77, 77)),
        (one_colour("1", 1), "a.png", (255, 255, 255)),
        (SIXTEEN, "a.png", (128, 128, 128)),
        (SIXTEEN, "a.tif", (128, 128, 128)),
        (one_colour("F", 257.0 * 90), "a.tif", (90, 90, 90)),
        (one_colour("CMYK", (0, 255, 255, 0)), "a.tif", (255, 0, 0)),
        (PALETTE, "a.png", (200, 100, 50)),
        (one_colour("RGBA", (200, 100, 50, 0)), "a.png", (255, 255, 255)),
        (one_colour("RGBA", (0, 100, 50, 51)), "a.png", (204, 224, 214)),
        (one_colour("LA", (0, 255)), "a.png", (0, 0, 0)),
    ],
)
def test_every_kind_of_picture_becomes_its_colours(tmp_path, image, name, colour):
    pixels = read_photograph(saved(tmp_path, image, name), EXACT)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (4, 4, 3))
    np.testing.assert_array_equal(pixels.reshape(-1, 3), [colour] * 16)


def test_a_palette_with_a_transparent_colour_stands_on_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]] * 2, np.uint8), "P") if False else PALETTE.copy()
    image.putpixel((0, 0), 0)
    pixels = read_photograph(saved(tmp_path, image, transparency=0), EXACT)
    np.testing.assert_array_equal(pixels[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(pixels[1, 1], [200, 100, 50])


def test_a_cmyk_jpeg_is_not_inverted(tmp_path):
    path = saved(tmp_path, one_colour("CMYK", (0, 255, 255, 0), (16, 16)), "a.jpg", quality=95)
    red = read_photograph(path, Fit(8)).reshape(-1, 3).mean(0)
    assert red[0] > 240
    assert red[1:].max() < 15


def test_the_camera_says_which_way_is_up(tmp_path):
    image = Image.fromarray(np.zeros((8, 4, 3), np.uint8))
    for x in range(4):
        image.putpixel((x, 0), (255, 0, 0))  # the first row
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    path = saved(tmp_path, image, exif=exif)
    pixels = read_photograph(path, Fit(4, 4))
    plain = read_photograph(saved(tmp_path, image, "b.png"), Fit(4, 4))
    assert pixels[..., 0].max() == 0  # the red column is at the right end, which is cut off
    assert plain[..., 0].max() == 0
    whole = read_photograph(path, Fit(8))
    assert whole[:, -1, 0].min() > 100
    assert whole[:, 0, 0].max() == 0


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg_cut_short():
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(content, "JPEG")
    return content.getvalue()[:900]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>", png(0, 4), png(4, 0), png(4, 4)[:40], jpeg_cut_short()],
    ids=["empty", "html", "no width", "no height", "cut png", "cut jpeg"],
)
def test_what_is_no_picture_ends_in_one_sentence(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png (is empty|cannot be read as a picture: \w)"):
        read_photograph(path, EXACT)


def test_values_that_are_no_grey_are_refused(tmp_path):
    values = np.array([[0, np.nan], [1, 2]], np.float32)
    path = saved(tmp_path, Image.fromarray(values), "a.tif")
    with pytest.raises(ValueError, match="grey values go from nan"):
        read_photograph(path, EXACT)


def ramp(width, height):
    x = np.linspace(0, 255, width).round().astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(x, (height, 1))[..., None], 3, -1))


def test_a_square_is_cut_from_the_middle_or_the_whole_is_squeezed(tmp_path):
    path = saved(tmp_path, ramp(40, 20))
    squeezed = read_photograph(path, Fit(10))[0, :, 0]
    cut = read_photograph(path, Fit(10, 10))[0, :, 0]
    middle = read_photograph(path, Fit(10, 20))[0, :, 0]
    # From 0 to 255 over the width; the middle half of it; the middle quarter.
    for row, share in ((squeezed, 1.0), (cut, 0.5), (middle, 0.25)):
        step = 255 * share / 10
        np.testing.assert_allclose(row, 127.5 + step * (np.arange(10) - 4.5), atol=4)


def test_enlarging_by_cubics_is_that_of_the_networks_it_prepares_for(tmp_path):
    """Keys' cubic with a = -1/2; torch without antialiasing takes -3/4 and overshoots by more."""

    def cubic(x, a):
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        return np.where(x <= 1, near, np.where(x < 2, a * (x**3 - 5 * x**2 + 8 * x - 4), 0))

    edge = np.array([100, 100, 100, 200, 200, 200])
    image = Image.fromarray(np.tile(edge.astype(np.uint8), (6, 1))[..., None].repeat(3, -1))
    row = read_photograph(saved(tmp_path, image), Fit(24, 0, "bicubic"))[12, :, 0]
    distance = np.abs((np.arange(24)[:, None] + 0.5) / 4 - 0.5 - np.arange(6)[None])
    expected, other = (
        weights @ edge / weights.sum(1) for weights in (cubic(distance, a) for a in (-0.5, -0.75))
    )
    np.testing.assert_allclose(row, expected, atol=1)
    assert np.abs(row - other).max() > 2


def test_the_shorter_side_is_what_was_asked_for_whatever_rounding_does(tmp_path):
    for size in ((7, 500), (333, 3), (1, 1), (10, 10)):
        pixels = read_photograph(saved(tmp_path, ramp(*size)), Fit(9, 11, "bicubic"))
        assert pixels.shape == (9, 9, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "square of 0"),
        ((8, 7), "square of 8 pixels cannot be cut where the shorter side is 7"),
        ((8, 8, "nearest"), "bilinear or bicubic, got 'nearest'"),
    ],
)
def test_impossible_fits(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fit(*arguments)


def test_batches_keep_the_order_and_say_what_is_wrong(tmp_path):
    paths = [saved(tmp_path, one_colour("L", 10 * n), f"{n}.png") for n in range(7)]
    paths[4].write_bytes(b"no picture")
    paths[5].unlink()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(batches(pool, paths, EXACT, 3))
    assert [len(problems) for _, problems in found] == [3, 3, 1]
    greys = np.concatenate([pixels[:, 0, 0, 0] for pixels, _ in found])
    np.testing.assert_array_equal(greys, [0, 10, 20, 30, 0, 0, 60, 0, 0])
    kinds = [type(problem).__name__ for _, problems in found for problem in problems]
    assert kinds[4:] == ["ValueError", "FileNotFoundError", "NoneType"]
    assert set(kinds[:4]) == {"NoneType"}
