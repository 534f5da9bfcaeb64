"""Pickles of arrays: what may be in them comes back, and nothing else is found."""

import collections
import contextlib
import datetime
import pickle
import pickletools

import numpy as np
import pytest

from rcnn_jax.interop import restricted

VALUES = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "scalar": np.float64(0.1),
    "counts": np.int64(7),
    "texts": np.array(["a", "\u00e9"]),
    "nested": {"list": [1, 2.5, None, True], "tuple": (b"\xff", "\u00e9"), "set": {1, 2}},
    "ordered": collections.OrderedDict(b=1, a=2),
    "complex": 1 + 2j,
    "big": np.arange(3, dtype=">i4"),
}
# What Python 2 wrote for `{"W": numpy.array([1, 2], "f4")}`: texts are bytes there.
FROM_PYTHON_2 = (
    b"(dp0\nS'W'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\n"
    b"S'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\n"
    b"S'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np15\ntp16\nbs."
)


@pytest.mark.parametrize("protocol", range(6))
def test_values_come_back_from_every_protocol(protocol):
    data = pickle.dumps(VALUES, protocol)
    found, unrestricted = restricted.loads(data, "a.p"), pickle.loads(data)  # noqa: S301
    assert found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[name], value)
            # NumPy itself turns some into the machine's byte order.
            assert found[name].dtype == unrestricted[name].dtype
            assert found[name].flags.writeable
        else:
            assert found[name] == value
            assert type(found[name]) is type(value)
    assert list(found["ordered"]) == ["b", "a"]


def test_arrays_written_by_python_2():
    found = restricted.loads(FROM_PYTHON_2, "old.p")
    np.testing.assert_array_equal(found["W"], np.array([1, 2], np.float32), strict=True)
    assert pickle.loads(FROM_PYTHON_2, encoding="latin1")["W"][1] == 2  # noqa: S301


class Acts:
    """Would make a file when unpickled."""

    def __reduce__(self):
        return (open, ("acted", "w"))


@pytest.mark.parametrize(
    "value",
    [Acts(), datetime.date(2000, 1, 1), print, np.random.default_rng(0), [1, {"deep": Acts()}]],
    ids=["call", "date", "builtin", "generator", "nested"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_and_nothing_runs(tmp_path, monkeypatch, value, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"bad\.p cannot be read as a pickle of arrays: it names"):
        restricted.loads(pickle.dumps(value, protocol), "bad.p")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "program",
    [
        # An allowed name cannot be a way to its attributes or to other arguments.
        b"cnumpy\nndarray.tofile\n.",
        b"cbuiltins\ngetattr\n.",
        b"ccollections\nOrderedDict.__init__\n.",
        b"c_codecs\nencode\n(Vx\nVzip\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'b'\ntR.",
        b"cnumpy\nndarray\n(tR.",
    ],
)
def test_programs_written_by_hand(program):
    assert list(pickletools.genops(program))  # a program it is
    with pytest.raises(ValueError, match="cannot be read as a pickle of arrays"):
        restricted.loads(program, "bad.p")


def test_the_types_of_numpy_itself_are_left_alone():
    """A pickle sets the state of the type that it makes: here, the other byte order."""
    program = pickle.dumps(np.dtype("f8"), 2).replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>")
    assert restricted.loads(program, "a.p") == np.dtype(">f8")
    assert np.dtype("f8").isnative
    np.testing.assert_array_equal(np.array([1.0]).view(np.uint64), [0x3FF0000000000000])


def test_a_damaged_file_is_named(tmp_path):
    whole = pickle.dumps(VALUES)
    rng = np.random.default_rng(0)
    for number in range(200):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        cut = bytes(data[: rng.integers(1, len(data))])
        # Any other error would end the test; a changed number inside is a value like any other.
        with contextlib.suppress(ValueError):
            restricted.loads(cut, f"damaged {number}")
    path = tmp_path / "b.p"
    path.write_bytes(whole[:50])
    with pytest.raises(ValueError, match=r"b\.p cannot be read"):
        restricted.load(path)
