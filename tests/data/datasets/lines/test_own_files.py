"""A user's own files: how they are named, divided and read, and what is said of wrong ones."""

import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from rcnn_jax.data import catalog, sources
from rcnn_jax.data.datasets.lines import own_files
from rcnn_jax.data.datasets.lines.own_files import SPLITS, pictures, split_of
from rcnn_jax.data.encoders.transcripts import Transcripts
from rcnn_jax.data.records import code_digest
from rcnn_jax.data.text.alphabet import decoded


def picture(path, width=9):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, width), 250, np.uint8)).save(path)


def opened(root, name="lines:mine", split="train", residency="memory"):
    return catalog.open_source(name, split, root, residency=residency)


def texts(source):
    return [decoded(source[index]["text"]) for index in range(len(source))]


@pytest.fixture
def folder(tmp_path):
    """Three pictures in sub-folders of one's own making, and their texts."""
    for number, name in enumerate(("p1/a.png", "p1/b.v2.JPG", "p2/a.png")):
        picture(tmp_path / "mine" / name, width=9 + number)
    for name, text in (("p1/a.txt", "über\r\n"), ("p1/b.v2.gt.txt", " a b \n"), ("p2/a.txt", "ß")):
        (tmp_path / "mine" / name).write_bytes(text.encode())
    return tmp_path / "mine"


def divided(folder):
    """The same, as `train` and `test`."""
    (folder / "p1").rename(folder / "train")
    (folder / "p2").rename(folder / "test")


def test_a_folder_that_is_divided(folder):
    divided(folder)
    source = opened(folder.parent)
    assert texts(source) == ["über", "a b"]
    assert [source[i]["image"].shape for i in (0, 1)] == [(6, 9, 1), (6, 10, 1)]
    assert texts(opened(folder.parent, split="test")) == ["ß"]
    assert texts(opened(folder.parent, name=f"lines:{folder}", split="test")) == ["ß"]
    with pytest.raises(FileNotFoundError, match=r"holds neither of validation and validation.tsv"):
        opened(folder.parent, split="validation")
    (folder / "test.tsv").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"mine is divided .* both of test and test.tsv"):
        opened(folder.parent, split="test")


def test_records_hold_the_same_and_are_made_anew_when_a_text_changes(folder):
    divided(folder)
    for again in ("über", "changed"):
        (folder / "train" / "a.txt").write_text(again, encoding="utf-8")
        source = opened(folder.parent, residency="stream")
        assert texts(source) == [again, "a b"]
    np.testing.assert_array_equal(source[1]["image"], opened(folder.parent)[1]["image"])
    assert decoded(source[1]["file"]).endswith("train/b.v2.gt.txt")


def test_what_a_picture_of_lines_is(tmp_path, monkeypatch):
    """Bright ink by its own evidence, whether it was inverted, and one look at its file."""
    page = np.full((6, 9), 110, np.uint8)
    page[2:4, 3:5] = 20
    train = tmp_path / "mine" / "train"
    train.mkdir(parents=True)
    for name, grey in (("a", page), ("b", 255 - page)):
        Image.fromarray(grey).save(train / f"{name}.png")
        (train / f"{name}.txt").write_text(name)
    spec = catalog.load_spec("lines:mine")
    assert spec.version == "1.1.0"
    assert list(spec.release_notes) == ["1.1.0"]
    looks = []
    whole = own_files.read_grey
    monkeypatch.setattr(own_files, "read_grey", lambda path: looks.append(path) or whole(path))
    for residency in ("memory", "stream"):
        source = opened(tmp_path, residency=residency)
        del looks[:]
        own_files._picture_once.cache_clear()
        for index, inverted in ((0, 1), (1, 0)):
            example = source[index]
            np.testing.assert_array_equal(example["image"][..., 0], 255 - page)
            assert example["inverted"] == inverted
            assert example["inverted"].dtype == np.uint8
        assert len(looks) == (2 if residency == "memory" else 0)
    read = spec.read_file(train / "a.png")
    assert read.keys() == {"image", "inverted"}
    read["image"][:] = 0  # the caller's own
    Image.fromarray(255 - page).save(train / "a.png")
    assert spec.read_file(train / "a.png")["inverted"] == 0
    np.testing.assert_array_equal(source[0]["image"][..., 0], 255 - page)


def test_a_hash_of_the_name_divides_what_is_not(tmp_path):
    names = [f"{number}.png" for number in range(60)]
    for name in names:
        picture(tmp_path / "mine" / name)
        (tmp_path / "mine" / name).with_suffix(".txt").write_text(name)
    found = {split: texts(opened(tmp_path, split=split)) for split in SPLITS}
    assert sorted(text for own in found.values() for text in own) == sorted(names)
    for split, own in found.items():
        assert own
        assert all(split_of(name.removesuffix(".png"), 0.1) == split for name in own)
    # A list of the same files divides them in the same way.
    lines = "".join(f"mine/{name}\t{name}\n" for name in names)
    (tmp_path / "mine.tsv").write_text(lines)
    (tmp_path / "mine" / "all.tsv").write_text(lines.replace("mine/", ""))
    for split, own in found.items():
        assert sorted(texts(opened(tmp_path, "lines:mine/all.tsv", split))) == sorted(own)
    shares = [split_of(f"page{number}", 0.2) for number in range(2000)]
    assert 360 < shares.count("test") < 440
    assert 360 < shares.count("validation") < 440
    assert len(pictures("mine.tsv", held_out=0).read(tmp_path, "train")["image"]) == 60
    with pytest.raises(ValueError, match=r"none of the 60 lines of .*mine.tsv belongs to 'test'"):
        pictures("mine.tsv", held_out=0).read(tmp_path, "test")


def test_lists(tmp_path):
    picture(tmp_path / "pictures" / "a.png")
    folder = tmp_path / "mine"
    folder.mkdir()
    train = folder / "train.tsv"
    train.write_bytes("\ufeff../pictures/a.png\tein Wort \r\n../pictures/a.png\t2\n".encode())
    source = opened(tmp_path)
    assert texts(source) == ["ein Wort", "2"]
    encoder = Transcripts(alphabet="einWort ")
    with pytest.raises(ValueError, match=r"'2' .* at position 0 of .*train.tsv:2 \(line 1 of"):
        encoder.fit(source)
    for content, says in (
        (b"../pictures/a.png\tx\n../pictures/a.png x\n", ":2: one tab .* got 0"),
        (b"../pictures/a.png\tx\ty", ":1: one tab .* got 2"),
        (b"\n../pictures/a.png\tx\n../pictures/a.png\n", ":3: one tab .* got 0"),
        (b"../pictures/a.png\t \n", ":1: the text is empty"),
        (b"../pictures/a.png\tab\xe4\n", r":1: byte 20 \(0xe4\) is no UTF-8"),
        (b"../pictures/b.png\tx\n", ":1: there is no file .*b.png"),
        (b"", "holds no line"),
    ):
        train.write_bytes(content)
        with pytest.raises(ValueError, match=f"train.tsv ?{says}") as error:
            opened(tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p1/a.txt", None, r"p1/a.png has no text: a.txt is missing"),
        ("p2/a.png", None, r"p2/a.txt has no file: a with one of the ends .png,"),
        ("p1/A.TXT", b"x", r"p1/A.TXT has no file: A with one of .*; a.png lies .* in capitals"),
        ("p1/a.TXT", b"x", r"p1/a.TXT and .*p1/a.txt are texts of the same file"),
        ("p1/a.txt", b"\n", r"p1/a.txt: the text is empty"),
        ("p1/a.txt", b"a\nb", r"p1/a.txt:2: the text of one line was expected"),
        ("p1/a.txt", b"a\xff", r"p1/a.txt: byte 1 \(0xff\) is no UTF-8"),
        ("p1/a.png", b"", r"p1/a.txt: .*p1/a.png is empty"),
        ("p1/a.png", b"GIF89a", r"p1/a.txt: .*p1/a.png cannot be read as a picture"),
    ],
)
def test_what_is_wrong_with_a_folder(folder, name, content, says):
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        Transcripts().fit(
            sources.ArraySource(pictures("mine", held_out=0).read(folder.parent, "train"))
        )
    assert "\n" not in str(error.value)


def test_what_cannot_be_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder and no list .*--data_dir"):
        opened(tmp_path, "lines:nowhere")
    with pytest.raises(ValueError, match=r"held_out in \[0, 0.5\), got 'a' and 0.5"):
        pictures("a", held_out=0.5)
    with pytest.raises(ValueError, match=r"by path .lines:PATH, recordings:PATH.* mean 'lines'"):
        opened(tmp_path, "linse")


def test_recordings(tmp_path):
    train = tmp_path / "mine" / "train"
    train.mkdir(parents=True)
    sound = (9_000 * np.sin(np.arange(8_000) / 3)).astype(np.int16)
    scipy.io.wavfile.write(train / "a.wav", 16_000, sound)
    (train / "a.txt").write_text("one")
    source = opened(tmp_path, "recordings:mine", residency="stream")
    assert source[0]["frames"].shape == (50, 80)
    spec = catalog.load_spec("recordings:mine")
    read = spec.read_file(train / "a.wav")
    assert read.keys() == {"frames"}
    np.testing.assert_array_equal(read["frames"], source[0]["frames"])
    encoder = Transcripts()
    assert encoder.bind(encoder.fit(source)).wrap(source)[0]["length"] == 50
    (train / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a.txt: .*a.wav cannot be read as a wav file"):
        opened(tmp_path, "recordings:mine")


def test_one_channel_of_recordings_is_read_wherever_they_are(tmp_path, capsys):
    """By the source of training, the records of a stream, and the reader of a single file."""
    train = tmp_path / "mine" / "train"
    train.mkdir(parents=True)
    sound = (9_000 * np.sin(np.arange(8_000) / 3)).astype(np.int16)
    scipy.io.wavfile.write(train / "a.wav", 16_000, sound)
    (train / "a.txt").write_text("one")
    expected = opened(tmp_path, "recordings:mine")[0]["frames"]
    both = np.stack([sound[::-1], sound, 0 * sound], axis=1)
    scipy.io.wavfile.write(train / "a.wav", 16_000, both)
    found = {}
    for channel in ("mean", "left", "0", "right", "1"):
        name = f"recordings:mine?channel={channel}"
        found[channel] = catalog.load_spec(name).read_file(train / "a.wav")["frames"]
        for residency in ("memory", "stream") if channel in ("mean", "right") else ("memory",):
            stored = opened(tmp_path, name, residency=residency)[0]["frames"]
            np.testing.assert_array_equal(stored, found[channel])
    np.testing.assert_array_equal(found["right"], expected)
    np.testing.assert_array_equal(found["right"], found["1"])
    np.testing.assert_array_equal(found["left"], found["0"])
    assert np.abs(found["left"] - expected).max() > 0.1
    assert np.abs(found["mean"] - expected).max() > 0.1
    warnings = capsys.readouterr().err.splitlines()
    assert warnings
    assert all("a.wav: averaging its 3 channels" in line for line in warnings)
    with pytest.raises(ValueError, match=r"a\.txt: .*a\.wav has 3 channels, .* no channel 3"):
        opened(tmp_path, "recordings:mine?channel=3")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("bins=128", "bins=128: at rate=16000 there are 3 to 126 bands"),
        ("rate=8000&bins=96", "bins=96: at rate=8000 there are 3 to 95 bands"),
        ("bins=0", "bins=0: at rate=16000 there are 3 to 126 bands"),
        ("rate=0", "rate=0 is no sampling rate"),
        ("channel=middle", "channel=middle is no channel: allowed are mean, left, right and a"),
    ],
)
def test_wrong_options_are_named_before_a_file_is_read(tmp_path, options, says):
    with pytest.raises(ValueError, match=f"^recordings:nowhere: {says}"):
        opened(tmp_path, f"recordings:nowhere?{options}")


def test_warnings_about_recordings_do_not_move_their_records(tmp_path):
    """Records lie under a digest of the code, to which what was warned of does not belong."""
    sound = (9_000 * np.sin(np.arange(8_000) / 3)).astype(np.int16)
    scipy.io.wavfile.write(tmp_path / "a.wav", 16_000, np.stack([sound, -sound], axis=1))
    (tmp_path / "a.txt").write_text("one")
    spec = catalog.load_spec(f"recordings:{tmp_path}?held_out=0")
    before = code_digest.code_digest(spec.read)
    assert spec.columns(tmp_path, "train")["frames"][0].shape == (50, 80)
    assert code_digest.code_digest(spec.read) == before
