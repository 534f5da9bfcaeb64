"""Files of pictures: which suffixes are read, which pages, which ranges of grey values."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcnn_jax.data.files import images

pytestmark = pytest.mark.one_row

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
