"""Files that list pictures with sentences: how they are read, divided, and wrong."""

import json
import os

import numpy as np
import pytest
import scipy.io
from PIL import Image

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.captioned.files import captioned
from rcnn_jax.data.datasets.captioned.pictures import Options
from rcnn_jax.data.datasets.lines.own_files import SPLITS, split_of
from rcnn_jax.data.encoders.captions import Captions
from rcnn_jax.data.text.alphabet import decoded


def picture(path, color=(200, 30, 90), size=(9, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def opened(root, name, split="train", residency="memory"):
    return catalog.open_source(name, split, root, residency=residency)


def listed(source):
    """File -> sentences of a split."""
    return {
        decoded(example["file"]): decoded(example["captions"]).split("\n")
        for example in map(source.__getitem__, range(len(source)))
    }


@pytest.fixture
def own(tmp_path):
    """A folder with three pictures and a list."""
    for number, name in enumerate(("a.png", "sub/b.jpg", "c.png")):
        picture(tmp_path / "own" / name, color=(50 * number, 100, 200))
    lines = "a.png\tA dog .\nsub/b.jpg\tZwei  Hunde\nc.png\tкот 猫\na.png\tThe do\u0308g \n"
    (tmp_path / "own" / "captions.tsv").write_bytes(("\ufeff" + lines).encode())
    return tmp_path / "own"


WHOLE = "captioned:own?held_out=0&size=4"


def test_a_list_of_ones_own(own):
    source = opened(own.parent, WHOLE)
    assert listed(source) == {
        "a.png": ["A dog .", "The dög"],
        "sub/b.jpg": ["Zwei Hunde"],
        "c.png": ["кот 猫"],
    }
    assert source[0]["image"].shape == (4, 4, 3)
    assert [tuple(source[i]["image"][0, 0]) for i in (0, 2)] == [(0, 100, 200), (100, 100, 200)]
    records = opened(own.parent, WHOLE, residency="stream")
    assert listed(records) == listed(source)
    np.testing.assert_array_equal(records[1]["image"], source[1]["image"])
    encoder = Captions(min_count=1)
    encoded = [
        encoder.bind(encoder.fit(either)).wrap(either).gather(np.arange(3))
        for either in (source, records)
    ]
    for name, values in encoded[0].items():
        np.testing.assert_array_equal(encoded[1][name], values)
    by_file = opened(own.parent, "captioned:own/captions.tsv?held_out=0&size=4")
    assert listed(by_file) == listed(source)
    elsewhere = own.parent / "lists" / "mine.tsv"
    elsewhere.parent.mkdir()
    (own / "captions.tsv").rename(elsewhere)
    name = f"captioned:{elsewhere}?images=../own&size=4&held_out=0"
    assert listed(opened(None, name)) == listed(source)


def test_a_changed_list_is_read_anew(own):
    spec = catalog.load_spec(WHOLE)
    assert len(spec.columns(own.parent, "train")["file"]) == 3
    with (own / "captions.tsv").open("a") as file:
        file.write("a.png\tand one more\n")
    assert decoded(spec.columns(own.parent, "train")["captions"][0]).endswith("and one more")


def test_changes_of_other_files_are_read_anew(tmp_path):
    train, val = tmp_path / "train.json", tmp_path / "val.json"
    coco(train, ["t.png"])
    coco(val, ["v.png"])
    np.savez(tmp_path / "f.npz", features=np.eye(2), files=["t.png", "v.png"])
    of_coco = catalog.load_spec("coco_captions:train.json?validation=val.json&features=f.npz")
    text = tmp_path / "flickr8k" / "Flickr8k_text"
    text.mkdir(parents=True)
    (text / "Flickr8k.token.txt").write_text("t.png#0\tt.png said\nv.png#0\tv.png said\n")
    (text / "Flickr_8k.devImages.txt").write_text("v.png\n")
    of_flickr = catalog.load_spec("flickr8k:flickr8k?features=../f.npz")
    for spec in (of_coco, of_flickr):
        assert decoded(spec.columns(tmp_path, "validation")["file"][0]) == "v.png"
    coco(val, ["t.png", "v.png"])
    (text / "Flickr_8k.devImages.txt").write_text("t.png\nv.png\n")
    for spec in (of_coco, of_flickr):
        assert decoded(spec.columns(tmp_path, "validation")["file"][0]) == "t.png"


def test_lists_of_splits(own):
    lines = (own / "captions.tsv").read_text("utf-8-sig").split("\n")
    (own / "captions.tsv").unlink()
    (own / "train.tsv").write_text("\n".join([lines[0], lines[3]]), "utf-8")
    (own / "test.tsv").write_text("\n".join(lines[1:3]), "utf-8")
    assert list(listed(opened(own.parent, "captioned:own?size=4"))) == ["a.png"]
    assert list(listed(opened(own.parent, "captioned:own?size=4", "test"))) == [
        "sub/b.jpg",
        "c.png",
    ]
    with pytest.raises(ValueError, match=r"none of the 3 pictures of .* belongs to 'validation'"):
        opened(own.parent, "captioned:own?size=4", "validation")
    (own / "test.tsv").write_text(lines[0], "utf-8")
    with pytest.raises(ValueError, match=r"test.tsv:1: a.png belongs to the split 'train' as well"):
        opened(own.parent, "captioned:own?size=4")
    (own / "captions.tsv").write_text(lines[0], "utf-8")
    with pytest.raises(FileNotFoundError, match=r"holds both captions.tsv and lists of splits"):
        opened(own.parent, "captioned:own?size=4")


def karpathy(path, splits=("train", "val", "restval", "test"), **changes):
    images = [
        {
            "filename": f"{split}.png",
            "filepath": "pictures",
            "imgid": 3 - number,
            "split": split,
            "sentences": [{"tokens": ["a", split], "raw": "A!"}, {"raw": "Two, really."}],
        }
        for number, split in enumerate(splits)
    ]
    images[0] |= changes
    images = [{k: v for k, v in image.items() if v is not None} for image in images]
    path.write_text(json.dumps({"dataset": "own", "images": images}))
    return images


@pytest.fixture
def dataset(tmp_path):
    karpathy(tmp_path / "dataset.json")
    for name in ("train", "val", "restval", "test"):
        picture(tmp_path / "pictures" / f"{name}.png")
    return tmp_path / "dataset.json"


def test_karpathys_json(dataset):
    name = "karpathy:dataset.json?size=5"
    found = {s: listed(opened(dataset.parent, name, s)) for s in (*SPLITS, "restval")}
    assert found["validation"] == {"val.png": ["a val", "Two, really."]}
    assert {split: list(own) for split, own in found.items()} == {
        "train": ["train.png"],
        "validation": ["val.png"],
        "test": ["test.png"],
        "restval": ["restval.png"],
    }
    assert len(opened(dataset.parent, name, "train+restval")) == 2
    read = catalog.load_spec(name).read_file(dataset.parent / "pictures" / "val.png")
    np.testing.assert_array_equal(read["image"], opened(dataset.parent, name)[0]["image"])


def test_vectors_in_place_of_pictures(dataset):
    root, vectors = dataset.parent, np.arange(12, dtype=np.float32).reshape(4, 3)
    # Without names the row, or the column of MATLAB's file, is that of `imgid`.
    scipy.io.savemat(root / "vgg_feats.mat", {"feats": vectors.T})
    name = "karpathy:dataset.json?features=vgg_feats.mat"
    source = opened(root, name, "validation")
    np.testing.assert_array_equal(source[0]["features"], vectors[2])
    records = opened(root, name, "validation", residency="stream")
    np.testing.assert_array_equal(records[0]["features"], vectors[2])
    encoder = Captions(min_count=1)
    wrapped = encoder.bind(encoder.fit(source)).wrap(source)
    assert wrapped.features["features"].shape == (3,)
    assert catalog.load_spec(name).read_file is None
    files = ["val.png", "pictures/train.png", "else/test.png"]
    np.savez(root / "named.npz", one=vectors[:3], two=vectors[:3, :2], filenames=files)
    named = "karpathy:dataset.json?features=named.npz&array=two"
    for split, row in (("validation", 0), ("train", 1), ("test", 2)):
        np.testing.assert_array_equal(opened(root, named, split)[0]["features"], vectors[row, :2])
    with pytest.raises(ValueError, match=r"named.npz has no vector for restval.png; damaged=skip"):
        opened(root, named, "restval")
    with pytest.raises(
        ValueError, match=r"no picture is left of the split 'restval' of .*no vector"
    ):
        opened(root, f"{named}&damaged=skip", "restval")
    # Two vectors may go by a name that folders tell apart; that of neither is not guessed.
    files = ["x/val.png", "y/val.png", "pictures/val.png", "else/train.png"]
    np.savez(root / "folders.npz", features=vectors, files=files)
    folders = "karpathy:dataset.json?features=folders.npz"
    np.testing.assert_array_equal(opened(root, folders, "validation")[0]["features"], vectors[2])
    np.savez(root / "folders.npz", features=vectors[[0, 1, 3]], files=[*files[:2], files[3]])
    with pytest.raises(
        ValueError, match=r"folders.npz has several vectors for val.png: 'x/val.png', 'y/val.png'"
    ):
        opened(root, folders, "validation")
    np.savez(root / "short.npz", features=vectors[:3])
    with pytest.raises(
        ValueError, match=r"\(train.png\): imgid is 3, and .*short.npz has 3 vectors"
    ):
        opened(root, "karpathy:dataset.json?features=short.npz")
    np.savez(root / "nan.npz", features=np.where(vectors == 5, np.nan, vectors))
    with pytest.raises(ValueError, match=r"nan.npz: 1 of 4 vectors are not finite"):
        opened(root, "karpathy:dataset.json?features=nan.npz")


def test_a_hash_divides_what_has_no_splits(tmp_path):
    images = [{"filename": f"{i}.png", "sentences": [{"raw": f"number {i}"}]} for i in range(60)]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    np.savez(tmp_path / "f.npz", features=np.arange(60, dtype=np.float32)[:, None])
    found = {
        split: listed(opened(tmp_path, "karpathy:dataset.json?features=f.npz&by=position", split))
        for split in SPLITS
    }
    assert sorted(name for own in found.values() for name in own) == sorted(
        image["filename"] for image in images
    )
    for split, own in found.items():
        assert own
        assert all(split_of(name.removesuffix(".png"), 0.1) == split for name in own)
    images[7]["split"] = "train"
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    with pytest.raises(
        ValueError, match=r"image 0 \(0.png\): 0.png belongs to no split, others do"
    ):
        opened(tmp_path, "karpathy:dataset.json?features=f.npz&by=position")


def coco(path, names, **more):
    content = {
        "images": [{"id": 10 + i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": 10 + i, "caption": f" {name}\n said "}
            for i, name in enumerate(names)
            for _ in range(2)
        ],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content | more))


def test_cocos_json(tmp_path):
    # Ids repeat between files.
    coco(tmp_path / "annotations" / "captions_train.json", ["t1.png", "t2.png"])
    coco(tmp_path / "annotations" / "captions_val.json", ["v1.png"])
    for folder, names in (("train2017", ("t1", "t2")), ("val2017", ("v1",))):
        for name in names:
            picture(tmp_path / folder / f"{name}.png")
    name = "coco_captions:annotations/captions_train.json?size=4&validation=captions_val.json"
    assert listed(opened(tmp_path, name)) == {
        f"{n}.png": [f"{n}.png said"] * 2 for n in ("t1", "t2")
    }
    assert list(listed(opened(tmp_path, name, "validation"))) == ["v1.png"]
    alone = opened(tmp_path, "coco_captions:annotations/captions_val.json?size=4&held_out=0")
    assert listed(alone) == {"v1.png": ["v1.png said"] * 2}
    np.savez(tmp_path / "annotations" / "f.npz", features=np.eye(3, dtype=np.float32))
    vectors = opened(tmp_path, name.replace("size=4", "features=f.npz&by=position"), "validation")
    np.testing.assert_array_equal(vectors[0]["features"], [0, 0, 1])


def test_flickr8ks_lists(tmp_path):
    texts = tmp_path / "flickr8k" / "Flickr8k_text"
    for name in ("a", "b", "c"):
        picture(tmp_path / "flickr8k" / "Images" / f"{name}.jpg")
    texts.mkdir()
    tokens = "a.jpg#0\tA dog .\na.jpg#1\tDogs\nb.jpg#0\tA cat\nc.jpg#0\tA bird\nd.jpg.1#0\tx\n"
    (texts / "Flickr8k.token.txt").write_text(tokens)
    for name, files in (("train", "c.jpg\na.jpg\n"), ("dev", "b.jpg\n")):
        (texts / f"Flickr_8k.{name}Images.txt").write_text(files)
    assert listed(opened(tmp_path, "flickr8k:flickr8k?size=4")) == {
        "c.jpg": ["A bird"],
        "a.jpg": ["A dog .", "Dogs"],
    }
    assert list(listed(opened(tmp_path, "flickr8k:flickr8k?size=4", "validation"))) == ["b.jpg"]
    np.savez(tmp_path / "flickr8k" / "f.npz", features=np.arange(8, dtype=np.float32).reshape(4, 2))
    vectors = opened(tmp_path, "flickr8k:flickr8k?features=f.npz&by=position", "validation")
    np.testing.assert_array_equal(vectors[0]["features"], [2, 3])
    # A single file in this form, as Flickr30k's.
    name = "flickr8k:flickr8k/Flickr8k_text/Flickr8k.token.txt"
    with pytest.raises(ValueError, match=r"there is no picture d.jpg.1 in"):
        opened(tmp_path, f"{name}?size=4&held_out=0&images=../Images")
    with (texts / "Flickr_8k.devImages.txt").open("a") as file:
        file.write("e.jpg\n")
    with pytest.raises(ValueError, match=r"devImages.txt:2: the picture e.jpg has no caption"):
        opened(tmp_path, "flickr8k:flickr8k?size=4")
    (texts / "Flickr8k.token.txt").write_text("a.jpg\tA dog\n")
    with pytest.raises(ValueError, match=r"token.txt:1: a line like 'name.jpg#0<TAB>caption'"):
        opened(tmp_path, "flickr8k:flickr8k?size=4")
    with pytest.raises(FileNotFoundError, match=r"Flickr8k.token.txt not found in any of"):
        opened(tmp_path, "flickr8k:flickr8k/Images")


def test_pictures_of_every_kind_become_squares_of_colours(tmp_path):
    own = tmp_path / "own"
    for name, mode, color in (
        ("cmyk.jpg", "CMYK", (0, 255, 255, 0)),
        ("grey16.png", "I;16", 257 * 80),
        ("grey.png", "L", 80),
        ("clear.png", "RGBA", (9, 9, 9, 0)),
    ):
        picture(own / name, color, (12, 8), mode)
    halves = np.zeros((4, 12, 3), np.uint8)
    halves[:, 4:8] = 255
    Image.fromarray(halves).save(own / "wide.png")
    (own / "captions.tsv").write_text(
        "".join(f"{p.name}\tx\n" for p in sorted(own.glob("*.[jp]*")))
    )
    source = opened(tmp_path, WHOLE)
    found = {decoded(source[i]["file"]): source[i]["image"] for i in range(len(source))}
    assert all(image.shape == (4, 4, 3) for image in found.values())
    # JPEG keeps colours roughly.
    np.testing.assert_allclose(found["cmyk.jpg"][1, 1].astype(int), [255, 0, 0], atol=6)
    for name, value in (
        ("grey16.png", 80),
        ("grey.png", 80),
        ("clear.png", 255),
        ("wide.png", 255),
    ):
        np.testing.assert_array_equal(found[name], value)


DAMAGED = {
    "missing": (None, r"captions.tsv:2: there is no picture sub/b.jpg in .*own"),
    "empty": (b"", r"captions.tsv:2: .*b.jpg is empty"),
    "text": (b"no picture", r"captions.tsv:2: .*b.jpg cannot be read as a picture"),
    "no pixels": (b"P6 0 4 255\n", r"captions.tsv:2: .*b.jpg cannot be read as a picture"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_pictures_that_cannot_be_read(own, kind, capsys):
    content, says = DAMAGED[kind]
    path = own / "sub" / "b.jpg"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        opened(own.parent, WHOLE).gather(np.arange(3))
    assert "\n" not in str(error.value)
    assert "; damaged=skip at the end of the data set's name" in str(error.value)
    source = opened(own.parent, f"{WHOLE}&damaged=skip")
    assert list(listed(source)) == ["a.png", "c.png"]
    assert source[1]["image"].shape == (4, 4, 3)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].endswith("it is left out")
    assert "1 problems were met in the split 'train'" in said[1]
    assert said[1].endswith("2 pictures are left")


def test_many_problems_are_counted(tmp_path, capsys):
    (tmp_path / "own").mkdir()
    picture(tmp_path / "own" / "1.png")
    lines = [f"{number}.png\tx" for number in range(30)]
    (tmp_path / "own" / "captions.tsv").write_text("\n".join(lines))
    opened(tmp_path, f"{WHOLE}&damaged=skip")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6
    assert "29 problems were met" in said[-1]


def test_captions_without_pictures_and_the_reverse(own, capsys):
    picture(own / "sub" / "d.png")
    with pytest.raises(
        ValueError, match=r"sub/d.png has no caption in .*captions.tsv; damaged=skip at"
    ):
        opened(own.parent, WHOLE)
    assert len(opened(own.parent, f"{WHOLE}&damaged=skip")) == 3
    assert "d.png has no caption" in capsys.readouterr().err
    # A list alone may be of some pictures of its folder.
    assert len(opened(own.parent, "captioned:own/captions.tsv?held_out=0&size=4")) == 3
    picture(own / "other" / "b.jpg")
    (own / "captions.tsv").write_text("b.jpg\tx\n")
    with pytest.raises(ValueError, match=r"there is more than one picture b.jpg in"):
        opened(own.parent, "captioned:own/captions.tsv?held_out=0&size=4")


@pytest.mark.parametrize("name", ["d.avif", "d.HEIC", "sub/d.jp2", "d.jfif"])
def test_pictures_of_every_format_are_missed_in_a_list(own, name):
    (own / name).write_bytes(b"x")
    (own / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=rf"{name} has no caption in .*captions.tsv; damaged=skip"):
        opened(own.parent, WHOLE)


def test_paths_of_windows(own):
    content = (own / "captions.tsv").read_text("utf-8-sig").replace("sub/b.jpg", "sub\\b.jpg")
    (own / "captions.tsv").write_text(content, "utf-8")
    assert list(listed(opened(own.parent, WHOLE))) == ["a.png", "sub\\b.jpg", "c.png"]


def test_captions_that_say_nothing(own, capsys):
    with (own / "captions.tsv").open("a") as file:
        file.write("a.png\t . \nd.png\t\n")
    with pytest.raises(
        ValueError, match=r"captions.tsv:5: the caption '.' is empty; damaged=skip at"
    ):
        opened(own.parent, WHOLE)
    assert listed(opened(own.parent, f"{WHOLE}&damaged=skip"))["a.png"] == ["A dog .", "The dög"]
    said = capsys.readouterr().err
    assert "captions.tsv:6: the caption '' is empty" in said
    assert "captions.tsv:6: the picture d.png has no caption" in said
    # What belongs to no split is told of once.
    lines = "".join(f"{split}{n}.png\tx\n" for n in range(3) for split in "abc")
    (own / "captions.tsv").write_text(f"a.png\t.\n{lines}")
    np.savez(
        own / "v.npz",
        features=np.ones((9, 2)),
        files=[f"{s}{n}.png" for s in "abc" for n in range(3)],
    )
    name = "captioned:own?features=v.npz&held_out=0.4&damaged=skip"
    for split in ("train", "validation", "test"):
        catalog.open_source(name, split, residency="memory", data_dir=own.parent)
    assert capsys.readouterr().err.count("captions.tsv:1: the caption '.' is empty") == 1
    (own / "captions.tsv").write_text("a.png\t!\n")
    with pytest.raises(ValueError, match=r"no picture is left of .*:1: the caption '!' is empty"):
        opened(own.parent, f"{WHOLE}&damaged=skip")


def test_lists_that_are_none(own):
    for content, says in (
        (b"", "captions.tsv holds no line"),
        (b"a.png A dog", ":1: one tab between picture and caption was expected"),
        (b"a.png\tA\tdog", ":1: one tab"),
        (b"\n\tA dog", ":2: one tab"),
        (b"a.png\tA d\xf6g", r":1: byte 9 \(0xf6\) is no UTF-8"),
    ):
        (own / "captions.tsv").write_bytes(content)
        with pytest.raises(ValueError, match=says):
            opened(own.parent, WHOLE)
    (own / "captions.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"own holds neither captions.tsv and lists"):
        opened(own.parent, WHOLE)
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*nowhere with captions; .*--data_dir"
    ):
        opened(own.parent, "captioned:nowhere")
    (own / "captions.tsv").write_text("a.png\tx")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*own/no for the pictures of"):
        opened(own.parent, f"{WHOLE}&images=no")


def test_json_that_is_wrong(tmp_path):
    path = tmp_path / "dataset.json"
    for content, says in (
        ("{\n'a'", r"dataset.json:2: no JSON: Expecting property name"),
        ("[]", r"dataset.json has no 'images' of type list: null"),
        ('{"images": [3]}', r"image 0 has no 'filename' of type str: null"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=says):
            opened(tmp_path, "karpathy:dataset.json")
    for changes, says in (
        ({"split": "dev"}, r"image 0 \(train.png\): split is one of train, val, .* got 'dev'"),
        ({"sentences": [{"tokens": "a"}]}, "has no 'tokens' of type list: \"a\""),
        ({"sentences": [{}]}, "has no 'raw' of type str"),
        ({"sentences": []}, r"image 0 \(train.png\): the picture train.png has no caption"),
    ):
        karpathy(path, **changes)
        with pytest.raises(ValueError, match=says):
            opened(tmp_path, "karpathy:dataset.json")
    coco(tmp_path / "captions.json", ["a.png"], annotations=[{"image_id": 9, "caption": "x"}])
    with pytest.raises(ValueError, match=r"captions.json: annotation 0: there is no image 9"):
        opened(tmp_path, "coco_captions:captions.json")
    images = [{"id": 3, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}]
    coco(tmp_path / "captions.json", ["a.png"], images=images)
    with pytest.raises(ValueError, match=r"captions.json: image 1 has the id 3 of another"):
        opened(tmp_path, "coco_captions:captions.json")


def test_options(own):
    for name, says in (
        ("captioned:own?sise=4", r"captioned:own\?sise=4: 'sise=4' is no option .* mean 'size'\?"),
        ("captioned:own?size", "'size' is no option like 'key=value'"),
        ("captioned:own?size=4&size=5", "'size=5' a second time is no option"),
        ("captioned:own?size=big", "size is of type int, got 'big'"),
        ("captioned:own?validation=x", "'validation=x' is no option"),
        (
            "captioned:own?damaged=drop",
            "the option damaged of a data set of captions is one of stop, skip, got 'drop'",
        ),
        ("captioned:own?held_out=0.5", r"held_out lie in \[0, 0.5\), got 224 and 0.5"),
        ("captioned:own?features=f.npz&size=4", "read in place of pictures: leave images and size"),
        ("captioned:own?array=a", "array=a is one of a features file, and features names none"),
        ("captioned:own?by=position", "by=position is about a features file, and features names"),
        ("recordings:own?rate=x", "rate is of type int, got 'x'"),
        ("captioned:?size=4", "captioned: needs the path of a file or folder"),
    ):
        with pytest.raises(ValueError, match=says):
            catalog.load_spec(name)
    assert catalog.load_spec("recordings:own?rate=8000&bins=40").features["frames"].shape[1] == 40
    with pytest.raises(ValueError, match=r"'karpathy': PATH is needed in .*karpathy:PATH"):
        catalog.load_spec("karpathy")
    # Records are kept by name: whoever is left out decides it, and what people like does not.
    names = {catalog.load_spec(f"captioned:own{o}").name for o in ("?held_out=0", "?held_out=0.2")}
    assert len(names) == 2
    assert catalog.load_spec("captioned:own").name == "captioned"
    assert captioned("own", Options(size=7)).features["image"].shape == (7, 7, 3)


@pytest.mark.realdata
def test_data_sets_as_they_are(real_data):
    name = "karpathy:coco_mini/dataset_coco_mini_karpathy_style.json"
    sizes = {split: len(opened(real_data, f"{name}?size=8", split)) for split in SPLITS}
    assert sizes == {"train": 260, "validation": 60, "test": 60}
    vectors = f"{name}?features=features_380.npz&array=squeezenet10_fire9_pool"
    with np.load(real_data / "coco_mini" / "features_380.npz", allow_pickle=False) as file:
        expected = dict(zip(file["filenames"], file["squeezenet10_fire9_pool"], strict=True))
    source = opened(real_data, vectors, "test")
    for index in (0, 59):
        example = source[index]
        np.testing.assert_array_equal(example["features"], expected[decoded(example["file"])])
    folder = "coco_captions:coco_mini/annotations/captions_train2017_mini.json?size=8"
    both = f"{folder}&validation=captions_val2017_mini.json"
    assert [len(opened(real_data, both, split)) for split in SPLITS[:2]] == [80, 300]
    assert opened(real_data, both, "validation")[299]["image"].std() > 1
    with pytest.raises(ValueError, match="there is no picture"):
        opened(real_data, "flickr8k:flickr8k?size=8")
    flickr = (
        "flickr8k:flickr8k?damaged=skip&features=features_100.npz&array=efficientnet_lite0_pool"
    )
    found = listed(opened(real_data, flickr, "test"))
    assert len(found) == 6
    assert {len(sentences) for sentences in found.values()} == {5}
    assert set(found) <= set(os.listdir(real_data / "flickr8k" / "Images"))
