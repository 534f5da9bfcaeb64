"""Captioning through the doors: trained on shapes, evaluated, asked about a file."""

import json

from PIL import Image

from rcnn_jax.data.shapes.dataset import example

FORK = """
from rcnn_jax.data.shapes.dataset import shapes_world

FEW = shapes_world(splits={"train": 24, "validation": 4, "test": 4})
"""
RUN = [
    "--config=caption_shapes:short",
    "--config.data.name=fork:FEW",
    "--config.model.backbone.features=4,4,4,4",
    "--config.model.backbone.hidden=8",
    "--config.model.features=8",
    "--config.model.hidden=12",
    "--config.task.beam_width=2",
    "--config.task.max_steps=6",
    "--config.batch_size=8",
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
    Image.fromarray(example(0, "test", 0)["image"]).save(tmp_path / "scene.png")
    result = door("predict", "--workdir=run", "--format=jsonl", "--n_best=2", "scene.png")
    assert result.returncode == 0, result.stderr
    (line,) = map(json.loads, result.stdout.splitlines())
    best = line
    # The picture is the first of the test split, and a PNG keeps its pixels.
    assert best["caption"] == shown[0]["caption"]
    assert 0 < best["probability"] < 1


def test_vectors_where_pictures_are_wanted(door, tmp_path):
    (tmp_path / "fork.py").write_text(FORK)
    result = door("train", *RUN, "--config.task.inputs=features")
    assert (result.returncode, result.stdout) == (1, "")
    assert "captioning needs a feature 'features'" in result.stderr
    assert not (tmp_path / "run").exists()
