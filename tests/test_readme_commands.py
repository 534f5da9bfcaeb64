"""Every command of the README is run: as it stands, but for few steps where it would take long."""

import pathlib
import shlex

import pytest
from PIL import Image

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.shapes.dataset import example

pytestmark = [pytest.mark.one_row, pytest.mark.faults]

README = pathlib.Path(__file__).parents[1] / "README.md"
# What is tried elsewhere, and why not here.
ELSEWHERE = {
    "bash launch/quickstart.sh": "installs; the recipe is trained by tests/test_recipes.py",
    "bash launch/test.sh": "runs these tests",
    "pip install -e .": "done by .ci/run, with what lint needs",
    "python launch/local.py": "tests/launch/test_local.py",
    "python -m rcnn_jax.sweep": "tests/test_sweep.py",
    "python -m rcnn_jax.figures": "tests/figures/test_figures.py measures smaller ones",
    "python -m rcnn_jax.train --config=mine.py": "tests/test_fork.py",
}
SHORT = ["--config.epochs=0", "--config.steps=2", "--config.evaluate_every=2"]
NARROW = ["--config.model.features=8", *SHORT, "--config.data.validation=validation[:20]"]
SCENES = [
    "--config.data.train=train[:24]",
    "--config.data.validation=validation[:4]",
    "--config.data.test=test[:4]",
    "--config.batch_size=8",
    "--config.evaluation_batch_size=4",
    "--config.model.hidden=12",
    "--config.model.backbone.features=4,4,4,4",
    "--config.decoding.max_steps=4",
    "--config.decoding.beam_width=1",
]
# What is added to a command, by how it begins.
ADDED = {
    "train --config=rcnn_digits": NARROW,
    "check --config=rcnn_digits": NARROW,
    "train --config=transcribe_digits": [
        *SHORT,
        "--config.data.train=train[:16]",
        "--config.data.validation=validation[:8]",
        "--config.batch_size=8",
        "--config.model.hidden=8",
        "--config.model.features=4,4,4",
    ],
    "train --config=caption_shapes": [*SHORT, *SCENES, "--config.model.features=8"],
    "evaluate": [],
    "iterations": ["--up_to=1", "--batches=1"],
    "predict": [],
    "report": [],
    "summary": [],
    "neighbours": [],
    "features": ["--weights=random"],
    "": [],
    "keys": [],
}


def commands():
    """The indented lines of the README that a shell runs, joined where a backslash ends them."""
    text = README.read_text().replace("\\\n", " ")
    lines = [line[4:] for line in text.split("\n") if line.startswith("    ")]
    starts = ("bash ", "python ", "pip ")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(starts)]


def is_elsewhere(words):
    return any(" ".join(words).startswith(known) for known in ELSEWHERE)


def test_what_is_tried_elsewhere_is_still_in_the_readme():
    known = [" ".join(words) for words in commands()]
    assert len(known) > 20
    for command in ELSEWHERE:
        assert any(line.startswith(command) for line in known), command


def test_every_other_command_runs_one_after_the_other(door, tmp_path):
    pictures = tmp_path / "FOLDER"
    pictures.mkdir()
    for number in range(2):
        scene = example(0, "test", number)["image"]
        Image.fromarray(scene).save(pictures / f"{number}.png")
    line = catalog.open_source("digit_lines", "test[:1]", residency="memory")[0]["image"]
    Image.fromarray(line[..., 0]).save(tmp_path / "line.png")
    ran = []
    for words in commands():
        if is_elsewhere(words):
            continue
        assert words[:2] == ["python", "-m"], words
        name = words[2].removeprefix("rcnn_jax").removeprefix(".")
        line = " ".join([name, *words[3:]]).strip() if name else " ".join(words[3:])
        added = max((key for key in ADDED if line.startswith(key)), key=len)
        arguments = [*words[3:], *ADDED[added]]
        if name == "":
            result = door(pathlib.Path("-m"), "rcnn_jax", *arguments, fresh=True)
        else:
            result = door(name, *arguments)
        assert result.returncode == 0, (words, result.stderr)
        ran.append(line)
    assert len(ran) >= 15


def test_it_is_short():
    assert len(README.read_text().split("\n")) <= 200
