"""Prepared records are made anew when the code that read them changes, and only then."""

import importlib
import os
import sys

import pytest

from rcnn_jax.data import catalog
from rcnn_jax.data.records import builder, code_digest

READERS = '''
"""A fork's reader."""
import functools
import numpy as np
from rcnn_jax.data.spec import DatasetSpec, Feature
from . import tables
from .helpers import scaled

FACTOR = 2
UNUSED = 1


def read(root, split, start=0):
    """Numbers."""
    index = [int(word) for word in (root / "index.txt").read_text().split()]
    # Multiplied.
    return {"x": np.array([scaled(start + n) * FACTOR + tables.SHIFT for n in index], np.int32)}


class Model:
    layers = 3


MINE = DatasetSpec(
    name="mine", version="1.0.0", features={"x": Feature((), "int32")}, splits={"train": None},
    files=lambda root, split: [], read=functools.partial(read, start=1),
)
'''
FILES = {
    "__init__.py": "",
    "readers.py": READERS,
    "helpers.py": "def scaled(x):\n    return once(x)\n\n\ndef once(x):\n    return x\n",
    "tables.py": "SHIFT = 0\nOTHER = 5\n",
}


@pytest.fixture
def fork(tmp_path, monkeypatch):
    """Writes a package, with changes (file, old, new), and imports it anew."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fork_of_readers").mkdir()
    (tmp_path / "index.txt").write_text("1 2 3")

    def written(*changes):
        for name, text in FILES.items():
            for file, old, new in changes:
                assert file != name or old in text
                text = text.replace(old, new) if file == name else text
            path = tmp_path / "fork_of_readers" / name
            if not path.exists() or path.read_text() != text:
                stamp = path.stat().st_mtime_ns if path.exists() else 0
                path.write_text(text)
                os.utime(path, ns=(stamp + 10**9, stamp + 10**9))
        for name in [name for name in sys.modules if name.startswith("fork_of_readers")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        spec = catalog.load_spec("fork_of_readers.readers:MINE")
        sys.dont_write_bytecode = before
        return spec

    return written


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("readers.py", "start + n", "start - n"), True),
        (("readers.py", "FACTOR = 2", "FACTOR = 3"), True),
        (("readers.py", "start=1", "start=4"), True),
        (("helpers.py", "return x\n", "return x + 1\n"), True),
        (("tables.py", "SHIFT = 0", "SHIFT = 1"), True),
        (("tables.py", "OTHER = 5\n", "OTHER = 5\nSHIFT += 1\n"), True),
        (("readers.py", "Numbers.", "Other words."), False),
        (("readers.py", "# Multiplied.", "# Times."), False),
        (("readers.py", "UNUSED = 1", "UNUSED = 2"), False),
        (("readers.py", "layers = 3", "layers = 4"), False),
        (("tables.py", "OTHER = 5", "OTHER = 6"), False),
    ],
)
def test_what_the_reader_reaches_by_name_counts(fork, change, differs):
    before = code_digest.code_digest(fork().read)
    assert code_digest.code_digest(fork().read) == before
    assert (code_digest.code_digest(fork(change).read) != before) == differs


def test_shipped_readers_count_what_makes_their_examples():
    digest = code_digest.code_digest(catalog.load_spec("mnist_lines").read)
    assert len(digest) == 16
    assert code_digest.is_shipped(catalog.load_spec("digits").read)
    found = code_digest._Found()
    found.take(catalog.load_spec("mnist_lines").read)
    modules = {module for module, _ in found._visited}
    makers = ("lines.digit_lines", "draws", "images.mnist")
    assert {f"rcnn_jax.data.datasets.{name}" for name in makers} <= modules
    assert "rcnn_jax.data.spec" not in modules


def opened(spec, root):
    source = builder.open_records(spec, root, "train")
    return [int(source[index]["x"]) for index in range(len(source))]


def test_old_records_are_never_taken(fork, tmp_path, capfd):
    assert opened(fork(), tmp_path) == [4, 6, 8]
    assert opened(fork(), tmp_path) == [4, 6, 8]
    assert capfd.readouterr().err == ""
    assert opened(fork(("readers.py", "FACTOR = 2", "FACTOR = 3")), tmp_path) == [6, 9, 12]
    said = capfd.readouterr().err
    assert "note: the code that reads mine, or a file that it opens, is not known" in said
    assert "they are made anew" in said
    # The records of both stay, and of an index that nobody said is a file of the data set.
    assert opened(fork(), tmp_path) == [4, 6, 8]
    (tmp_path / "index.txt").write_text("1 2 3 4")
    assert opened(fork(), tmp_path) == [4, 6, 8, 10]
    assert "they are made anew" in capfd.readouterr().err
    (tmp_path / "index.txt").unlink()
    with pytest.raises(FileNotFoundError):
        opened(fork(), tmp_path)


def test_records_from_before_the_code_was_noted(fork, tmp_path, capfd, monkeypatch):
    """Those of shipped data sets stay; whether those of a fork are old, nobody knows."""
    folder = builder.prepare(fork(), tmp_path, "train")
    before = folder.with_name("-".join(folder.name.split("-")[:3]))
    folder.rename(before)
    assert builder.prepare(fork(), tmp_path, "train") != before
    assert f"records in {before}" in capfd.readouterr().err
    monkeypatch.setattr(code_digest, "is_shipped", lambda function: True)
    fork(("readers.py", "FACTOR = 2", "FACTOR = 3"))
    spec = catalog.load_spec("fork_of_readers.readers:MINE")
    assert builder.prepare(spec, tmp_path, "train") == before
    assert capfd.readouterr().err == ""


def test_what_is_left_out_of_a_digest_is_there():
    for name in code_digest._PLUMBING:
        importlib.import_module(name)
