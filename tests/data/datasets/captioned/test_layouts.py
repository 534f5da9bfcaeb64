"""Lists of captions as other programs write them: quoted as csv does, or in another form."""

import csv
import json

import numpy as np
import pytest

from rcnn_jax.data import catalog
from rcnn_jax.data.text.alphabet import decoded

pytestmark = pytest.mark.one_row

NAMES = [f"{n}.jpg" for n in range(4)]


@pytest.fixture(autouse=True)
def vectors(tmp_path):
    """Features, so that no pictures are needed."""
    np.savez(tmp_path / "f.npz", features=np.eye(4, dtype=np.float32), files=NAMES)


def captions(folder, name):
    more = "" if name.startswith("karpathy") else "&held_out=0"
    source = catalog.open_source(
        f"{name}?features=f.npz{more}", "train", folder, residency="memory"
    )
    rows = map(source.__getitem__, range(len(source)))
    return {decoded(row["file"]): decoded(row["captions"]).split("\n") for row in rows}


TEXTS = ['He said "stop", twice', '"Go!"', "two\nlines", "plain"]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_captions_in_the_quotation_marks_of_csv(tmp_path, quoting):
    with (tmp_path / "own.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=quoting).writerows(zip(NAMES, TEXTS, strict=True))
    expected = [[" ".join(text.split())] for text in TEXTS]
    assert captions(tmp_path, "captioned:own.tsv") == dict(zip(NAMES, expected, strict=True))


def test_captions_with_quotation_marks_of_their_own(tmp_path):
    texts = ['"Stop," he said', '"Go!"', '"a', 'b"']
    lines = [f"{name}\t{text}\t\n" for name, text in zip(NAMES, texts, strict=True)]
    (tmp_path / "own.tsv").write_text("".join(lines))
    expected = {name: [text] for name, text in zip(NAMES, texts, strict=True)}
    assert captions(tmp_path, "captioned:own.tsv") == expected


def test_a_run_of_an_older_version_is_told(tmp_path):
    def notes(name):
        spec = catalog.load_spec(name)
        assert spec.version == "1.1.0"
        (note,) = spec.notes_since("1.0.0")
        return note

    assert "csv" in notes("captioned:own.tsv")
    assert "float" in notes("captioned:own.tsv")
    assert "csv" not in notes("karpathy:dataset.json?features=f.npz")
    assert "before a figure" in notes("coco_captions:captions.json")
    assert "any array of a features file names" in notes("karpathy:dataset.json?features=f.npz")


TABLES = {
    "kaggle": (
        "image,caption\n0.jpg,A child\n",
        'looks like a table with commas such as Kaggle\'s .* by read_csv("LIST")[["image", '
        '"caption"]].to_csv("captions.tsv", sep="\\t", header=False, index=False), and read it as '
        "captioned:captions.tsv",
    ),
    "flickr30k": (
        "image_name| comment_number| comment\n0.jpg| 0| Two guys\n",
        'table with bars such as Flickr30k\'s .* by read_csv("LIST", sep="|", '
        'skipinitialspace=True)[["image_name", "comment"]].to_csv(',
    ),
    "no header": (
        '0.jpg,A child\n1.jpg,"A, b"\n',
        'table with commas: .* by read_csv("LIST", header=None)[[0, 1]].to_csv(',
    ),
    "semicolons": (
        '"file";"text"\n"0.jpg";"a"\n', 'table with semicolons: .*sep=";", .*[["file", "text"]]',
    ),
    "three columns": (
        "image\tnumber\tcaption\n0.jpg\t0\ta\n",
        'a table with a header: .* by read_csv("LIST", sep="\\t", .*[["image", "caption"]]',
    ),
    "json": ('{"images": [{"a": 1}]}\n', "JSON, which karpathy:FILE and coco_captions:FILE read"),
    "json lines": ('{"file_name": "0.jpg"}\n{"file_name": "1.jpg"}\n', "looks like JSON lines: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["captioned", "flickr8k"])
@pytest.mark.parametrize("form", TABLES)
def test_tables_of_other_forms(tmp_path, form, kind):
    content, says = TABLES[form]
    (tmp_path / "list.txt").write_text(content)
    expected = "one tab between" if kind == "captioned" else "a line like 'name.jpg#0<TAB>caption'"
    with pytest.raises(ValueError, match=rf"list\.txt:1: {expected}") as error:
        captions(tmp_path, f"{kind}:list.txt")
    said = str(error.value)
    for part in says.replace("LIST", "list.txt").split(".*"):
        assert part in said
        said = said.partition(part)[2]
    assert "\n" not in str(error.value)


def test_lists_whose_columns_are_others(tmp_path):
    for row, says in (
        ("image\tcaption", "list.tsv:1: it is a header, and a list has none: take it out"),
        ("A child\thttps://x.org/1.jpg", "1: it is a caption and an address, as in Conceptual C"),
        ("A child\t1.jpg", "1: the picture stands behind the caption"),
        ("1.jpg#0\tA child", "1: it is a line of .* tokens, which flickr8k:FILE reads"),
        ("1.jpg\t", r"list.tsv:1: the caption '' is empty"),
    ):
        (tmp_path / "list.tsv").write_text(f"{row}\n0.jpg\tA child\n")
        with pytest.raises(ValueError, match=says):
            captions(tmp_path, "captioned:list.tsv")
    (tmp_path / "list.tsv").write_text("1.jpg\ta sign with photo.jpg\n0.jpg\timage\n")
    assert captions(tmp_path, "captioned:list.tsv") == {
        "1.jpg": ["a sign with photo.jpg"],
        "0.jpg": ["image"],
    }


@pytest.mark.parametrize("kind", ["captioned", "flickr8k"])
def test_folders_with_other_lists(tmp_path, kind):
    (tmp_path / "own").mkdir()
    for name, content, says in (
        ("captions.txt", "image,caption\n0.jpg,a\n", "captions.txt is there, but it looks like a"),
        ("labels.txt", "0.jpg\ta\n", r"labels.txt looks like .*, which captioned:.*own/labels.txt"),
    ):
        path = tmp_path / "own" / name
        path.write_text(content)
        with pytest.raises(FileNotFoundError, match=says):
            captions(tmp_path, f"{kind}:own")
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"needed$|DATA$"):
        captions(tmp_path, f"{kind}:own")


IMAGES = [{"id": n, "file_name": name} for n, name in enumerate(NAMES)]
JSON = {
    "results": ([{"image_id": 1, "caption": "a"}], "a list of results for the COCO server"),
    "detections": ([{"image_id": 1, "bbox": [], "score": 1}], "a list of objects that a model"),
    "instances": (
        {"images": IMAGES, "annotations": [{"image_id": 1, "bbox": [1], "category_id": 1}]},
        r"COCO's list of objects \(instances_\*.json\): captions_\*.json beside it",
    ),
    "keypoints": (
        {"images": IMAGES, "annotations": [{"keypoints": [1], "bbox": [1]}]}, "COCO's list of peop",
    ),
    "panoptic": (
        {"images": IMAGES, "annotations": [{"segments_info": []}]}, "COCO's list of segments",
    ),
    "test": ({"images": IMAGES, "info": {}}, "a list of pictures without captions"),
    "questions": ({"questions": [{"question": "?"}]}, r"a list of questions \(VQA\)"),
    "answers": ({"annotations": [{"answers": []}]}, "a list of answers to questions"),
    "blip": (
        [{"image": "0.jpg", "caption": ["a"]}],
        "a list of objects with 'image' and 'caption': write a line for each caption",
    ),
    "mapping": ({"0.jpg": ["a", "b"]}, "a mapping from pictures to captions: write a line"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["karpathy", "coco_captions"])
@pytest.mark.parametrize("form", JSON)
def test_json_of_other_kinds(tmp_path, form, kind):
    content, says = JSON[form]
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"x\.json is {says}"):
        captions(tmp_path, f"{kind}:x.json")


KARPATHY = {
    "images": [
        {"filename": name, "split": "train", "sentences": [{"raw": f"é {name}"}]} for name in NAMES
    ]
}
COCO = {"images": IMAGES, "annotations": [{"image_id": n, "caption": "é"} for n in range(4)]}


def test_one_json_taken_for_the_other(tmp_path):
    for content, kind, says in (
        (COCO, "karpathy", "is COCO's list of captions: coco_captions:FILE reads it"),
        (KARPATHY, "coco_captions", "is a dataset.json of Karpathy's .*: karpathy:FILE reads it"),
    ):
        (tmp_path / "x.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=says):
            captions(tmp_path, f"{kind}:x.json")
    (tmp_path / "x.json").write_text('{"a": 1}\n{"b": 2}\n')
    with pytest.raises(ValueError, match=r"x\.json is JSON lines: write a line for each caption"):
        captions(tmp_path, "karpathy:x.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_json_in_every_encoding(tmp_path, encoding):
    for kind, content in (("karpathy", KARPATHY), ("coco_captions", COCO)):
        text = json.dumps(content, ensure_ascii=False)
        (tmp_path / "x.json").write_text(text, encoding)
        found = captions(tmp_path, f"{kind}:x.json")
        assert list(found) == NAMES
        assert found["0.jpg"][0].startswith("é")


def test_a_picture_where_features_are_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("RCNN_JAX_DATA", str(tmp_path))
    (tmp_path / "x.json").write_text(json.dumps(KARPATHY))
    (tmp_path / "photo.jpg").write_bytes(b"x")
    spec = catalog.load_spec("karpathy:x.json?features=f.npz")
    assert [name for name, _ in spec.read_several(tmp_path / "f.npz")] == NAMES
    says = (
        "photo.jpg is no file of features, .* python -m rcnn_jax.features --backbone={} "
        r"--weights={} --output=features.npz \S+photo.jpg, and name features.npz here"
    )
    with pytest.raises(ValueError, match=says.format("NAME", "FILE")):
        spec.read_several(tmp_path / "photo.jpg")
    about = json.dumps({"backbone": "vgg16", "weights": "vgg16.pth"})
    np.savez(tmp_path / "f.npz", features=np.eye(4, dtype=np.float32), files=NAMES, about=about)
    with pytest.raises(ValueError, match=says.format("vgg16", "vgg16.pth")):
        spec.read_several(tmp_path / "photo.jpg")
    with pytest.raises(FileNotFoundError, match="no file of features"):
        spec.read_several(tmp_path / "gone.npz")
