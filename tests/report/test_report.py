"""From training to the page by the doors: lines, their pictures, and the file that shows both."""

import base64
import json
import re
import sys
import types
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from rcnn_jax import evaluate
from rcnn_jax.data.encoders.base import EncodedSource
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.transforms import chain
from rcnn_jax.models.transcriber import Transcriber
from rcnn_jax.tasks import transcription

pytestmark = pytest.mark.one_row

FORK = """
import numpy as np
from rcnn_jax.data.spec import DatasetSpec, Feature

TEXTS = ["ab", "b", "<b>&", "ba", "aa"]


def picture(text):
    rng = np.random.default_rng(len(text))
    return rng.integers(0, 256, (7, 4 + 3 * len(text), 1)).astype(np.uint8)


LINES = DatasetSpec(
    name="marks", version="1.0.0",
    features={"image": Feature((None, None, 1), "uint8"), "text": Feature((None,), "uint8")},
    splits={"train": 5, "test": 5}, files=lambda root, split: [],
    read=lambda root, split: {
        "image": [picture(text) for text in TEXTS],
        "text": [np.frombuffer(text.encode(), np.uint8) for text in TEXTS],
    },
)
"""
CONFIG = """
def get_config():
    return {
        "data": {"name": "fork:LINES", "residency": "memory", "preprocess": "to_float(255)",
                 "validation": "test"},
        "encoder": {"name": "rcnn_jax.data.encoders.transcripts:Transcripts", "height": 4},
        "task": {"name": "rcnn_jax.tasks.transcription:Transcription"},
        "model": {"name": "rcnn_jax.models.transcriber:Transcriber", "features": (2,),
                  "pools": ((2, 1),), "hidden": 2, "layers": 1, "cell": "elman"},
        "best_metric": "cer", "steps": 2, "log_every": 1, "batch_size": 5,
        "evaluation_batch_size": 5, "optimizer": {"momentum": 0.0},
    }
"""


def test_a_run_is_evaluated_and_shown_with_its_pictures(door, tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    (tmp_path / "lines.py").write_text(CONFIG)
    result = door("train", "--config=lines.py", "--workdir=run")
    assert result.returncode == 0, result.stderr
    result = door("report", "--workdir=run")
    assert (result.returncode, result.stdout) == (0, "written to run/report.html\n"), result.stderr
    page = (tmp_path / "run/report.html").read_text()
    assert "python -m rcnn_jax.evaluate --workdir=run" in page
    assert page.count('class="curve"') >= 8
    assert "<img" not in page

    gallery = tmp_path / "run/gallery/test"
    gallery.mkdir(parents=True)
    (gallery / "77.png").write_bytes(b"of an earlier evaluation")
    result = door("evaluate", "--workdir=run", "--output=run/evaluation_test.json")
    assert (result.returncode, result.stderr) == (0, "")
    made = {}
    exec(FORK, made)
    assert {file.name for file in gallery.iterdir()} == {f"{n}.png" for n in range(5)}
    # As the data set stores them: seven pixels high, though the model reads four.
    for number, text in enumerate(made["TEXTS"]):
        kept = np.asarray(Image.open(gallery / f"{number}.png"))
        np.testing.assert_array_equal(kept, made["picture"](text)[..., 0])
    lines = json.loads((tmp_path / "run/evaluation_test.json").read_text())["details"]["lines"]
    assert {row["example"]: row["reference"] for row in lines} == dict(enumerate(made["TEXTS"]))

    # A page elsewhere, of an evaluation where there was no Pillow: its pictures stay.
    (tmp_path / "PIL.py").write_text("raise ImportError('no such thing here')")
    result = door("evaluate", "--workdir=run", "--split=train")
    assert result.returncode == 0, result.stderr
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("warning: no pictures were saved for the report (no such thing here)")
    assert json.loads((tmp_path / "run/evaluation.json").read_text())["split"] == "train"
    result = door("report", "--workdir=run", "--output=page.html")
    assert (result.returncode, result.stderr) == (0, "")
    page = (tmp_path / "page.html").read_text()
    found = re.findall(r'src="data:image/png;base64,([^"]+)" alt="example (\d)"', page)
    assert sorted(number for _, number in found) == list("01234")
    for content, number in found:
        assert base64.b64decode(content) == (gallery / f"{number}.png").read_bytes()
    assert "Evaluation: train" in page
    assert page.count("&lt;b&gt;&amp;") == 2
    assert "<b>&" not in page


def test_what_is_no_run_is_one_sentence(door, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text('{"seed": 3}')
    for arguments, parts in [
        (["--workdir=nowhere"], ["--workdir=nowhere is no folder"]),
        (["--workdir=file"], ["--workdir=file is no folder"]),
        (["--workdir=empty"], ["holds no run", "config.json", "sweep.json"]),
        (["--workdir=run", "--output=nowhere/page.html"], ["nowhere/page.html", "--output"]),
    ]:
        result = door("report", *arguments)
        (line,) = result.stderr.splitlines()
        assert (result.returncode, result.stdout) == (1, "")
        assert all(part in line for part in parts)
    assert not list((tmp_path / "empty").iterdir())


def test_lines_that_were_read_wrong_come_first():
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    model = Transcriber(3, features=(2,), pools=((2, 1),), hidden=2, layers=1, cell="elman")
    task = transcription.Transcription(model=model, alphabet=("a", "b"), **chains)

    def pair(mask, right):
        size = len(mask)
        ids = np.ones((size, 1), np.int32)
        counts = np.ones(size, np.int32)
        batch = {
            "mask": np.array(mask),
            "labels": ids,
            "label_length": counts,
            "length": counts * 9,
        }
        answers = np.where(right, 1, 2).astype(np.int32).reshape(size, 1, 1)
        shares = np.linspace(0, 1, size, dtype=np.float32)[:, None]
        return {"labels": answers, "label_lengths": counts[:, None], "confidences": shares}, batch

    # The second could not be read, and the last two are padding.
    lines = task.tables([pair([1, 0, 1], [1, 0, 0]), pair([1, 0, 0], [0, 0, 0])])["lines"]
    assert [(row["example"], row["text"]) for row in lines] == [(2, "b"), (3, "b"), (0, "a")]
    assert lines[0] == {"example": 2, "text": "b", "reference": "a", "confidence": 1.0}
    many = task.tables([pair(np.ones(100), np.arange(100) % 50 < 30)])["lines"]
    numbers = [row["example"] for row in many]
    assert numbers == [*range(30, 50), *range(80, 100), *range(8)]
    assert len(many) == transcription.SHOWN_LINES


def test_pictures_are_taken_before_an_encoder_changed_them():
    source = ArraySource({"image": np.zeros((2, 3, 3, 1), np.uint8)})
    wrapped = EncodedSource(source, lambda example, index: example, source.features)
    for run, expected in [
        (types.SimpleNamespace(encoding=None, source=source), source),
        (types.SimpleNamespace(encoding=object(), source=wrapped), source),
    ]:
        assert evaluate.original_examples(run, "test", None) is expected


def test_a_gallery_that_cannot_be_written_is_a_warning(tmp_path, capsys):
    source = ArraySource({"image": np.zeros((2, 3, 3, 1), np.uint8)})
    run = types.SimpleNamespace(encoding=None, source=source)
    result = {"split": "test", "details": {"rows": [{"example": 1}]}}
    (tmp_path / "gallery").touch()
    evaluate.save_gallery(run, tmp_path, "test", None, result)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: pictures in {tmp_path / 'gallery'} were not saved")
    with mock.patch.dict(sys.modules, {"PIL": None}):
        evaluate.save_gallery(run, tmp_path, "test", None, {"split": "test", "details": {}})
    assert capsys.readouterr().err == ""
