"""Files of features: both forms, those of other people, and what is wrong with one."""

import json

import numpy as np
import pytest
import scipy.io

from rcnn_jax.data.files.image_vectors import read, write
from rcnn_jax.errors import UserError
from rcnn_jax.features.parts import Part, Parts

VALUES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
FILES = tuple(f"{name}.jpg" for name in ("a", "b", "\u00e9", "sub/d", "e"))
BLOCKS = (VALUES[:2], VALUES[2:])


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_what_was_written_is_read(tmp_path, suffix):
    path = tmp_path / f"features{suffix}"
    write(path, BLOCKS, (5, 3), FILES, {"backbone": "vgg16", "damaged": ["x: gone"]})
    found = read(path)
    np.testing.assert_array_equal(found.values, VALUES, strict=True)
    kept = suffix == ".npz"
    assert found.files == (FILES if kept else None)
    assert found.about == ({"backbone": "vgg16", "damaged": ["x: gone"]} if kept else {})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_columns_are_images_in_matlab(tmp_path):
    write(tmp_path / "vgg_feats.mat", BLOCKS, (5, 3), FILES, {})
    found = scipy.io.loadmat(tmp_path / "vgg_feats.mat")["feats"]
    np.testing.assert_array_equal(found, VALUES.T)


def test_numpy_alone_reads_an_npz(tmp_path):
    write(tmp_path / "f.npz", BLOCKS, (5, 3), FILES, {"layer": "fc7"})
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["features"], VALUES, strict=True)
        assert (tuple(file["files"]), json.loads(str(file["about"]))) == (FILES, {"layer": "fc7"})


@pytest.mark.parametrize("blocks", [(VALUES[:2],), (VALUES, VALUES[:, :2])])
def test_blocks_of_another_shape_leave_the_old_file(tmp_path, blocks):
    path = tmp_path / "f.npz"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"2 vectors for 5 images|rows have 3"):
        write(path, blocks, (5, 3), FILES, {})
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_files_of_other_people(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, filenames=np.array(FILES), pool=VALUES.astype(np.float64), fire=VALUES[:, :2])
    assert read(path, "fire").values.shape == (5, 2)
    assert read(path, "pool").values.dtype == np.float32
    assert read(path, "pool").files == FILES
    with pytest.raises(ValueError, match="as in array=NAME: it has pool, fire"):
        read(path)
    with pytest.raises(ValueError, match="no array 'fc7', only filenames, pool, fire"):
        read(path, "fc7")
    np.savez(path, fc7=VALUES)
    np.testing.assert_array_equal(read(path).values, VALUES)


BAD = VALUES.copy()
BAD[3, 1] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": BAD, "files": FILES}, r"1 of 5 vectors .* image 3 \(sub/d\.jpg\)"),
        ({"features": VALUES, "files": FILES[:4]}, "4 names for 5 vectors"),
        ({"features": VALUES, "files": ("a",) * 5}, "several vectors for 'a'"),
        ({"features": VALUES.astype(int)}, r"got int64 \[5, 3\]"),
        ({"features": VALUES[0]}, r"got float32 \[3\]"),
        ({"features": VALUES[:0]}, r"holds no features, its array is \[0, 3\]"),
        ({"features": np.array([VALUES, None], object)}, "'features' holds Python objects"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, arrays, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, allow_pickle=True, **{name: np.asarray(value) for name, value in arrays.items()})
    with pytest.raises(ValueError, match=rf"wrong\.npz.*{message}"):
        read(path)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_damaged_files_are_named(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    write(path, BLOCKS, (5, 3), FILES, {})
    whole = path.read_bytes()
    for content in (b"", b"no features at all", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"f\{suffix}"):
            read(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 3 if suffix == ".npz" else 132] ^= 255
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=rf"f\{suffix}"):
        read(path)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"features": VALUES.T}, "no dense array 'feats'"),
        ({"feats": "text"}, "got <U4"),
        ({"feats": VALUES.T > 0}, r"floating numbers .*, got uint8 \[3, 5\]"),
        ({"feats": {"a": VALUES}}, r"got \[\('a'"),
    ],
)
def test_other_mat_files(tmp_path, variables, message):
    scipy.io.savemat(tmp_path / "f.mat", variables)
    with pytest.raises(ValueError, match=rf"f\.mat: .*{message}"):
        read(tmp_path / "f.mat")


def test_matlab_pads_names_and_widens_half_precision(tmp_path):
    """A matrix of characters has rows of one length, and there are no floats of 16 bits."""
    half = VALUES.astype(np.float16)
    names = ("a.jpg", "a longer one.jpg", "c.jpg", "d.jpg", "e.jpg")
    scipy.io.savemat(tmp_path / "f.mat", {"feats": half.T, "names": np.array(names)})
    assert scipy.io.loadmat(tmp_path / "f.mat")["feats"].dtype == np.float64
    found = read(tmp_path / "f.mat")
    np.testing.assert_array_equal(found.values, half.astype(np.float32), strict=True)
    assert found.files == names


def test_matlab_7_3_and_other_names(tmp_path):
    # The header of an HDF5 file of MATLAB: version 2 where 1 stands in MATLAB 5.
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    (tmp_path / "new.mat").write_bytes(header)
    with pytest.raises(ValueError, match=r"new\.mat: it is a file of MATLAB 7\.3"):
        read(tmp_path / "new.mat")
    with pytest.raises(ValueError, match=r"from \.npz and \.mat files, got 'x\.h5'"):
        read("x.h5")
    with pytest.raises(FileNotFoundError, match=r"no file of features 'gone\.npz'"):
        read("gone.npz")
    with pytest.raises(ValueError, match=r"to \.npz and \.mat files, got"):
        write(tmp_path / "x.h5", BLOCKS, (5, 3), FILES, {})


def test_parts_are_whole_or_not_there(tmp_path):
    output = tmp_path / "f.npz"
    parts = Parts(output, {"backbone": "a", "batch": 2})
    part = Part(VALUES[:2], np.array([0, 2]), ("b.jpg: gone",), "seen")
    parts.write(0, part)
    again = Parts(output, {"backbone": "a", "batch": 2}).read(0)
    np.testing.assert_array_equal(again.values, part.values)
    assert (again.places.tolist(), again.damaged) == ([0, 2], part.damaged)
    assert again.pictures == "seen"
    assert parts.read(1) is None
    with pytest.raises(UserError, match=r"another job \(its backbone, layer differ\)"):
        Parts(output, {"backbone": "b", "batch": 2, "layer": "x"})
    (file,) = (tmp_path / "f.npz.parts").glob("part-*")
    whole = file.read_bytes()
    for place in (60, len(whole) // 2, len(whole) - 40):
        file.write_bytes(whole[:place])
        assert parts.read(0) is None
    file.write_bytes(whole.replace(VALUES[0].tobytes(), VALUES[1].tobytes()))
    assert parts.read(0) is None  # by its checksum
    with pytest.raises(UserError, match="gone or is damaged"):
        list(parts.values([0]))
    parts = Parts(output, {"backbone": "b"}, anew=True)
    assert parts.read(0) is None
    parts.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.realdata
def test_karpathys_own_file(real_data):
    found = read(real_data / "neuraltalk_example" / "vgg_feats.mat")
    assert found.values.shape == (16, 4096)
    # They are behind a relu: none below 0, and most are 0.
    assert found.values.min() == 0
    assert 0.5 < (found.values == 0).mean() < 0.9
