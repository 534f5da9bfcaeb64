"""Folders of lines as OCR programs leave them: which files belong together, and which to none."""

import csv

import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.lines.own_files import pictures, recordings
from rcnn_jax.data.text.alphabet import decoded

pytestmark = pytest.mark.one_row


def write(folder, **files):
    """Writes pictures (None), each of one grey value, which are given back, and other files."""
    shades = {}
    for number, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            # Bright ink on black keeps its values.
            shades[name] = 10 + number
            Image.fromarray(np.full((4, 6), shades[name], np.uint8)).save(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return shades


def read(folder, files, query="held_out=0"):
    """The shade, text and file of each line of a folder of such files."""
    shades = write(folder, **files)
    source = catalog.open_source(f"lines:{folder}?{query}", "train", folder, residency="memory")
    names = {shade: name for name, shade in shades.items()}
    return [
        (names[int(example["image"].max())], decoded(example["text"]))
        for example in (source[index] for index in range(len(source)))
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.bin.png": None, "a.gt.txt": "x"}, [("a.bin.png", "x")]),
        ({"a.nrm.png": None, "a.txt": "x"}, [("a.nrm.png", "x")]),
        ({"01/010001.dew.png": None, "01/010001.gt.txt": "x"}, [("01/010001.dew.png", "x")]),
        ({"a.nrm.bin.png": None, "a.gt.txt": "x"}, [("a.nrm.bin.png", "x")]),
        ({"A.PNG": None, "A.TXT": "x"}, [("A.PNG", "x")]),
        ({"A.BIN.PNG": None, "A.GT.TXT": "x"}, [("A.BIN.PNG", "x")]),
        ({"a.v2.png": None, "a.v2.txt": "x"}, [("a.v2.png", "x")]),
        # The truth, and what a program read.
        ({"a.png": None, "a.gt.txt": "x", "a.txt": "y"}, [("a.png", "x")]),
        ({"a.png": None, "a.gt.txt": "x", "a.pred.txt": "y"}, [("a.png", "x")]),
        ({"a.bin.png": None, "a.gt.txt": "x", "a.txt": "y"}, [("a.bin.png", "x")]),
        ({"a.bin.png": None, "a.gt.txt": "x", "a.bin.txt": "y"}, [("a.bin.png", "x")]),
        ({"a.bin.png": None, "a.bin.gt.txt": "x", "a.gt.txt": "y"}, None),
        (
            {"a.png": None, "a.gt.txt": "x", "a.crop.png": None, "a.crop.txt": "y"},
            [("a.crop.png", "y"), ("a.png", "x")],
        ),
        # What lies beside lines and belongs to none.
        (
            {"a.png": None, "a.txt": "x", "README.txt": "r", "readme.md": "r", "b.pred.txt": "y"}
            | {
                "LICENSE.txt": "l",
                "Thumbs.db": "t",
                "a.box": "b",
                "NOTES.TXT": "n",
                ".b.png": "",
                ".c.txt": "",
            },
            [("a.png", "x")],
        ),
        (
            {"a.png": None, "a.txt": "x", ".ipynb_checkpoints/a-1.txt": "y"}
            | {"__MACOSX/b.png": None},
            [("a.png", "x")],
        ),
        # A book of OCRopus: pages beside the folders of their lines.
        (
            {"book/0001.bin.png": None, "book/0001.nrm.png": None, "book/0001.pseg.png": None}
            | {"book/0001/010001.bin.png": None, "book/0001/010001.gt.txt": "x"},
            [("book/0001/010001.bin.png", "x")],
        ),
        ({"README.png": None, "README.txt": "x"}, [("README.png", "x")]),
        # A copy in a format that is read since later.
        ({"a.png": None, "a.heic": b"-", "a.txt": "x"}, [("a.png", "x")]),
        ({"a.bmp": None, "a.jp2": b"-", "a.avif": b"-", "a.txt": "x"}, [("a.bmp", "x")]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_which_files_belong_together(tmp_path, files, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"a\.gt\.txt has no file"):
            read(tmp_path / "mine", files)
    else:
        assert read(tmp_path / "mine", files) == expected


VERSIONS = {
    "a.png": None, "a.bin.png": None, "a.gt.txt": "x",
    "b.png": None, "b.bin.png": None, "b.nrm.png": None, "b.txt": "y",
}  # fmt: skip


def test_several_versions_of_one_picture(tmp_path):
    with pytest.raises(ValueError, match=r"a.gt.txt is the text of a.bin.png and a.png: ") as error:
        read(tmp_path / "mine", VERSIONS)
    assert "suffix=.bin.png or suffix=.png at the end of the data set's name" in str(error.value)
    assert "\n" not in str(error.value)
    one = read(tmp_path / "mine", VERSIONS, "held_out=0&suffix=.bin.png")
    assert one == [("a.bin.png", "x"), ("b.bin.png", "y")]
    one = read(tmp_path / "mine", VERSIONS, "held_out=0&suffix=.PNG")
    assert one == [("a.png", "x"), ("b.png", "y")]
    with pytest.raises(ValueError, match=r"a.gt.txt has no file: a.nrm.png is missing .*a.bin.png"):
        read(tmp_path / "mine", VERSIONS, "held_out=0&suffix=.nrm.png")
    one = read(tmp_path / "mine", VERSIONS, "held_out=0&suffix=.nrm.png&damaged=skip")
    assert one == [("b.nrm.png", "y")]
    with pytest.raises(ValueError, match=r"a.txt is the text of a.jpg and a.png"):
        read(tmp_path / "two", {"a.png": None, "a.jpg": None, "a.txt": "x"})


def test_versions_of_a_picture_share_a_split(tmp_path):
    names = [f"{number:03}" for number in range(40)]
    write(
        tmp_path / "plain",
        **{f"{n}{e}": v for n in names for e, v in ((".png", None), (".txt", n))},
    )
    bins = {f"{n}{e}": v for n in names for e, v in ((".bin.png", None), (".gt.txt", n))}
    write(tmp_path / "bins", **bins)
    for split in ("train", "validation", "test"):
        one, other = (
            {decoded(text) for text in pictures(name).read(tmp_path, split)["text"]}
            for name in ("plain", "bins")
        )
        assert one == other
        assert 0 < len(one) < 40


FAULTY = {
    "a.png": None, "a.txt": "x", "b.png": None, "b.txt": "", "c.png": None, "c.txt": " \n",
    "d.png": None, "e.txt": "y", "f.png": None, "f.txt": b"\xff", "g.png": None, "g.txt": "1\n2",
    "h.png": b"", "h.txt": "z", "i.png": b"GIF89a", "i.txt": "z", "j.bin.png": None,
    "j.nrm.png": None, "j.txt": "z",
}  # fmt: skip
SAYS = [
    "mine/b.txt: the text is empty, the file has no bytes",
    "mine/c.txt: the text is empty",
    "mine/d.png has no text: d.txt is missing beside it",
    "mine/f.txt: byte 0 (0xff) is no UTF-8",
    "mine/g.txt:2: the text of one line was expected",
    "mine/j.txt is the text of j.bin.png and j.nrm.png",
    "mine/e.txt has no file: e with one of the ends .png, ",
    "mine/h.txt: {folder}/h.png is empty",
    "mine/i.txt: {folder}/i.png cannot be read as a picture",
]


def test_what_is_damaged_is_left_out_and_counted(tmp_path, capsys):
    folder = tmp_path / "mine"
    assert read(folder, FAULTY, "held_out=0&damaged=skip") == [("a.png", "x")]
    lines = capsys.readouterr().err.splitlines()
    for line, says in zip(lines, SAYS[:5], strict=False):
        assert says.format(folder=folder) in line
        assert line.startswith("warning: ")
        assert line.endswith("; it is left out")
    assert lines[5:] == [
        f"warning: 9 problems were met in the split 'train' of {folder}, 1 lines are left"
    ]
    # Each fault alone ends a run that does not leave it out, and names the way to do so.
    for letter, says in zip("bcdfgjehi", SAYS, strict=True):
        one = {name: content for name, content in FAULTY.items() if name[0] in ("a", letter)}
        with pytest.raises(ValueError, match="damaged=skip at the end") as error:
            read(tmp_path / letter / "mine", one)
        assert says.format(folder=tmp_path / letter / "mine") in str(error.value)
        assert "\n" not in str(error.value)
        lines = read(tmp_path / letter / "mine", one, "held_out=0&damaged=skip")
        assert lines == [("a.png", "x")]


def test_a_problem_is_reported_with_one_split(tmp_path, capsys):
    for number in range(60):
        write(tmp_path / "mine", **{f"{number}.png": None, f"{number}.txt": "x" * (number % 3)})
    spec = pictures("mine", damaged="skip")
    sizes = {split: len(spec.read(tmp_path, split)["text"]) for split in spec.splits}
    said = [line for line in capsys.readouterr().err.splitlines() if "problems" in line]
    assert sum(sizes.values()) == 40
    assert sum(int(line.split()[1]) for line in said) == 20
    for split, size in sizes.items():
        assert len(spec.files(tmp_path, split)) == 2 * size
    # Prepared records are kept by name, those of other examples under another one.
    assert len({spec.name, pictures("mine").name, pictures("mine", suffix=".png").name}) == 3
    assert pictures("mine", held_out=0.2).name == "lines"


def test_nothing_is_left(tmp_path):
    with pytest.raises(ValueError, match=r"no line is left of .*'train' of .*mine: .*b.txt: the"):
        read(tmp_path / "mine", {"b.png": None, "b.txt": ""}, "held_out=0&damaged=skip")


def test_lists_with_the_quotes_of_csv(tmp_path):
    rows = [("a.png", 'He said "stop", twice'), ("b, c.png", "plain"), ("d.png", '"')]
    shades = write(tmp_path, **{name: None for name, _ in rows})
    with (tmp_path / "mine.tsv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    columns = pictures("mine.tsv", held_out=0).read(tmp_path, "train")
    assert [decoded(text) for text in columns["text"]] == [text for _, text in rows]
    assert [int(picture.max()) for picture in columns["image"]] == list(shades.values())
    for spec in (pictures("mine.tsv"), recordings("mine.tsv")):
        assert spec.version == "1.1.0"
        assert "quotation marks" in spec.notes_since("1.0.0")[0]


def test_lists_leave_out_what_is_damaged(tmp_path, capsys):
    write(tmp_path, **{"a.png": None, "b.png": b"", "c.png": None, "d.png": None})
    (tmp_path / "mine.tsv").write_text(
        "a.png\tx\nb.png\ty\nc.png\t \ngone.png\tz\nd.png\tone\ttoo many\n"
    )
    columns = pictures("mine.tsv", held_out=0, damaged="skip").read(tmp_path, "train")
    assert [decoded(text) for text in columns["text"]] == ["x"]
    said = capsys.readouterr().err
    for says in (
        "mine.tsv:2: {}/b.png is empty", "mine.tsv:3: the text is empty",
        "mine.tsv:4: there is no file {}/gone.png", "mine.tsv:5: one tab between file and text",
        "4 problems",
    ):  # fmt: skip
        assert says.format(tmp_path) in said


def test_a_list_names_its_files_itself(tmp_path):
    (tmp_path / "mine.tsv").write_text("a.png\tx\n")
    with pytest.raises(ValueError, match=r"suffix=.bin.png chooses .*mine.tsv is a list"):
        pictures("mine.tsv", suffix=".bin.png").read(tmp_path, "train")


def test_recordings_have_the_same_options(tmp_path, capsys):
    sound = (9_000 * np.sin(np.arange(8_000) / 3)).astype(np.int16)
    for name in ("A.WAV", "b.wav", "c.wav", "c.clean.wav"):
        scipy.io.wavfile.write(tmp_path / name, 16_000, sound)
    (tmp_path / "A.TXT").write_text("one")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "c.txt").write_text("three")
    (tmp_path / "d.wav").write_bytes(b"")
    (tmp_path / "d.txt").write_text("four")
    with pytest.raises(ValueError, match=r"b.txt: the text is empty.*damaged=skip"):
        recordings(".", held_out=0).read(tmp_path, "train")
    columns = recordings(".", held_out=0, damaged="skip").read(tmp_path, "train")
    assert [decoded(text) for text in columns["text"]] == ["one"]
    assert columns["frames"][0].shape == (50, 80)
    said = capsys.readouterr().err
    assert "d.txt: " + str(tmp_path / "d.wav") + " is empty" in said
    assert "c.txt is the text of c.clean.wav and c.wav" in said
    assert "1 lines are left" in said
    with pytest.raises(ValueError, match=r"d.wav is empty"):
        recordings(".").read_file(tmp_path / "d.wav")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("damaged=drop", "the option damaged of a data set of lines is one of stop, skip, got"),
        ("suffix=bin.png", "suffix begins with a dot and ends in one of .png, .*got 'bin.png'"),
        ("suffix=.bin.txt", "suffix begins with a dot and ends in one of .png, .*got '.bin.txt'"),
        ("sufix=.png", "did you mean 'suffix'"),
    ],
)
def test_options_that_cannot_be(query, says):
    with pytest.raises(ValueError, match=says):
        catalog.load_spec(f"lines:mine?{query}")
