"""Captioning through the doors: trained on shapes, evaluated, asked about a file."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from rcnn_jax import neighbours
from rcnn_jax.data.datasets.shapes.dataset import example
from rcnn_jax.errors import UserError
from rcnn_jax.training.checkpoints import reading

pytestmark = pytest.mark.one_row

FORK = """
from rcnn_jax.data.datasets.shapes.dataset import shapes_world

FEW = shapes_world(splits={"train": 24, "validation": 4, "test": 4})
"""
SHARED = ["--config.data.name=fork:FEW", "--config.batch_size=8"]
RUN = [
    "--config=caption_shapes:short",
    *SHARED,
    "--config.model.backbone.features=4,4,4,4",
    "--config.model.backbone.hidden=8",
    "--config.model.features=8",
    "--config.model.hidden=12",
    "--config.decoding.beam_width=2",
    "--config.decoding.max_steps=6",
    "--config.evaluation_batch_size=4",
    "--workdir=run",
]


def test_captions_of_shapes(door, tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    result = door("train", *RUN)
    assert result.returncode == 0, result.stderr
    assert "captions: 120 sentences" in result.stderr
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["n"] == 4
    wanted = {"loss", "error", "bleu_4", "rouge_l", "cider_d", "all_true", "all_true_held_out"}
    assert wanted <= set(found["metrics"])
    shown = found["details"]["captions"]
    assert [row["file"] for row in shown] == [f"test-{number:05d}" for number in range(4)]
    assert all(len(row["references"]) == 5 for row in shown)
    result = door(
        "evaluate", "--workdir=run", "--config.decoding.max_steps=2", "--output=short.json"
    )
    assert result.returncode == 0, result.stderr
    short = json.loads((tmp_path / "short.json").read_text())
    assert short["metrics"]["loss"] == found["metrics"]["loss"]
    assert short["changed"] == {"config.decoding.max_steps": "2"}
    assert short["metrics"]["mean_length"] <= 2 < found["metrics"]["mean_length"]
    result = door("evaluate", "--workdir=run", "--config.decoding.beam=2")
    assert (result.returncode, result.stdout) == (2, "")
    assert "config.decoding.beam: rcnn_jax.tasks.captioning:Captioning takes no" in result.stderr
    result = door("evaluate", "--workdir=run", "--config.task.beam_width=3")
    assert result.returncode == 2
    Image.fromarray(example(0, "test", 0)["image"]).save(tmp_path / "scene.png")
    result = door("predict", "--workdir=run", "--format=jsonl", "--n_best=2", "scene.png")
    assert result.returncode == 0, result.stderr
    (line,) = map(json.loads, result.stdout.splitlines())
    best = line
    # The picture is the first of the test split, and a PNG keeps its pixels.
    assert best["caption"] == shown[0]["caption"]
    assert 0 < best["probability"] < 1


def test_a_cnn_that_learnt_what_pictures_show(door, tmp_path):
    """It goes into the captioner without its last layer, and learns on there."""
    (tmp_path / "fork.py").write_text(FORK)
    sizes = ["--config.model.features=4,4,4,4", "--config.model.hidden=8"]
    objects = ["--config=shapes_objects", *SHARED, *sizes, "--workdir=objects"]
    result = door("train", *objects, "--config.epochs=2", "--config.data.validation=")
    assert result.returncode == 0, result.stderr
    result = door("evaluate", "--workdir=objects")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "objects" / "evaluation.json").read_text())
    assert found["step"] == 6  # the last one: nothing says which is the best
    assert {"error", "image_error", "f1", "loss"} <= set(found["metrics"])
    labels = found["details"]["labels"]
    assert len(labels) == 341
    assert {"star", "red shape", "small red star", "two stars"} <= {row["label"] for row in labels}
    Image.fromarray(example(0, "test", 0)["image"]).save(tmp_path / "scene.png")
    result = door("predict", "--workdir=objects", "--format=jsonl", "--n_best=3", "scene.png")
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)["n_best"]
    assert len(answers) == 3
    assert {row["label"] for row in answers} <= {row["label"] for row in labels}

    words = [*RUN, "--config=caption_shapes:pretrained", "--config.epochs=1"]
    result = door("train", *words, "--config.init_from=objects", "--config.schedule.value=0.0")
    assert result.returncode == 0, result.stderr
    before, after = (
        reading.read_variables(tmp_path / run / "checkpoints", []) for run in ("objects", "run")
    )
    for path, kernel in before.items():
        if path.startswith("params/") and "head" not in path:
            inside = path.replace("params/", "params/cnn/")
            np.testing.assert_array_equal(after[inside], kernel, err_msg=path)


def test_vectors_where_pictures_are_wanted(door, tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    result = door("train", *RUN, "--config.task.inputs=features")
    assert (result.returncode, result.stdout) == (1, "")
    assert "captioning needs a feature 'features'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_vectors_of_a_list_and_their_nearest_neighbours(door, tmp_path):
    """A list of one's own with features; the file itself is asked about, name by name."""
    rng = np.random.default_rng(0)
    kinds = {"dog": "a dog runs", "cat": "a cat sleeps", "owl": "an owl flies"}
    centres = dict(zip(kinds, np.eye(3, 5, dtype=np.float32), strict=True))
    vectors, names = [], []
    for split, count in (("train", 12), ("validation", 3), ("test", 6)):
        lines = []
        for number in range(count):
            kind = list(kinds)[number % 3]
            names.append(f"{split}{number}.jpg")
            vectors.append(centres[kind] + 0.01 * rng.normal(size=5))
            lines.append(f"{names[-1]}\t{kinds[kind]}\n")
        (tmp_path / f"{split}.tsv").write_text("".join(lines))
    files = {"features": np.array(vectors, np.float32), "files": np.array(names)}
    np.savez(tmp_path / "vectors.npz", **files)
    result = door(
        "train",
        "--config=caption_features:lstm",
        f"--config.data.name=captioned:{tmp_path}?features=vectors.npz",
        "--config.encoder.min_count=1",
        "--config.model.features=4",
        "--config.model.hidden=8",
        "--config.decoding.beam_width=1",
        "--config.batch_size=6",
        "--config.evaluation_batch_size=6",
        "--config.epochs=1",
        "--workdir=run",
    )
    assert result.returncode == 0, result.stderr
    result = door("neighbours", "--workdir=run")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "neighbours.json").read_text())
    assert (found["n"], found["among"], found["metrics"]["exact"]) == (6, 12, 1.0)
    result = door("evaluate", "--workdir=run", "--split=validation", "--output=again.json")
    assert result.returncode == 0, result.stderr
    again = json.loads((tmp_path / "again.json").read_text())["metrics"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    *_, in_training = (line for line in map(json.loads, lines) if line.get("split"))
    assert {name: in_training[name] for name in again} == again, "an LSTM with options of its own"
    result = door("predict", "--workdir=run", "--format=jsonl", "vectors.npz")
    assert result.returncode == 0, result.stderr
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["file"] for row in said] == [f"vectors.npz:{name}" for name in names]
    assert all(0 < row["probability"] <= 1 for row in said)
    np.savez(tmp_path / "short.npz", features=np.ones((2, 3), np.float32))
    result = door("predict", "--workdir=run", "--format=jsonl", "short.npz", "vectors.npz")
    assert result.returncode == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == said
    assert "short.npz holds features of shape [3], the run was trained on [5]" in result.stderr


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
def test_a_picture_that_is_no_number_has_no_neighbour(bad):
    """It would be the nearest of every picture, or have the first of all as its own."""
    vectors = np.eye(3, 4, dtype=np.float32)
    vectors[1, 2] = bad
    task = types.SimpleNamespace(
        inputs="features", said_of=lambda example: ["a dog"], further=lambda example: {}
    )
    examples = [{"features": vector} for vector in vectors]
    with pytest.raises(UserError, match=r"'features' of example 1 of train has NaN or infinity"):
        neighbours._read(examples, task, "train")
    examples[1]["mask"] = 0  # not a picture at all
    table, sentences, _ = neighbours._read(examples, task, "train")
    assert table.tolist() == vectors[[0, 2]].tolist()
    assert sentences == [["a dog"]] * 2
