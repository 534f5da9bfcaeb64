"""What is no weight file, or not one alone, is said in a sentence, with the way out."""

import argparse
import io
import json
import pickle
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

from rcnn_jax.errors import UserError
from rcnn_jax.interop import file_kinds, torch_files, weights

pytestmark = pytest.mark.one_row

SUFFIXES = (".npz", ".safetensors", ".pth")
RNG = np.random.default_rng(0)


def archive(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), data)
    return content.getvalue()


def tar():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        file.addfile(tarfile.TarInfo("w.pth"), io.BytesIO())
    return content.getvalue()


CONTENTS = {
    b"": r"the file is empty \(0 bytes\)",
    b"<!DOCTYPE html>\n<html><head>": "a page in HTML or XML, as a failed download leaves it",
    b"\n\n  <HTML>": "a page in HTML or XML",
    b'\xef\xbb\xbf<?xml version="1.0"?><Error>': "a page in HTML or XML",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n": "git lfs pull",
    b"../.git/annex/objects/Xk/0f/SHA256E-s5--ab.pth": "git annex get",
    b'{"error": "no such file"}\n': """a text, which begins with '{"error": "no such file"}'""",
    b"\x89HDF\r\n\x1a\n" + bytes(64): "an HDF5 file, as Keras",
    b"\x93NUMPY\x01\x00" + bytes(64): "which holds one array without a name",
    b"\x1f\x8b\x08\x00" + bytes(64): "compressed by gzip: unpack it",
    tar(): "a tar archive: unpack it",
    archive(model__w="x", readme="x"): r"a zip archive of model/w, readme: unpack it",
    archive(w__data_pkl="x", w__constants_pkl="x"): r"a TorchScript archive.*torch\.jit\.load\(",
    archive(w__code__net="x", w__data_pkl="x"): "a TorchScript archive",
    archive(w__archive_format="pt2", w__models__m="x"): r"a program of torch\.export",
    archive(w__data_pkl="x" * 500)[:-60]: "an incomplete zip archive, whose end is missing",
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", list(CONTENTS), ids=list(CONTENTS.values()))
def test_what_is_no_weight_file_is_said(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"cannot be read: .*{CONTENTS[content]}") as error:
        weights.read(path)
    assert str(error.value).startswith(f"the weights in {str(path)!r} cannot be read: ")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_folder_is_said(tmp_path):
    (tmp_path / "w.pth").mkdir()
    with pytest.raises(UserError, match=r"w\.pth' cannot be read: it is a folder"):
        weights.read(tmp_path / "w.pth")


def test_the_content_counts_and_not_the_name(tmp_path):
    """What programs name by a suffix of their own is read all the same."""
    from safetensors.numpy import save_file

    arrays = {"a.weight": RNG.normal(size=(2, 3)).astype(np.float32)}
    np.savez(tmp_path / "w.npz", **arrays)
    (tmp_path / "w.npz").rename(tmp_path / "w.PTH")
    save_file(arrays, tmp_path / "w.bin")
    for name in ("w.PTH", "w.bin"):
        found = weights.read(tmp_path / name)
        assert found.keys() == arrays.keys()
        np.testing.assert_array_equal(found["a.weight"], arrays["a.weight"], strict=True)


class Network:
    """A class that a pickle names; torch is not needed to make such files."""


def pickled(value, protocol, legacy):
    """A file as `torch.save` lays it out, of something without tensors."""
    if legacy:
        head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        return b"".join(pickle.dumps(part, protocol) for part in (*head, value))
    return archive(w__data_pkl=pickle.dumps(value, protocol), w__version="3")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Network(), r"whole object of the class .*test_file_kinds\.Network.*model\.state_dict\(\)"),
        (
            {"model": {"a": 1}, "args": argparse.Namespace(depth=3)},
            r"beside tensors it holds objects of argparse\.Namespace: .*checkpoint\['state_dict'\]",
        ),
        (
            {"a": Network(), "b": Network(), "c": argparse.Namespace()},
            r"objects of interop\.test_file_kinds\.Network, argparse\.Namespace: ",
        ),
        ({"a": {1, 2}}, r"^it is damaged or incomplete \(what torch says\)$"),
    ],
)
def test_classes_in_a_file_of_torch_are_named(tmp_path, protocol, legacy, value, says):
    path = tmp_path / "w.pth"
    path.write_bytes(pickled(value, protocol, legacy))
    text = torch_files.fault(path, RuntimeError("what torch says. And more"))
    assert pytest.raises(ValueError, match=says).matches(ValueError(text))
    assert "weights_only" not in text


@pytest.mark.parametrize(
    "text",
    [
        "Weights only load failed. Re-running `torch.load` with `weights_only` set to `False`",
        "\x1b[1mWeights\x1b[0m",
        "Invalid magic number; corrupt file?",
        "",
    ],
)
def test_advice_of_torch_is_not_passed_on(tmp_path, text):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02K\x01.")
    fault = torch_files.fault(tmp_path / "w.pth", RuntimeError(text))
    assert fault == "torch.save did not write it, or it is damaged"


def test_what_torch_itself_writes_is_said(tmp_path):
    torch = pytest.importorskip("torch")
    net, folder = torch.nn.Linear(3, 2), tmp_path
    state = net.state_dict()
    torch.save(net, folder / "net.pth")
    torch.save(net, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": state, "args": argparse.Namespace(a=1)}, folder / "args.pth")
    torch.save({"model": net, "epoch": 3}, folder / "nets.pth")
    torch.save({"model": state, "best": np.float64(3)}, folder / "numpy.pth")
    (folder / "cut.pth").write_bytes((folder / "args.pth").read_bytes()[:-900])
    with warnings.catch_warnings():  # that TorchScript has been given up
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3)), folder / "traced.pt")
    says = {
        "net.pth": r"class torch\.nn\.modules\.linear\.Linear, .*\(model\.state_dict\(\), ",
        "legacy.pth": r"class torch\.nn\.modules\.linear\.Linear, .*\(model\.state_dict\(\), ",
        "args.pth": r"objects of argparse\.Namespace: .*\(checkpoint\['state_dict'\], ",
        "nets.pth": r"linear\.Linear: .*\(checkpoint\['model'\]\.state_dict\(\), 'weights\.pth'\)",
        "numpy.pth": r"multiarray\.scalar, numpy\.dtype: save its state dict alone",
        "cut.pth": "incomplete zip archive",
        "traced.pt": "TorchScript archive",
    }
    for name, text in says.items():
        with pytest.raises(UserError, match=text) as error:
            weights.read(folder / name)
        assert "weights_only" not in str(error.value)
        assert "\x1b" not in str(error.value)


def test_python_objects_in_npz(tmp_path):
    np.savez(tmp_path / "w.npz", state_dict=np.array({"a": 1}, object))
    with pytest.raises(UserError, match=r"'state_dict' holds Python objects.*numpy\.savez\('w"):
        weights.read(tmp_path / "w.npz")


def test_safetensors_of_every_width(tmp_path):
    """Values by hand; bfloat16 and float8 have no dtype of NumPy."""
    raw = {
        "f64": ("F64", np.array([1.5, -2.0]).tobytes(), [1.5, -2]),
        "f32": ("F32", np.array([1.5, -2.0], "f4").tobytes(), [1.5, -2]),
        "f16": ("F16", np.array([1.5, -2.0], "f2").tobytes(), [1.5, -2]),
        "bf16": ("BF16", bytes([0xC0, 0x3F, 0x00, 0xC0]), [1.5, -2]),
        "e4m3": ("F8_E4M3", bytes([0x3C, 0xC0]), [1.5, -2]),
        "e5m2": ("F8_E5M2", bytes([0x3E, 0xC0]), [1.5, -2]),
        "i8": ("I8", bytes([3, 254]), [3, -2]),
    }
    path = tmp_path / "w.safetensors"

    def write(raw):
        header, start = {}, 0
        for name, (dtype, data, _) in raw.items():
            header[name] = {
                "dtype": dtype,
                "shape": [2],
                "data_offsets": [start, start + len(data)],
            }
            start += len(data)
        text = json.dumps(header).encode()
        data = b"".join(data for _, data, _ in raw.values())
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)

    write(raw)
    found = weights.read(path)
    assert found.keys() == raw.keys()
    for name, (_, _, values) in raw.items():
        np.testing.assert_array_equal(found[name], values)
    for name in ("bf16", "e4m3", "e5m2"):
        assert found[name].dtype == np.float32
    write({"scale": ("F8_E8M0", bytes([1, 2]), None)})
    with pytest.raises(UserError, match=r"array of F8_E8M0, which is not read|unknown variant"):
        weights.read(path)


def test_the_format_is_that_of_the_content(tmp_path):
    np.savez(tmp_path / "a", x=np.zeros(2))
    assert file_kinds.of(tmp_path / "a.npz") == file_kinds.NPZ
    np.savez(tmp_path / "b")
    assert file_kinds.of(tmp_path / "b.npz") == file_kinds.NPZ
    (tmp_path / "c").write_bytes(pickled({"a": 1}, 2, legacy=True))
    assert file_kinds.of(tmp_path / "c") == file_kinds.TORCH
    (tmp_path / "d").write_bytes(bytes(range(256)))
    assert file_kinds.of(tmp_path / "d") == ""
