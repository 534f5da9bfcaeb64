"""Answers for files: lines of text, classes of images, masks, and what is wrong with files."""

import json

import numpy as np
import pytest
from PIL import Image

from rcnn_jax import predict
from rcnn_jax.data.catalog import load_spec
from rcnn_jax.errors import UserError
from rcnn_jax.output import predicted

pytestmark = pytest.mark.one_row

FORK = """
import dataclasses
import io

import numpy as np
from PIL import Image
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.data.files.line_images import read_picture
from rcnn_jax.data.spec import DatasetSpec, Feature

GLYPHS = {"a": (9, 0, 0, 9), "b": (0, 9, 9, 0), "\\u00e9": (9, 9, 0, 0)}
TEXTS = ["ab", "b", "a\\u00e9b", "\\u00e9a", "bba", "\\u00e9"]


def picture(text):
    columns = [(0, 0, 0, 0)]
    for letter in text:
        columns += [GLYPHS[letter], GLYPHS[letter], (0, 0, 0, 0)]
    return (np.array(columns, np.uint8).T * 28)[..., None]


def read(root, split):
    texts = TEXTS * (6 if split == "train" else 1)
    return {
        "image": [picture(text) for text in texts],
        "text": [np.frombuffer(text.encode(), np.uint8) for text in texts],
    }


LINES = DatasetSpec(
    name="marks", version="1.0.0",
    features={"image": Feature((None, None, 1), "uint8"), "text": Feature((None,), "uint8")},
    splits={"train": 36, "validation": 6, "test": 6},
    files=lambda root, split: [], read=read,
    read_file=lambda path: {"image": read_picture(path)},
)


def read_shades(root, split):
    label = np.arange(40, dtype=np.int32) % 3
    image = np.random.default_rng(0).integers(0, 60, (40, 4, 5, 3)).astype(np.uint8)
    image[np.arange(40), ..., label] += 180
    return {"image": image, "label": label}


SHADES = DatasetSpec(
    name="shades", version="1.0.0",
    features={
        "image": Feature((4, 5, 3), "uint8"),
        "label": Feature((), "int32", classes=("red", "green", "blue")),
    },
    splits={"train": 40, "validation": 40, "test": 40},
    files=lambda root, split: [], read=read_shades,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithMasks(Classification):
    def predict(self, params, model_state, batch):
        bright = batch["image"].max(axis=-1) > 127
        return {**super().predict(params, model_state, batch), "bright": bright}

    def files(self, predicted, features, n_best):
        found = []
        for mask in predicted["bright"]:
            content = io.BytesIO()
            Image.fromarray(mask.astype(np.uint8) * 255).save(content, format="png")
            found.append({"mask.png": content.getvalue(), "bright.txt": b"%d" % mask.sum()})
        return found
"""
CONFIG = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.batch_size = 12
    config.evaluation_batch_size = 8
    config.steps = STEPS
    config.evaluate_every = STEPS
    config.optimizer = {"name": "adam"}
    config.schedule = {"value": 0.03}
    config.update(ConfigDict(SECTIONS))
    return config
"""
LINES = {
    "data": {"name": "fork:LINES", "residency": "memory", "preprocess": "to_float(255)"},
    "encoder": {"name": "rcnn_jax.data.encoders.transcripts:Transcripts"},
    "task": {"name": "rcnn_jax.tasks.transcription:Transcription"},
    "model": {
        "name": "rcnn_jax.models.transcriber:Transcriber", "features": (8,), "pools": ((2, 1),),
        "hidden": 8, "layers": 1, "cell": "elman",
    },
    "best_metric": "cer",
}  # fmt: skip
SHADES = {
    "data": {"name": "fork:SHADES", "residency": "memory", "preprocess": "to_float(255)"},
    "model": {
        "name": "rcnn_jax.models.fully_connected:FullyConnected", "classes": 3, "hidden": (6,),
        "dropout": 0.0, "input_dropout": 0.0, "activation": "relu",
    },
}  # fmt: skip

NOTEBOOK = """
import json
import numpy as np
import rcnn_jax
import fork

del fork.SHADES
images = np.array([[20, 220, 30], [30, 10, 210]])[:, None, None] * np.ones((2, 4, 5, 3), int)
print(json.dumps(rcnn_jax.load("run").answers(images)))
"""

BY_SIZE = """
import json
import pathlib
from rcnn_jax import predict
from rcnn_jax.configuration import loading
from rcnn_jax.data import grouping

shapes = []
find = grouping.groups


def groups(lengths, **options):
    found = find(lengths, **options)
    shapes.append([(group.rows, group.length) for group in found])
    return found


grouping.groups = groups
config = loading.for_evaluation("run/config.json")
run, files = pathlib.Path("run"), [pathlib.Path(f"w{n}.png") for n in range(4)]


def answers(*files):
    return [[each.name, each.answers[0]] for each in predict.predict(config, run, files)]


together = answers(*files)
[alone] = answers(files[3])
print(json.dumps([shapes, together, alone]))
"""


@pytest.fixture
def trained(door, tmp_path):
    """Trains on one of the data sets; the folder then holds what a user has."""

    def train(sections, steps):
        (tmp_path / "fork.py").write_text(FORK, encoding="utf-8")
        text = CONFIG.replace("SECTIONS", repr(sections)).replace("STEPS", str(steps))
        (tmp_path / "config.py").write_text(text)
        result = door("train", "--config=config.py", "--workdir=run")
        assert result.returncode == 0, result.stderr
        return tmp_path

    return train


def picture(text):
    made = {}
    exec(FORK, made)  # what the run itself was trained on
    return made["picture"](text)[..., 0]


def test_small_probabilities_are_not_nothing():
    assert [predict._number(v) for v in (0.0, 1.0, 0.25, 2.8e-12)] == [
        "0.0000", "1.0000", "0.2500", "2.8e-12",
    ]  # fmt: skip


def test_lines_are_read_as_the_run_read_its_own(door, trained):
    """Dark on white, twice as large, in colours; with damaged files between them."""
    folder = trained(LINES, 120)
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "run" / "evaluation.json").read_text())
    assert found["metrics"]["cer"] == 0
    assert found["metrics"]["sequence_accuracy"] == 1
    assert found["details"]["confusions"] == found["details"]["without_loss"] == []
    assert sum(row["lines"] for row in found["details"]["calibration"]) == 6

    Image.fromarray(picture("aéb")).save(folder / "1.png")
    Image.fromarray(255 - picture("ba")).save(folder / "2.png")
    large = np.kron(picture("b"), np.ones((2, 2), np.uint8))
    Image.fromarray(large).convert("RGB").save(folder / "3.png")
    (folder / "4.png").write_bytes((folder / "1.png").read_bytes()[:60])
    (folder / "5.png").write_bytes(b"")
    files = [f"{n}.png" for n in (1, 4, 2, 5, 3, 6)]
    result = door("predict", "--workdir=run", "--format=jsonl", "--n_best=3", *files)
    assert result.returncode == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["file"], row["text"]) for row in rows] == [
        ("1.png", "aéb"), ("2.png", "ba"), ("3.png", "b"),
    ]  # fmt: skip
    for row in rows:
        assert row["n_best"][0] == {"text": row["text"], "confidence": row["confidence"]}
        shares = [answer["confidence"] for answer in row["n_best"]]
        assert shares == sorted(shares, reverse=True)
        assert len({answer["text"] for answer in row["n_best"]}) == len(shares) == 3
        assert 0 < sum(shares) <= 1 + 1e-5
    warnings = result.stderr.splitlines()
    assert len(warnings) == 4
    for name, line in zip(("4.png", "5.png", "6.png"), warnings, strict=False):
        assert line.startswith(f"warning: left out: {name}")
    assert warnings[3] == "warning: 3 of 6 files could not be read"

    # Alone it gets the same answer, though it was one of a batch of other widths.
    result = door("predict", "--workdir=run", "2.png")
    assert (result.returncode, result.stderr) == (0, "")
    head, _, row = result.stdout.splitlines()
    assert head.split() == ["file", "text", "confidence"]
    assert row.split()[:2] == ["2.png", "ba"]
    assert float(row.split()[2]) == pytest.approx(rows[1]["confidence"], abs=2e-4)

    # Files of several sizes are several batches; the answers are in order, and the same as alone.
    lines = ["ba", "aéb" * 9, "bb", "é"]
    for number, text in enumerate(lines):
        Image.fromarray(picture(text)).save(folder / f"w{number}.png")
    (folder / "by_size.py").write_text(BY_SIZE)
    result = door(folder / "by_size.py")
    assert result.returncode == 0, result.stderr
    shapes, rows, (name, answer) = json.loads(result.stdout)
    assert shapes == [[[3, 7], [1, 82]], [[1, 4]]]
    assert [name for name, _ in rows] == [f"w{number}.png" for number in range(4)]
    assert [rows[number][1]["text"] for number in (0, 2, 3)] == ["ba", "bb", "é"]
    confidence = pytest.approx(answer["confidence"], abs=1e-5)
    assert rows[3] == [name, answer | {"confidence": confidence}]

    result = door("predict", "--workdir=run")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "error: no files are named: python -m rcnn_jax.predict --workdir=DIR FILE...\n"
    )


def test_pictures_of_any_size_are_classified(door, trained):
    folder = trained(SHADES, 40)
    Image.new("RGB", (50, 40), (20, 220, 30)).save(folder / "leaf.png")
    Image.new("RGBA", (5, 4), (30, 10, 210, 255)).save(folder / "sea.png")
    result = door("predict", "--workdir=run", "--n_best=2", "leaf.png", "sea.png")
    assert (result.returncode, result.stderr) == (0, "")
    head, _, *rows = (line.split() for line in result.stdout.splitlines())
    assert head == ["file", "rank", "class", "probability"]
    assert [row[:3] for row in rows[::2]] == [["leaf.png", "1", "green"], ["sea.png", "1", "blue"]]
    assert [row[0] for row in rows[1::2]] == ["2", "2"]
    assert all(float(row[-1]) > 0.5 for row in rows[::2])

    # In Python the same, from what training wrote of the data set alone.
    facts = json.loads((folder / "run" / "data.json").read_text())
    assert facts["features"]["label"]["classes"] == ["red", "green", "blue"]
    (folder / "notebook.py").write_text(NOTEBOOK)
    result = door(folder / "notebook.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [
        [{"class": name, "probability": pytest.approx(float(row[-1]), abs=1e-4)}]
        for name, row in zip(("green", "blue"), rows[::2], strict=True)
    ]


def test_masks_are_written_beside_the_answers(door, trained):
    """As PNG files, of two pictures of one name and of several batches; or a sentence says why."""
    folder = trained(SHADES | {"task": {"name": "fork:WithMasks"}}, 2)
    for place, (column, colour) in enumerate(((0, 255), (4, 255), (2, 0))):
        pixels = np.zeros((4, 5, 3), np.uint8)
        pixels[:, column] = colour
        (folder / str(place)).mkdir()
        Image.fromarray(pixels).save(folder / str(place) / "street.png")
    files = [f"{place}/street.png" for place in range(3)]
    options = ("--workdir=run", "--format=jsonl", "--config.evaluation_batch_size=2")
    result = door("predict", *options, "--output=new/masks/", *files)
    assert (result.returncode, result.stderr) == (0, "")
    masks = folder / "new" / "masks"
    stems = ("street", "street-2", "street-3")
    made = [f"{stem}_{name}" for stem in stems for name in ("mask.png", "bright.txt")]
    assert sorted(file.name for file in masks.iterdir()) == sorted([*made, "predictions.json"])
    for stem, bright in zip(stems, (0, 4, None), strict=True):
        mask = np.asarray(Image.open(masks / f"{stem}_mask.png"))
        want = np.zeros((4, 5), np.uint8)
        if bright is not None:
            want[:, bright] = 255
        np.testing.assert_array_equal(mask, want)
        assert (masks / f"{stem}_bright.txt").read_text() == ("0" if bright is None else "4")
    rows = json.loads((masks / "predictions.json").read_text())["predictions"]
    assert [row["file"] for row in rows] == files
    assert [name for row in rows for name in row["files"]] == made
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["answers"][0] | {"file": row["file"]} for row in rows] == shown

    # The same command again, into a folder that is there: the same files.
    before = {file.name: file.read_bytes() for file in masks.iterdir()}
    assert door("predict", *options, "--output=new/masks", *files).returncode == 0
    assert {file.name: file.read_bytes() for file in masks.iterdir()} == before

    (folder / "file").write_text("")
    for output, code, says in (
        ("masks.json", 2, "is a file, and fork:WithMasks makes files beside its answers: name a"),
        ("file/masks/", 1, "--output=file/masks/ cannot be written (Not a directory)"),
        ("nowhere/masks.json", 1, "--output=nowhere/masks.json cannot be written (No such file"),
    ):
        result = door("predict", *options, f"--output={output}", *files)
        assert (result.returncode, result.stdout) == (code, "")
        assert says in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (folder / "masks.json").exists()
    (masks / "street_mask.png").unlink()
    (masks / "street_mask.png").mkdir()
    result = door("predict", *options, "--output=new/masks", *files)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "street_mask.png cannot be written (Is a directory): name another" in result.stderr
    result = door("predict", *options, *files)
    assert result.returncode == 0
    assert "fork:WithMasks makes files, too: --output=FOLDER/ writes them" in result.stderr


@pytest.mark.parametrize("name", ["../mask.png", "a/mask.png", ""])
def test_a_task_knows_no_path(tmp_path, name):
    output = predicted.Output(f"{tmp_path}/", True)
    one = predicted.Prediction("a.png", "a", [], {name: b""})
    with pytest.raises(UserError, match="a name without folders"):
        list(output.written([one], []))


def test_names_of_examples_in_a_file_of_several(tmp_path):
    """Files of theirs overwrite neither each other nor the answers."""
    stems = [predicted.stem_of(tmp_path / "vgg.npz", name) for name in ("b/1.jpg", "b_1", "", "..")]
    assert stems == ["vgg_b_1", "vgg_b_1", "vgg", "vgg"]
    output = predicted.Output(f"{tmp_path}/", True)
    rows = []
    found = [predicted.Prediction(f"{i}", s, [], {"x": b"%d" % i}) for i, s in enumerate(stems)]
    found.append(predicted.Prediction("4", "vgg_b", [], {"1_x": b"4"}))
    assert list(output.written(iter(found), rows)) == found
    names = [row["files"] for row in rows]
    assert names == [["vgg_b_1_x"], ["vgg_b_1-2_x"], ["vgg_x"], ["vgg-2_x"], ["vgg_b-2_1_x"]]
    assert [(tmp_path / name).read_text() for [name] in names] == ["0", "1", "2", "3", "4"]


def test_a_digit_is_read_on_the_scale_of_the_data_set(tmp_path):
    """Dark on white and 10 times as large: 0 to 16 are counts of dots there, and not 0 to 255."""
    dots = np.zeros((8, 8))
    dots[:4, 4:], dots[4:, 4:] = 16, 8
    large = np.kron(255 - dots / 16 * 255, np.ones((10, 10))).astype(np.uint8)
    Image.fromarray(large).save(tmp_path / "digit.png")
    read = load_spec("digits").read_file(tmp_path / "digit.png")["image"]
    assert (read.shape, read.dtype) == ((8, 8, 1), np.uint8)
    inside = np.ix_([0, 1, 2, 5, 6, 7], [0, 1, 2, 5, 6, 7])  # the filter smooths the edges
    np.testing.assert_array_equal(read[..., 0][inside], dots[inside])
