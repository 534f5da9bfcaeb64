"""Grey values of every type and range: as 8 bits would show them, or one sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files.tiff_files import page, tiff
from rcnn_jax.data.files import grey_ranges
from rcnn_jax.data.files.line_images import read_grey
from rcnn_jax.data.files.photographs import Fit, read_photograph

pytestmark = pytest.mark.one_row

# Every value of 8 bits, so that the picture has true black and true white.
GREY = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(8, 32)
WIDE = GREY.astype(np.uint16)
UNIT = GREY.astype(np.float32) / 255
PATH = Path("scans/a.tif")


def saved(array, kind="TIFF"):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def pnm(name, array, white):
    head = f"{name} {array.shape[1]} {array.shape[0]} {white}\n".encode()
    return head + array.astype(">u2").tobytes()


COLOURS = np.stack([GREY, 255 - GREY, GREY // 2 + 128], -1)
FILES = {
    "float 0..1": saved(UNIT),
    "float 0..255": saved(UNIT * 255),
    "float 0..65535": saved(UNIT * 65535),
    "float that overshoots": saved(UNIT * 1.001 - 0.0005),
    "float of PFM": b"Pf 32 8 -1.0\n" + UNIT[::-1].tobytes(),
    "int8 values in uint16": saved(WIDE),
    "int8 values in uint16, PNG": saved(WIDE, "PNG"),
    "int8 values in int16": tiff(GREY.astype(np.int16)),
    "int8 values in int32": saved(GREY.astype(np.int32)),
    "int8 values in uint32": tiff(GREY.astype(np.uint32)),
    "16 bits": saved(WIDE * 257),
    "16 bits, PNG": saved(WIDE * 257, "PNG"),
    "16 bits, JPEG 2000": saved(WIDE * 257, "JPEG2000"),
    "16 bits in int32": saved(GREY.astype(np.int32) * 257),
    "16 bits in uint32": tiff(GREY.astype(np.uint32) * 257),
    "12 bits in 16": saved(WIDE * 16 + WIDE // 16),
    "12 bits in 16, multiples of 16": saved(WIDE * 16),
    "12 bits in 16, PNG": saved(WIDE * 16 + WIDE // 16, "PNG"),
    "12 bits in int32": saved(GREY.astype(np.int32) * 16),
    "12 bits in the upper ones of 16": saved(WIDE * 256 + (WIDE & 240)),
    "10 bits in the upper ones of 16": saved(WIDE * 256 + (WIDE & 192)),
    "10 bits, stated": tiff(page(WIDE * 4 + WIDE // 64, {281: 1023})),
    "12 bits, stated": tiff(page(WIDE * 16 + WIDE // 16, {281: 4095})),
    "14 bits, stated": tiff(page(WIDE * 64 + WIDE // 4, {281: 16383})),
    "16 bits, stated": tiff(page(WIDE * 257, {281: 65535})),
    "10 bits, PGM": pnm("P5", WIDE * 4 + WIDE // 64, 1023),
    "14 bits, PGM": pnm("P5", WIDE * 64 + WIDE // 4, 16383),
    "0 is white, 8 bits": tiff(page(255 - GREY, {262: 0})),
    "0 is white, 16 bits": tiff(page((255 - WIDE) * 257, {262: 0})),
    "0 is white, 12 bits": tiff(page((255 - WIDE) * 16, {262: 0})),
    "0 is white, float": tiff(page(1 - UNIT, {262: 0})),
}


@pytest.mark.parametrize("name", FILES)
def test_every_range_becomes_8_bits(name, capfd):
    found = read_grey(PATH, FILES[name])
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[..., 0].astype(int), GREY, atol=1)  # rounding
    assert capfd.readouterr().err == ""
    pixels = read_photograph(PATH, Fit(8, 8), FILES[name])
    np.testing.assert_allclose(pixels.astype(int)[..., 0], GREY[:, 12:20], atol=1)


def test_12_packed_bits(capfd):
    values = (WIDE * 16 + WIDE // 16).reshape(-1, 2)
    packed = np.stack(
        [values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255], -1
    ).astype(np.uint8)
    tags, _ = page(GREY, {258: 12, 279: packed.size})
    np.testing.assert_array_equal(read_grey(PATH, tiff((tags, packed.tobytes())))[..., 0], GREY)


def test_black_stays_black_and_0_and_1_are_black_and_white():
    for array in (np.zeros((3, 4), np.float32), np.zeros((3, 4), np.uint16), GREY * 0):
        assert not read_grey(PATH, saved(array)).any()
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 1:3] = 1
    for array in (mask > 0, mask, mask.astype(np.int32), mask.astype(np.uint16)):
        np.testing.assert_array_equal(read_grey(PATH, saved(array))[..., 0], mask * 255)


NAN = UNIT.copy()
NAN[1, 1] = np.nan
REFUSED = {
    "NaN": (saved(NAN), "grey values go from nan to nan"),
    "-1..1": (saved(UNIT * 2 - 1), "grey values go from -1 to 1; .* from 0 to 1, 255 or 65535"),
    "float to 2": (saved(UNIT * 2), "grey values go from 0 to 2; .* rescale"),
    "float to infinity": (saved(np.where(UNIT < 1, UNIT, np.float32(np.inf))), "go from 0 to inf"),
    "float to a million": (saved(UNIT * 1e6), r"go from 0 to 1e\+06"),
    "negative int16": (tiff(GREY.astype(np.int16) - 128), "go from -128 to 127"),
    "negative int8": (tiff((GREY.astype(np.int16) - 128).astype(np.int8)), "go from -128 to 127"),
    "all of uint32": (tiff(GREY.astype(np.uint32) << 24), r"go from 0 to 4.27819e\+09"),
    "10 bits": (saved(WIDE * 4), "0 to 1020, either 10 bits .* -level 0,1023 .* 0,4095 12 bits"),
    "10 bits in float": (saved(UNIT * 1023), "from 0 to 1023, either 10 bits"),
    "stated wrongly": (tiff(page(WIDE * 4, {281: 255})), "from 0 to 1020, either 10 bits"),
    "12 bits in colours": (tiff(COLOURS.astype(np.uint16) * 16), "colours of 16 bits do not reach"),
    "8 bits in colours of 16": (tiff(COLOURS.astype(np.uint16)), "do not reach 256 of 65,535"),
}
REFUSED_BY_PILLOW = {
    "RGB float": (tiff(COLOURS / np.float32(255)), "3 floating-point numbers of 32 bits"),
    "double": (tiff(UNIT.astype(np.float64)), "1 floating-point number of 64 bits"),
    "half": (tiff(UNIT.astype(np.float16)), "1 floating-point number of 16 bits"),
    "WebP": (tiff(page(COLOURS, {259: 50001})), "8 bits compressed by WebP .* -depth 16 FILE.png"),
    "YCbCr": (tiff(page(COLOURS, {262: 6})), "8 bits in YCbCr colours"),
}


@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_BY_PILLOW])
def test_what_cannot_be_told_is_one_sentence(name, capfd):
    data, says = {**REFUSED, **REFUSED_BY_PILLOW}[name]
    for read in (lambda: read_grey(PATH, data), lambda: read_photograph(PATH, Fit(8), data)):
        with pytest.raises(ValueError, match=f"^scans/a.tif cannot be .*{says}") as error:
            read()
        assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_lab_picture_is_refused():
    stream = io.BytesIO()
    Image.new("LAB", (4, 4)).save(stream, "TIFF")
    with pytest.raises(ValueError, match="its colours are LAB, `convert FILE -colorspace sRGB"):
        read_grey(PATH, stream.getvalue())


def test_colours_of_16_bits(capfd):
    colours = read_photograph(PATH, Fit(8, 8), tiff(COLOURS.astype(np.uint16) * 257))
    np.testing.assert_array_equal(colours, COLOURS[:, 12:20])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("array", [WIDE * 64, COLOURS.astype(np.uint16) * 64])
def test_14_bits_are_read_as_16_and_said_once_a_folder(array, capfd, monkeypatch):
    monkeypatch.setattr(grey_ranges, "_warned", set())
    for name in ("x/a.tif", "x/b.tif", "y/c.tif"):
        pixels = read_photograph(Path(name), Fit(8, 8), tiff(array))
        assert abs(int(pixels.max()) - array[:, 12:20].max() / 257) <= 1
    told = capfd.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in told] == ["x/a.tif", "y/c.tif"]
    assert all("are read as 16 bits" in line and "-level 0,16383" in line for line in told)


def test_one_value_of_16_bits_is_transparent():
    stream = io.BytesIO()
    Image.fromarray(WIDE * 257).save(stream, "PNG", transparency=7 * 257)
    found = read_grey(PATH, stream.getvalue())[..., 0]
    np.testing.assert_array_equal(found, np.where(GREY == 7, 255, GREY))
