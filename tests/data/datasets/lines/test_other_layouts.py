# ruff: noqa: E501 - a table has long lines
"""Folders and files of other programs and corpora: one sentence says what they are and what to do.

The files are as their corpora publish them, with one or two entries.
"""

import pytest

from rcnn_jax.data import catalog

pytestmark = pytest.mark.one_row

LIST = "write a list with a line for each file"
TABS = 'to_csv("list.tsv", sep="\\t", header=False, index=False)'
IAM = (
    "#--- lines.txt ---\n#\n# a01-000u-00 -> line id\n"
    "a01-000u-00 ok 154 19 408 746 1661 89 A|MOVE|to|stop|Mr.|Gaitskell\n"
)
COMMON_VOICE = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\t"
    "accents\tvariant\tlocale\tsegment\n12ab\tcommon_voice_en_1.mp3\t3c\tA text.\t\t2\t0\t\t\t\t\ten\t\n"
)
ALTO = '<?xml version="1.0"?>\n<alto xmlns="http://www.loc.gov/standards/alto/ns-v3#"></alto>'
PAGE = '<?xml version="1.0"?>\n<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts"></PcGts>'
BOXES = 'a.png\t[{"transcription": "x", "points": [[1, 2], [3, 4], [5, 6], [7, 8]]}]\n'

# name: (data set, path that is named, files, parts of the sentence)
LAYOUTS = {
    "LibriSpeech": (
        "recordings", "", {
            "84/121/84-121.trans.txt": "84-121-0000 GO DO YOU HEAR\n", "84/121/84-121-0000.flac": "f",
            "README.TXT": "r",
        }, ["84-121.trans.txt", "LibriSpeech", LIST, "ffmpeg -i 84-121-0000.flac 84-121-0000.wav"],
    ),
    "Kaldi": (
        "recordings", "", {"wav.scp": "u1 sph2pipe a.sph |\n", "text": "u1 HELLO\n", "utt2spk": "u1 s\n"},
        ["wav.scp", "Kaldi", LIST],
    ),
    "Kaldi of a split": (
        "recordings", "", {"train/wav.scp": "u1 a.wav\n", "train/text": "u1 HELLO\n"},
        ["train/wav.scp", "Kaldi", LIST],
    ),
    "Kaldi's text": ("recordings", "text", {"text": "u1 HELLO\n"}, ["text:1", "got 0", "Kaldi", LIST]),
    "Common Voice": (
        "recordings", "", {
            "train.tsv": COMMON_VOICE, "dev.tsv": COMMON_VOICE, "test.tsv": COMMON_VOICE,
            "clips/common_voice_en_1.mp3": "m",
        }, ["train.tsv:1", "got 12", "Common Voice", TABS],
    ),
    "Common Voice, one list": (
        "recordings", "validated.tsv", {"validated.tsv": COMMON_VOICE},
        ["validated.tsv:1", "got 12", "Common Voice", TABS],
    ),
    "LJSpeech": (
        "recordings", "", {"metadata.csv": "LJ001-0001|Printing, in|Printing, in\n", "wavs/x.flac": ""},
        ["metadata.csv", "bars", TABS],
    ),
    "LJSpeech's table": (
        "recordings", "metadata.csv", {"metadata.csv": "LJ001-0001|Printing, in|Printing, in\n"},
        ["metadata.csv:1", "got 0", "bars", TABS],
    ),
    "VCTK": (
        "recordings", "", {"txt/p225/p225_001.txt": "Please call", "wav48/p225/p225_001.wav": "w"},
        ["txt/p225/p225_001.txt", "wav48/p225/p225_001.wav", "another folder", LIST],
    ),
    "TIMIT": (
        "recordings", "", {"DR1/SA1.WAV": "w", "DR1/SA1.TXT": "0 46797 She had", "DR1/SA1.PHN": "0 9 h#"},
        ["SA1.TXT", "TIMIT", "numbers", LIST],
    ),
    "flac and texts": (
        "recordings", "", {"a.flac": "f", "a.txt": "one, two"},
        ["a.txt has no file", "a.flac lies there", "ffmpeg -i a.flac a.wav", "damaged=skip"],
    ),
    "recordings for pictures": (
        "lines", "", {"a.wav": "w", "b.wav": "w"},
        ["holds no pictures with texts", "2 .wav", "recordings:PATH reads"],
    ),
    "pictures for recordings": (
        "recordings", "", {"a.png": "p", "a.json": "{}"},
        ["holds no recordings with texts", "a.json is JSON", "lines:PATH reads"],
    ),
    "LMDB": ("lines", "", {"data.mdb": "m", "lock.mdb": "l"}, ["data.mdb", "LMDB", LIST]),
    "LMDB of splits": ("lines", "", {"train/data.mdb": "m"}, ["train/data.mdb", "LMDB", LIST]),
    "LMDB's file": ("lines", "data.mdb", {"data.mdb": b"\0\xff"}, ["data.mdb:1", "LMDB", LIST]),
    "Hugging Face, csv": (
        "lines", "", {"metadata.csv": "file_name,text\na.png,x\n", "a.png": "p"},
        ["metadata.csv", "Hugging Face", TABS],
    ),
    "Hugging Face, JSON lines": (
        "lines", "", {"train/metadata.jsonl": '{"file_name": "a.png", "text": "x"}\n', "train/a.png": "p"},
        ["train/metadata.jsonl", "Hugging Face", LIST],
    ),
    "Hugging Face's table": (
        "lines", "metadata.csv", {"metadata.csv": "file_name,text\na.png,x\n", "a.png": "p"},
        ["metadata.csv:1", "got 0", "Hugging Face", TABS],
    ),
    "Hugging Face's disk": (
        "lines", "", {"data-00000-of-00001.arrow": "a", "state.json": "{}"}, [".json", "JSON", LIST],
    ),
    "Parquet": ("lines", "", {"train-0.parquet": "PAR1"}, ["train-0.parquet", "Parquet", LIST]),
    "ALTO": ("lines", "", {"p1.png": "p", "p1.xml": ALTO}, ["p1.xml", "ALTO", "into lines", LIST]),
    "PAGE": (
        "lines", "", {"p1.png": "p", "page/p1.xml": PAGE}, ["p1.xml", "PAGE XML", "into lines", LIST]
    ),
    "hOCR": (
        "lines", "", {"p.png": "p", "p.hocr": "<span class='ocrx_word'>"}, ["p.hocr", "hOCR", LIST],
    ),
    "IAM": (
        "lines", "", {"ascii/lines.txt": IAM, "lines/a01/a01-000u/a01-000u-00.png": "p"},
        ["lines.txt", "IAM", LIST],
    ),
    "IAM's list": ("lines", "lines.txt", {"lines.txt": IAM}, ["lines.txt:1", "got 0", "IAM", LIST]),
    "PaddleOCR": (
        "lines", "", {"rec_gt_train.txt": "train/1.jpg\tx\n", "train/1.jpg": "p"},
        ["rec_gt_train.txt is a list", "name it as lines:"],
    ),
    "PaddleOCR, from above": (
        "lines", "rec/list.txt", {"rec/list.txt": "rec/train/1.jpg\tx\n", "rec/train/1.jpg": "p"},
        ["list.txt:1", "there is no file", "from the folder of the list"],
    ),
    "PaddleOCR's boxes": (
        "lines", "Label.txt", {"Label.txt": BOXES, "a.png": "p"},
        ["Label.txt has no texts", "PaddleOCR with boxes", LIST],
    ),
    "PaddleOCR's folder": (
        "lines", "", {"Label.txt": BOXES, "a.png": "p"}, ["Label.txt", "PaddleOCR with boxes", LIST],
    ),
    "a list beside its pictures": (
        "lines", "", {"gt.txt": "a.png\tx\n", "a.png": "p"}, ["gt.txt is a list", "name it as lines:"],
    ),
    "csv": ("lines", "l.csv", {"l.csv": "a.png,x\n", "a.png": "p"}, ["l.csv:1", "got 0", "csv", TABS]),
    "csv by another name": (
        "lines", "l.txt", {"l.txt": "a.png,x\n", "a.png": "p"}, ["l.txt:1", "got 0", "commas", TABS],
    ),
    "semicolons": ("lines", "l.txt", {"l.txt": "a.png;x\n"}, ["l.txt:1", "semicolons", TABS]),
    "blanks": ("lines", "l.txt", {"l.txt": "a.png one, two\n"}, ["l.txt:1", "got 0", LIST]),
    "json": ("lines", "l.json", {"l.json": '[{"file": "a.png"}]'}, ["l.json:1", "JSON", LIST]),
    "a header": (
        "lines", "l.tsv", {"l.tsv": "file_name\ttext\na.png\tx\n", "a.png": "p"},
        ["l.tsv:1", "there is no file", "/file_name", "is line 1 a header?"],
    ),
    "no suffixes": (
        "recordings", "l.tsv", {"l.tsv": "LJ001-0001\tx\n", "LJ001-0001.wav": "w"},
        ["there is no file", "LJ001-0001, but LJ001-0001.wav", "with their suffix"],
    ),
    "columns of another order": (
        "lines", "l.tsv", {"l.tsv": "x\ta.png\n", "a.png": "p"}, ["there is no file", "second column"],
    ),
    "a long text first": (
        "lines", "l.tsv", {"l.tsv": f"{'word ' * 99}\ta.png\n"}, ["there is no file", "header"],
    ),
    "in a subfolder": (
        "recordings", "l.tsv", {"l.tsv": "1.wav\tx\n", "clips/1.wav": "w"},
        ["there is no file", ", but clips/1.wav", "from the folder of the list"],
    ),
    "Windows": (
        "lines", "l.tsv", {"l.tsv": "p\\a.png\tx\n", "p/a.png": "p"}, ["there is no file", "by /"],
    ),
    "a picture": ("lines", "a.png", {"a.png": b"\x89PNG\r\n"}, ["a.png:1", "one of the pictures"]),
    "nothing": ("lines", "", {}, ["holds no pictures with texts", "it is empty", LIST]),
    "only a README": ("lines", "", {"README.txt": "r"}, ["1 .txt", LIST]),
    "something else": (
        "lines", "", {"a.doc": "d", "b.doc": "d", "notes": "n"}, ["2 .doc, 1 notes", LIST],
    ),
    "pictures without texts": (
        "lines", "", {"a.png": "p", "a.pred.txt": "x"},
        ["a.png has no text: a.txt is missing", "a.pred.txt lies there and is not read"],
    ),
    "another format": (
        "lines", "", {"a.psd": "h", "a.txt": "x"},
        ["a.txt has no file", "a.psd lies there", "save it as .png"],
    ),
    "a PDF": ("lines", "", {"a.pdf": "p", "a.txt": "x"}, ["a.pdf lies there", "PDF", "cut out"]),
    "capitals": ("lines", "", {"a.png": "p", "A.txt": "x"}, ["a.png has no text: a.txt", "A.txt lies there", "capitals"]),
    "the validation split": (
        "lines?validation", "", {"train/a.png": "p", "train/a.txt": "x", "dev/b.png": "p"},
        ["neither of validation and validation.tsv", "call dev validation"],
    ),
    "a short list": (
        "lines?validation", "l.tsv", {"l.tsv": "a.png\tx\n", "a.png": "p"},
        ["none of the 1 lines", "'validation'", "larger held_out="],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_lies_there_is_said_in_one_sentence(tmp_path, layout):
    prefix, path, files, parts = LAYOUTS[layout]
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    prefix, _, split = prefix.partition("?")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        catalog.open_source(
            f"{prefix}:{folder / path}", split or "train", tmp_path, residency="memory"
        )
    message = str(error.value)
    for part in (str(folder), *parts):
        assert part in message, message
    assert "\n" not in message
    assert "0 lines" not in message
    assert not message.endswith(".")
    assert len(message) < 700, message


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to("gone.png")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"a.txt has no file: .*; a.png .* link to a file that"):
        catalog.open_source(f"lines:{tmp_path}", "train", tmp_path, residency="memory")
