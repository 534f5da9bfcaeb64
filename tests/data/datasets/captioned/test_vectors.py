"""Which vector of a features file a picture of a list gets: by name, by number, by place."""

import json
import pathlib

import numpy as np
import pytest
import scipy.io

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.captioned.vectors import _say
from rcnn_jax.data.text.alphabet import decoded

pytestmark = pytest.mark.one_row

COUNT = 12
# Each picture's vector tells which picture it is of.
VECTORS = np.arange(COUNT, dtype=np.float32)[:, None] * [1, 10] + np.float32(0.5)
ORDER = np.random.default_rng(3).permutation(COUNT)
FILES = [f"COCO_val2014_{7000 + 13 * n:012d}.jpg" for n in range(COUNT)]
IDS = [7000 + 13 * n for n in range(COUNT)]


@pytest.fixture(autouse=True)
def unsaid():
    """Every test hears what is said once."""
    _say.cache_clear()


def dataset(folder, keep=range(COUNT), files=FILES, **changes):
    """A list of some of twelve pictures, each with its number as its caption."""
    images = [
        {
            "filename": files[n], "imgid": n, "cocoid": IDS[n], "split": "train",
            "sentences": [{"raw": f"picture {n}"}],
        } | {key: value[n] for key, value in changes.items()}
        for n in keep
    ]  # fmt: skip
    images = [{k: v for k, v in image.items() if v is not None} for image in images]
    (folder / "dataset.json").write_text(json.dumps({"images": images}))


def coco(folder, keep=range(COUNT)):
    images = [{"id": IDS[n], "file_name": FILES[n]} for n in keep]
    annotations = [{"image_id": IDS[n], "caption": f"picture {n}"} for n in keep]
    content = {"images": images, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(content))


def given(folder, name="karpathy:dataset.json?features=f.npz"):
    """Number of each picture of the training split -> number of the picture of its vector."""
    if name.startswith("coco"):
        name += "&held_out=0"
    source = catalog.open_source(name, "train", folder, residency="memory")
    rows = [source[place] for place in range(len(source))]
    for row in rows:
        assert row["features"][1] == 10 * row["features"][0] - 4.5
    return {int(decoded(r["captions"]).split()[1]): int(r["features"][0]) for r in rows}


RIGHT = {n: n for n in range(COUNT)}


def objects(elements):
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


FORMS = {
    "texts": lambda files: np.array(files),
    "bytes": lambda files: np.array(files, "S"),
    "objects": objects,
    "objects that are bytes": lambda files: objects([file.encode() for file in files]),
    "objects of NumPy": lambda files: objects([np.str_(file) for file in files]),
    "paths": lambda files: objects([pathlib.Path("a/b", file) for file in files]),
    "column": lambda files: np.array(files)[:, None],
    "folders": lambda files: np.array([f"/data/val2014/{file}" for file in files]),
    "Windows": lambda files: np.array([f"C:\\data\\val2014\\{file}" for file in files]),
    "addresses": lambda files: np.array([f"http://x.org/val2014/{file}" for file in files]),
    "stems": lambda files: np.array([file[:-4] for file in files]),
    "stems in folders": lambda files: np.array([f"val2014/{file[:-4]}" for file in files]),
    "other suffixes": lambda files: np.array([f"{file[:-4]}.npy" for file in files]),
}


@pytest.mark.parametrize("name", ["files", "names", "image_ids", "arr_1", "of"])
@pytest.mark.parametrize("form", FORMS)
def test_names_in_any_array_and_form(tmp_path, capsys, form, name):
    dataset(tmp_path)
    names = FORMS[form]([FILES[n] for n in ORDER])
    arrays = {"features": VECTORS[ORDER], name: names, "about": "{}"}
    np.savez(tmp_path / "f.npz", allow_pickle=True, **arrays)
    assert given(tmp_path) == RIGHT
    assert capsys.readouterr().err == ""


NUMBERS = {
    "cocoid": np.array(IDS),
    "image_id": np.array(IDS, np.uint32),
    "ids": np.array([f"{number:012d}" for number in IDS]),
    "names": objects(IDS),
    "keys": np.array([f"COCO_train2014_{number:012d}.jpg" for number in IDS], "S"),
    "imgid": np.arange(COUNT),
    "img_ids": np.arange(COUNT, dtype=np.int16),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_pictures(tmp_path, capsys, name):
    np.savez(
        tmp_path / "f.npz", allow_pickle=True, fc7=VECTORS[ORDER], **{name: NUMBERS[name][ORDER]}
    )
    keep = [9, 2, 5, 1]
    dataset(tmp_path, keep)
    assert given(tmp_path) == {n: n for n in keep}
    kind = "imgid" if NUMBERS[name][0] == 0 else "cocoid"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"note: 4 pictures of {tmp_path}/dataset.json take their vectors from " in said
    assert f"by the numbers in its array '{name}', which are compared with {kind}" in said
    if kind == "cocoid":
        coco(tmp_path, keep)
        assert given(tmp_path, "coco_captions:captions.json?features=f.npz") == {n: n for n in keep}
        (tmp_path / "captions.tsv").write_text(
            "".join(f"{FILES[n].removeprefix('COCO_val2014_')}\tpicture {n}\n" for n in keep)
        )
        own = "captioned:captions.tsv?features=f.npz&held_out=0"
        assert given(tmp_path, own) == {n: n for n in keep}


def test_names_of_matlab(tmp_path):
    dataset(tmp_path)
    features = {"feats": VECTORS[ORDER].T}
    name = "karpathy:dataset.json?features=f.mat"
    names = [FILES[n] for n in ORDER]
    for more in (
        {"names": objects(names)},
        {"names": np.array(names)},
        {"ids": np.array(IDS, np.float64)[ORDER]},
        {"cocoid": np.array(IDS)[ORDER][:, None]},
    ):
        scipy.io.savemat(tmp_path / "f.mat", features | more)
        assert given(tmp_path, name) == RIGHT
    # Anything else stands beside Karpathy's features, whose column is the imgid.
    for more in ({"loss": np.full(COUNT, np.inf)}, {"mean": np.ones(COUNT) / 3}, {"about": "x"}):
        scipy.io.savemat(tmp_path / "f.mat", {"feats": VECTORS.T} | more)
        assert given(tmp_path, name) == RIGHT
    scipy.io.savemat(tmp_path / "f.mat", {"feats": VECTORS.T, "names": objects(names[:7])})
    with pytest.raises(ValueError, match=r"its array 'names' has .*; by=imgid or by=position"):
        given(tmp_path, name)


def test_part_of_a_list_with_the_features_of_the_whole_one(tmp_path, capsys):
    scipy.io.savemat(tmp_path / "vgg_feats.mat", {"feats": VECTORS.T})
    np.savez(tmp_path / "bare.npz", features=VECTORS)
    np.savez(tmp_path / "named.npz", features=VECTORS[ORDER], files=[FILES[n] for n in ORDER])
    for keep in (range(COUNT), [1, 2, 5, 6, 9, 10], [10, 1, 5], range(6)):
        dataset(tmp_path, keep)
        for file in ("vgg_feats.mat", "bare.npz", "named.npz"):
            name = f"karpathy:dataset.json?features={file}"
            assert given(tmp_path, name) == {n: n for n in keep}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6  # for 12, 6 and 3 pictures, of which the second count comes twice
    assert said[0] == (
        f"note: 12 pictures of {tmp_path}/dataset.json take their vectors from "
        f"{tmp_path}/vgg_feats.mat by imgid, as its 12 vectors of 2 numbers have no names"
    )
    # Names need no imgid.
    for imgids in ([None] * COUNT, [3] * COUNT, ["x"] * COUNT, [-1] * COUNT):
        dataset(tmp_path, [4, 1, 7], imgid=imgids)
        name = "karpathy:dataset.json?features=named.npz"
        assert given(tmp_path, name) == {4: 4, 1: 1, 7: 7}


def test_imgids_that_are_no_columns(tmp_path):
    np.savez(tmp_path / "f.npz", features=VECTORS[:6])
    for changes, says in (
        ({}, r"\(COCO_val2014_000000007078.jpg\): imgid is 6, and .*f.npz has 6 vectors without "
             "names, from 0 to 5; by=position at the end"),
        ({"imgid": [-1] * COUNT}, "imgid is -1, and"),
        ({"imgid": [2] * COUNT}, r"7013.jpg\): imgid is 2, as that of COCO_val2014_000000007000"),
        ({"imgid": ["0", *range(1, COUNT)]}, "no names of pictures, and not every picture of "
             r".*dataset.json has an imgid: by=position at the end of the data set's name"),
        ({"imgid": [None] * COUNT}, "not every picture of .* has an imgid: by=position"),
    ):  # fmt: skip
        dataset(tmp_path, **changes)
        with pytest.raises(ValueError, match=says):
            given(tmp_path)
    dataset(tmp_path, imgid=[None] * COUNT)
    with pytest.raises(ValueError, match=r"COCO_val.*no imgid that is a number.*by=position"):
        given(tmp_path, "karpathy:dataset.json?features=f.npz&by=imgid")


def test_by_position_only_on_request(tmp_path, capsys):
    np.savez(tmp_path / "f.npz", features=VECTORS, files=FILES)
    np.savez(tmp_path / "bare.npz", features=VECTORS, words=FILES[:7])
    scipy.io.savemat(tmp_path / "f.mat", {"feats": VECTORS.T})
    coco(tmp_path)
    (tmp_path / "captions.tsv").write_text(
        "".join(f"{name}\tpicture {n}\n" for n, name in enumerate(FILES))
    )
    dataset(tmp_path, imgid=[None] * COUNT)
    for file in ("bare.npz", "f.mat"):
        for name in ("coco_captions:captions.json", "captioned:captions.tsv",
                     "karpathy:dataset.json"):  # fmt: skip
            with pytest.raises(ValueError, match=r"has no names of pictures.*by=position at the"):
                given(tmp_path, f"{name}?features={file}")
            more = "&held_out=0" if name.startswith("captioned") else ""
            assert given(tmp_path, f"{name}?features={file}&by=position{more}") == RIGHT
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert all("by their position in the list" in line for line in said)
    # Also against names, if that is asked for.
    dataset(tmp_path, range(COUNT)[::-1])
    asked = "karpathy:dataset.json?features=f.npz&by=position"
    assert given(tmp_path, asked) == {n: COUNT - 1 - n for n in range(COUNT)}
    assert given(tmp_path, "karpathy:dataset.json?features=f.npz&by=imgid") == RIGHT
    dataset(tmp_path, range(6))
    with pytest.raises(ValueError, match=r"f.npz has 12 vectors, .*dataset.json lists 6 pictures"):
        given(tmp_path, asked)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (FILES[:7], "has 7 names for 12 vectors"),
        ([[name, "train"] for name in FILES], "has the shape [12, 2], not a name for each of 12"),
        (np.array({"0": FILES}, object), "has the shape [], not a name for each of 12 vectors"),
        (objects([*FILES[:11], None]), "cannot be read: its element 11 is None, which is no name"),
        (objects([*FILES[:11], b"\xff"]), "cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_names_that_are_none_are_not_passed_over(tmp_path, names, says):
    """The list has imgids, by which vectors would be taken in silence."""
    dataset(tmp_path)
    for array in ("names", "image_paths", "img_ids"):
        np.savez(tmp_path / "f.npz", allow_pickle=True, features=VECTORS, **{array: names})
        with pytest.raises(ValueError, match="by=imgid or by=position at the end") as error:
            given(tmp_path)
        assert f"f.npz: its array {array!r} {says}" in str(error.value)
        assert given(tmp_path, "karpathy:dataset.json?features=f.npz&by=imgid") == RIGHT


def test_axes_that_are_the_wrong_way_round(tmp_path):
    dataset(tmp_path)
    scipy.io.savemat(tmp_path / "f.mat", {"feats": np.tile(VECTORS, 10)})
    np.savez(tmp_path / "f.npz", features=np.tile(VECTORS, 10).T)
    for file in ("f.mat", "f.npz"):
        with pytest.raises(ValueError, match="has 20 vectors of 12 numbers for as many pictures"):
            given(tmp_path, f"karpathy:dataset.json?features={file}")


@pytest.mark.parametrize("names", [[f"{n}.jpg" for n in range(COUNT)], list("abcdefghijkl")])
def test_names_of_other_pictures(tmp_path, names):
    dataset(tmp_path)
    np.savez(tmp_path / "f.npz", features=VECTORS, titles=names)
    with pytest.raises(ValueError, match="nothing in its array 'titles'") as error:
        given(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/f.npz: nothing in its array 'titles', such as {names[0]!r}, is the name or "
        f"number of a picture of {tmp_path}/dataset.json, such as {FILES[0]!r}; by=position at the "
        "end of the data set's name, behind a ? or &, takes the vectors in the order of the list"
    )


def test_numbers_of_other_pictures(tmp_path):
    dataset(tmp_path, imgid=[None] * COUNT)
    np.savez(tmp_path / "f.npz", features=VECTORS, image_ids=np.arange(COUNT) + 10**6)
    with pytest.raises(ValueError, match="nothing in its array 'image_ids', such as 1000000, is"):
        given(tmp_path)


def test_numbers_that_fit_two_of_the_list(tmp_path):
    dataset(tmp_path, cocoid=[COUNT - 1 - n for n in range(COUNT)])
    for name, kind in (("imgid", 0), ("cocoid", COUNT - 1), ("ids", None)):
        np.savez(tmp_path / "f.npz", features=VECTORS, **{name: np.arange(COUNT)})
        if kind is not None:
            assert given(tmp_path) == {n: abs(kind - n) for n in range(COUNT)}
    with pytest.raises(ValueError, match="its array 'ids' that fit both cocoid and imgid; damaged"):
        given(tmp_path)


def test_arrays_that_contradict_each_other(tmp_path):
    dataset(tmp_path)
    other = [FILES[n] for n in ORDER[::-1]]
    names = [FILES[n] for n in ORDER]
    asked = "karpathy:dataset.json?features=f.npz&by="
    for more in ({"files": names, "paths": other}, {"paths": other, "files": names}):
        np.savez(tmp_path / "f.npz", features=VECTORS[ORDER], **more)
        says = (
            r"its arrays 'files' and 'paths' give COCO_.* different vectors, .*: by=files or by=p"
        )
        with pytest.raises(ValueError, match=says):
            given(tmp_path)
        assert given(tmp_path, f"{asked}files") == RIGHT
        assert given(tmp_path, f"{asked}paths") != RIGHT
    np.savez(tmp_path / "f.npz", features=VECTORS[ORDER], names=names, cocoid=IDS)
    with pytest.raises(ValueError, match="its arrays 'names' and 'cocoid' give"):
        given(tmp_path)
    with pytest.raises(
        ValueError, match=r"no array 'nmes' .*; by is one of position, imgid, names"
    ):
        given(tmp_path, f"{asked}nmes")


def test_other_arrays_do_not_matter(tmp_path, capsys):
    """Captions, splits, labels, the number of the row, and names of something else."""
    dataset(tmp_path)
    np.savez(
        tmp_path / "f.npz",
        allow_pickle=True,
        features=VECTORS[ORDER],
        boxes=np.ones((COUNT, 4), np.float64).astype(int),
        split=["train"] * 6 + ["val"] * 6,
        captions=[f"a caption of {n}" for n in ORDER],
        nearest=[FILES[0]] * COUNT,
        objects=objects([["dog"], None] * 6),
        index=np.arange(COUNT),
        ids=np.arange(COUNT),
        names=[FILES[n] for n in ORDER],
        names_of_layers=["a", "b"],
    )
    assert given(tmp_path) == RIGHT
    assert capsys.readouterr().err == ""


def test_numbers_without_a_meaning_are_not_guessed(tmp_path):
    dataset(tmp_path)
    np.savez(tmp_path / "f.npz", features=VECTORS[ORDER], order=ORDER)
    with pytest.raises(
        ValueError, match=r"its array 'order' gives .*: by=order or by=imgid at the"
    ):
        given(tmp_path)
    asked = "karpathy:dataset.json?features=f.npz&by="
    assert given(tmp_path, f"{asked}order") == RIGHT
    assert given(tmp_path, f"{asked}imgid") == dict(enumerate(ORDER))
    labels = np.arange(COUNT) % 5
    np.savez(tmp_path / "f.npz", features=VECTORS, label=labels, split=["a"] * COUNT)
    assert given(tmp_path) == RIGHT


STEMS = [f"{n}.jpg" for n in range(COUNT)]


def test_names_that_are_not_of_one_picture(tmp_path):
    names = [f"{n}.png" for n in range(COUNT - 1)]
    dataset(tmp_path, files=STEMS)
    for more, says in (
        (["3.tif"], r"f.npz has several vectors for 3.jpg: '3.png', '3.tif'; damaged=skip"),
        (["3.png"], r"f.npz has several vectors for 3.jpg: '3.png', '3.png'"),
    ):
        np.savez(tmp_path / "f.npz", features=VECTORS, names=[*names, *more])
        with pytest.raises(ValueError, match=says):
            given(tmp_path)
    skipped = given(tmp_path, "karpathy:dataset.json?features=f.npz&damaged=skip")
    assert skipped == {n: n for n in range(COUNT) if n not in (3, 11)}
    # The full name goes before the stem.
    np.savez(tmp_path / "f.npz", features=VECTORS, names=[*STEMS[:11], "3.png"])
    dataset(tmp_path, range(11), files=STEMS)
    assert given(tmp_path) == {n: n for n in range(11)}
    # One vector for two pictures.
    dataset(tmp_path, files=["a.jpg", "a.png", *STEMS[2:]])
    stems = ["a", "b", *(name[:-4] for name in STEMS[2:])]
    np.savez(tmp_path / "f.npz", features=VECTORS, names=stems)
    with pytest.raises(ValueError, match=r"f.npz has one vector, 'a', for both a.jpg and a.png"):
        given(tmp_path)


def test_folders_tell_pictures_apart(tmp_path):
    files = [f"{'ab'[n % 2]}/{n // 2}.jpg" for n in range(COUNT)]
    dataset(tmp_path, files=files)
    for prefix in ("", "/data/", "./"):
        np.savez(
            tmp_path / "f.npz", features=VECTORS[ORDER], names=[prefix + files[n] for n in ORDER]
        )
        assert given(tmp_path) == RIGHT
    np.savez(tmp_path / "f.npz", features=VECTORS, names=STEMS)
    with pytest.raises(ValueError, match=r"has one vector, '0.jpg', for both a/0.jpg and b/0.jpg"):
        given(tmp_path)
    dataset(tmp_path, files=STEMS, filepath=["val2014"] * COUNT)
    np.savez(tmp_path / "f.npz", features=VECTORS, names=[f"flat/{name}" for name in STEMS])
    assert given(tmp_path) == RIGHT


def test_letters_that_unicode_writes_in_two_ways(tmp_path):
    dataset(tmp_path, files=["e\u0301.jpg", *STEMS[1:]])
    np.savez(tmp_path / "f.npz", features=VECTORS, names=["\u00e9.jpg", *STEMS[1:]])
    assert given(tmp_path) == RIGHT


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_objects_are_never_run(tmp_path, capsys):
    dataset(tmp_path)
    for name, says in (
        ("files", "its array 'files' cannot be read: it is no array of names: it names builtins"),
        ("names", r"its array 'names' cannot be read: .*names builtins.print; by=imgid or by=pos"),
    ):
        np.savez(
            tmp_path / "f.npz",
            allow_pickle=True,
            features=VECTORS,
            **{name: objects([Evil(), *FILES[1:]])},
        )
        dataset(tmp_path, imgid=[None] * COUNT)
        with pytest.raises(ValueError, match=says):
            given(tmp_path)
    assert "unpickled" not in capsys.readouterr().out
