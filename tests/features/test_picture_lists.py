"""Which pictures are meant: folders, lists of data sets, files, and mistakes in them."""

import json

import pytest

from rcnn_jax.features import picture_lists
from rcnn_jax.features.picture_lists import left_out, listed


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(pictures):
    return [picture.name for picture in pictures]


def test_a_folder_at_any_depth(tmp_path):
    made(tmp_path, "b.JPG", "a/z.png", "a/notes.txt", ".hidden.png", "c.webp")
    found = listed([tmp_path])
    assert names(found) == ["a/z.png", "b.JPG", "c.webp"]
    assert [picture.path.is_file() for picture in found] == [True] * 3
    assert listed([tmp_path / "a" / "z.png", tmp_path / "c.webp"])[0].name == "z.png"


def written(folder, content):
    path = folder / "dataset.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_karpathys_list_in_the_order_of_imgid(tmp_path):
    made(tmp_path, "val/b.jpg", "pictures/a.jpg")
    images = [
        {"filename": "b.jpg", "filepath": "val", "imgid": 1, "split": "test"},
        {"filename": "a.jpg", "filepath": "train", "imgid": 0},
        {"filename": "gone.jpg", "imgid": 2},
    ]
    found = listed([written(tmp_path, {"images": images})])
    assert [(p.name, p.number) for p in found] == [("a.jpg", 0), ("b.jpg", 1), ("gone.jpg", 2)]
    assert found[1].path == tmp_path / "val" / "b.jpg"
    # In a folder of the user's, with or without `filepath` below it.
    (moved,) = (
        p for p in listed([tmp_path / "dataset.json"], tmp_path / "pictures") if not p.number
    )
    assert moved.path == tmp_path / "pictures" / "a.jpg"


def test_the_list_of_coco(tmp_path):
    path = written(tmp_path, {"images": [{"file_name": "2.jpg", "id": 9}, {"file_name": "1.jpg"}]})
    assert [(p.name, p.number) for p in listed([path])] == [("2.jpg", None), ("1.jpg", None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "dataset.json:1: no JSON"),
        ([], "no list 'images'"),
        ({"images": []}, "or an empty one"),
        ({"images": [{"imgid": 0}]}, r"images\[0\] has no 'filename'"),
        ({"images": ["a.jpg"]}, r"images\[0\] has no 'filename'"),
        ({"images": [{"filename": "a", "imgid": "0"}]}, "imgid of 'a' is '0'"),
        (
            {"images": [{"filename": "a", "imgid": 0}, {"filename": "b", "imgid": 0}]},
            "one imgid to several",
        ),
        ({"images": [{"filename": "a"}, {"filename": "a"}]}, "two pictures are called 'a'"),
    ],
)
def test_damaged_lists(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        listed([written(tmp_path, content)])


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        listed([tmp_path / "gone"])
    with pytest.raises(ValueError, match="holds no pictures, whose names end in"):
        listed([tmp_path])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_in_other_encodings(tmp_path, encoding):
    content = json.dumps({"images": [{"filename": "é.jpg"}]}, ensure_ascii=False)
    (tmp_path / "dataset.json").write_text(content, encoding)
    assert names(listed([tmp_path / "dataset.json"])) == ["é.jpg"]


def test_a_list_of_another_kind(tmp_path):
    path = written(tmp_path, [{"image_id": 1, "caption": "a"}])
    with pytest.raises(ValueError, match="it is a list of results for the COCO server"):
        listed([path])


def test_what_is_left_out_of_a_folder(tmp_path, monkeypatch):
    there = picture_lists.why_not_read
    monkeypatch.setattr(
        picture_lists, "why_not_read", lambda p: "needs x" if p.suffix == ".HEIC" else there(p)
    )
    phones = [f"sub/{n:02}.HEIC" for n in range(12)]
    made(tmp_path, "a.png", "b.avif", "c.jfif", *phones, "d.DNG", "e.svg")
    made(tmp_path, "notes.txt", "more.txt", "README", "d.json", "sub/Thumbs.db", ".DS_Store")
    made(tmp_path, ".hidden.heic", "sub/._a.png", "desktop.ini")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    assert names(listed([tmp_path])) == ["a.png", "b.avif", "c.jfif"]
    assert left_out([tmp_path, tmp_path / "a.png"]) == (
        [
            "d.DNG: .dng is not read",
            "e.svg: .svg is not read",
            "gone.jpg: the file that the link leads to is not there",
            "sub/00.HEIC, sub/01.HEIC, sub/02.HEIC, sub/03.HEIC, sub/04.HEIC and 7 more: needs x",
        ],
        "4 files that are no pictures: 2 .txt, 1 without suffix, 1 .json",
    )
    assert left_out([tmp_path / "a.png"]) == ([], "")
    (tmp_path / "sub" / "x.txt").touch()
    with pytest.raises(ValueError, match=r"sub holds no pictures that are read, but 00.HEIC, .* "):
        listed([tmp_path / "sub"])
    with pytest.raises(ValueError, match=r"needs x; 1 file that is no picture: 1 \.txt"):
        listed([tmp_path / "sub"])
