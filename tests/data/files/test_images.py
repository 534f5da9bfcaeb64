"""Files of pictures: which suffixes are read, which pages, what is transparent, what is none."""

import importlib.util
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files.tiff_files import page, tiff
from rcnn_jax.data.files import images
from rcnn_jax.data.files.line_images import read_grey, read_picture
from rcnn_jax.data.files.photographs import Fit, read_photograph

pytestmark = pytest.mark.one_row

PATH = Path("in/a.tif")
GREY = np.random.default_rng(0).integers(0, 256, (12, 20)).astype(np.uint8)
OPTIONAL = (".heic", ".heif", ".hif", ".jxl")


@pytest.mark.parametrize("suffix", [s for s in images.SUFFIXES if s not in OPTIONAL])
def test_every_suffix_is_one_that_pillow_reads(tmp_path, suffix):
    Image.init()
    kind = Image.registered_extensions()[suffix]
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    path = tmp_path / f"a{suffix.upper()}"
    lossless = {"AVIF": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    picture.convert("RGB" if kind == "AVIF" else "L").save(path, kind, **lossless)
    assert images.why_not_read(path) is None
    found = images.read_image(path, (16, 16, 1))[..., 0].astype(int)
    assert np.abs(found - np.asarray(picture)).max() <= 12  # that of lossy formats


def test_why_a_file_is_not_read(monkeypatch):
    there = {name: importlib.util.find_spec(name) for name in ("pillow_heif", "pillow_jxl", "PIL")}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name != "PIL" else there[name]
    )
    for name, says in (
        ("phone.HEIC", ".heic needs the package pillow-heif: pip install pillow-heif"),
        ("a.jxl", ".jxl needs the package pillow-jxl-plugin: pip install pillow-jxl-plugin"),
        ("notes.txt", ".txt is none of the suffixes of pictures"),
        ("README", "a name without suffix is none of the suffixes of pictures"),
    ):
        assert images.why_not_read(Path(name)) == says
    monkeypatch.setattr("PIL.features.modules", {})
    assert images.why_not_read(Path("a.avif")) == (
        ".avif needs a newer Pillow: pip install --upgrade pillow"
    )
    assert images.why_not_read(Path("a.png")) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert images.why_not_read(Path("phone.heic")) is None


def saved(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(stream, kind, **options)
    return stream.getvalue()


def read_all(data, path=PATH):
    """The grey values by each of the three readers, which must be equal."""
    grey = read_grey(path, data)[..., 0]
    rows, columns = grey.shape
    side = min(rows, columns)
    colours = read_photograph(path, Fit(side, side), data)
    left, top = (columns - side) // 2, (rows - side) // 2
    np.testing.assert_array_equal(colours[..., 1], grey[top : top + side, left : left + side])
    return grey


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tiff(GREY, 255 - GREY, GREY), "it holds 3 pages"),
        (tiff(GREY, page(GREY[:6], {254: 0})), "it holds 2 pages"),
        (tiff(page(GREY, {254: 2}), page(GREY, {254: 2})), "it holds 2 pages"),
        (tiff(*[page(GREY, {255: 3})] * 120), "it holds 120 pages"),
        (tiff(page(GREY, {270: "ImageJ=1.54f\nimages=40\nslices=40\n"})), "it holds 40 pages"),
        (tiff(page(GREY, {254: 1}), page(GREY[:2], {254: 1})), "reduced copies of a picture alone"),
        (tiff(page(GREY, {254: 1, 330: 8})), "reduced copies .* as camera raw files do"),
    ],
)
def test_a_file_of_several_pages_is_refused(data, says, tmp_path):
    path = tmp_path / "fax.tif"
    path.write_bytes(data)
    readers = (read_picture, lambda p: read_photograph(p, Fit(8)))
    for read in (*readers, lambda p: images.read_image(p, (4, 4, 3))):
        with pytest.raises(ValueError, match=f"fax.tif cannot be read as a picture: .*{says}") as e:
            read(path)
        assert "\n" not in str(e.value)
        assert "pages" not in says or "`convert FILE page_%d.png` splits it" in str(e.value)


@pytest.mark.parametrize(
    "data",
    [
        tiff(GREY),
        tiff(page(GREY, {254: 1})),  # the only page of a file, whatever its tag says
        tiff(GREY, page(GREY[::4, ::4].copy(), {254: 1}), page(GREY, {254: 4, 262: 4})),
        tiff(page(GREY[::4, ::4].copy(), {254: 1}), GREY),
        tiff(page(GREY[::4, ::4].copy(), {255: 2}), page(GREY, {255: 1})),
        tiff(page(GREY, {270: "ImageJ=1.54f\nunit=pixel\n"})),
        saved(GREY, "MPO", save_all=True, append_images=[Image.fromarray(255 - GREY)], quality=100),
        saved(GREY, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        saved(GREY, "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        saved(GREY, "WEBP", save_all=True, append_images=[Image.new("L", (20, 12))], lossless=True),
    ],
    ids=["one", "copy", "copies behind", "copy first", "old tags", "ImageJ", "MPO", "GIF", "APNG",
         "WebP"],
)  # fmt: skip
def test_copies_masks_and_further_frames_are_not_pages(data):
    np.testing.assert_allclose(read_all(data).astype(int), GREY, atol=3)  # MPO is a JPEG


def layered(ink, opacity):
    return Image.merge("LA", [Image.fromarray(ink), Image.fromarray(opacity)])


INK = np.zeros((12, 20), np.uint8)
INK[4:8, 3:16:3] = 255
INK[4, 4] = 60  # the edge of a letter
ALL = np.full_like(INK, 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L"])
@pytest.mark.parametrize("bright", [True, False])
def test_ink_on_transparency_stays_visible(mode, bright):
    picture = layered(ALL if bright else 0 * INK, INK)
    if mode == "RGBA":
        picture = picture.convert("RGBA")
    elif mode != "LA":
        # One of the colours is transparent, the others are ink.
        picture = Image.fromarray(np.where(INK > 100, 200 * bright + 20, 7).astype(np.uint8), "L")
    expected = INK if mode in ("LA", "RGBA") else np.where(INK > 100, 200 * bright + 20, 0)
    if not bright:
        expected = 255 - INK if mode in ("LA", "RGBA") else np.where(INK > 100, 20, 255)
    if mode == "P":
        picture.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    options = {} if mode in ("LA", "RGBA") else {"transparency": 7}
    np.testing.assert_array_equal(read_all(saved(picture, **options)), expected)


def test_paper_stays_white_where_a_dark_part_is_visible():
    page_ = ALL.copy()
    page_[5, 5:9] = 30  # 2 % of what can be seen
    margin = ALL.copy()
    margin[:2] = 0
    found = read_all(saved(layered(page_, margin)))
    np.testing.assert_array_equal(found, np.where(margin > 0, page_, 255))
    shadow = np.where(INK > 0, ALL, 0)
    found = read_all(saved(layered(shadow, np.where(INK > 0, 255, 40).astype(np.uint8))))
    np.testing.assert_array_equal(found, np.where(INK > 0, 255, 215))
    assert (read_all(saved(layered(ALL, 0 * INK))) == 255).all()
    np.testing.assert_array_equal(read_all(saved(layered(GREY, ALL))), GREY)


NOISE = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
JPEG, PNG = saved(NOISE, "JPEG"), saved(NOISE)
FAX = saved(Image.fromarray(NOISE).convert("1"), "TIFF", compression="group4")
LZW = saved(NOISE, "TIFF", compression="tiff_lzw")


def spoiled(data):
    return data[:200] + b"\xff" * 60 + data[260:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty$"),
        (b"<!DOCTYPE html>\n<html>404</html>", "it is a web page .HTML., not a picture"),
        (b"\n <HTML><body>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "`git lfs pull`"),
        (b"../../.git/annex/objects/Xy/a.png\n", "`git annex get` fetches"),
        (b"<?xml version='1.0'?><svg xmlns='x'></svg>", "it is an SVG drawing"),
        (b"%PDF-1.4\n%\xe2\xe3", "it is a PDF document, `pdftoppm -r 300 -png`"),
        (b"hello\n", "it is a text that begins with 'hello'"),
        ("\u00e4".encode() * 600, "it is a text that begins with '\u00e4\u00e4"),
        (b'{"error": 404}', "it is JSON, not a picture"),
        (bytes(5000), "it is 5,000 bytes of zeros"),
        (b"PK\x03\x04" + bytes(50), "it is a zip archive"),
        (bytes(128) + b"DICM", "it is a DICOM file"),
        (bytes(range(1, 250)), "it is of a format that is unknown"),
        (PNG[:40], "it is a PNG picture that is damaged or cut off"),
        (PNG[:-700], "it is a PNG picture that is damaged or cut off: "),
        (JPEG[:60], "it is a JPEG picture that is damaged or cut off"),
        (JPEG[:2000], "it is a JPEG picture that is damaged or cut off: .*truncated"),
        (LZW[: len(LZW) // 2], "it is a TIFF file that is damaged or cut off"),
        (spoiled(LZW), "1 whole number of 8 bits .*Using code not yet in table"),
        (spoiled(FAX), "it is a TIFF file that is damaged: .* at line 22"),
        (tiff(GREY)[:-60], "1 whole number of 8 bits .* or which is damaged"),
    ],
)
# The package ignores them; pytest does not let it.
@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File Read):UserWarning")
def test_what_is_no_picture_is_told_in_one_sentence(data, says, tmp_path, capfd):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for read in (read_picture, lambda p: read_photograph(p, Fit(8))):
        with pytest.raises(ValueError, match=rf"^{path} .*{says}") as error:
            read(path)
        assert "\n" not in str(error.value)
    # libtiff prints its own lines, which neither Python nor Pillow passes on.
    assert capfd.readouterr() == ("", "")


def test_others_hear_libtiff_as_before(capfd):
    read_grey(PATH, LZW)
    with Image.open(io.BytesIO(spoiled(LZW))) as image, pytest.raises(OSError, match="decoder"):
        image.load()
    assert "Using code not yet in table" in capfd.readouterr().err


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(20)
AVIF = b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1" + bytes(20)
JXL = b"\xff\x0aC@$\x08\x00\x01\x00\x90"


@pytest.mark.parametrize(
    ("data", "package", "module"),
    [(HEIC, "pillow-heif", "pillow_heif"), (JXL, "pillow-jxl-plugin", "pillow_jxl")],
)
def test_a_package_reads_what_pillow_does_not(monkeypatch, data, package, module):
    """A telephone's HEIC is often called .jpg."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else name)
    with pytest.raises(ValueError, match=rf"^a\.jpg cannot .* needs the package {package}: pip"):
        read_grey(Path("a.jpg"), data)

    registered = []
    fake = types.ModuleType(module)
    fake.register_heif_opener = lambda: registered.append(module)  # pyright: ignore
    monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    whole = Image.open
    monkeypatch.setattr(Image, "open", lambda stream: whole(io.BytesIO(saved(GREY, "BMP"))))
    np.testing.assert_array_equal(read_all(data), GREY)
    assert registered == ([module] * 2 if module == "pillow_heif" else [])


def test_an_avif_picture_needs_no_package():
    with pytest.raises(ValueError, match=r"AVIF|of a format that is unknown"):
        read_grey(PATH, AVIF)
