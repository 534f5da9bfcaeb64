"""The task that the README of the room shows, as it stands: in a fork, on scenes, from a config."""

import json
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rcnn_jax.tasks
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain as transforms

pytestmark = pytest.mark.one_row

README = pathlib.Path(rcnn_jax.tasks.__file__).parent / "README.md"
CONFIG = """
def get_config():
    return {
        "model": {"name": "my_fork.models:Pixels", "classes": 8},
        "task": {"name": "my_fork.tasks:SceneLabelling"},
        "data": {
            "name": "shapes_world",
            "train": "train[:32]",
            "validation": "validation[:12]",
            "features": ("image", "labels"),
            "preprocess": "to_float(255)",
            "residency": "memory",
        },
        "batch_size": 8,
        "evaluation_batch_size": 8,
        "steps": 2,
        "evaluate_every": 1,
        "best_metric": "mean_iou",
        "best_mode": "max",
    }
"""
MODEL = """
import flax.linen as nn


class Pixels(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.Conv(self.classes, (1, 1))(x)
"""


def text():
    (name, text), *more = re.findall(r"```python\n# (\S+)\n(.*?)```", README.read_text(), re.DOTALL)
    assert (name, more) == ("my_fork/tasks.py", [])
    assert text.count("\n") <= 40
    return text


def test_it_trains_and_is_evaluated_in_a_fork(door, tmp_path):
    package = tmp_path / "my_fork"
    package.mkdir()
    (package / "tasks.py").write_text(text())
    (package / "models.py").write_text(MODEL)
    (tmp_path / "scenes.py").write_text(CONFIG)
    result = door("train", "--config=scenes.py", "--workdir=run")
    assert result.returncode == 0, result.stderr
    result = door("evaluate", "--workdir=run", "--split=validation")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(found["metrics"]) == {"loss", "error", "mean_iou"}
    rows = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    best = max(row["mean_iou"] for row in rows if row.get("split") == "validation")
    assert found["metrics"]["mean_iou"] == pytest.approx(best, abs=1e-6)


class Given(nn.Module):
    """Logits are the image."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        return x


def test_its_mean_iou_is_that_of_the_whole_split():
    made = {"__name__": "scenes"}
    exec(text(), made)
    chain = transforms.build("")
    task = made["SceneLabelling"](
        model=Given(), train_transform=chain, evaluation_transform=chain, target="pixels"
    )
    rng = np.random.default_rng(0)
    said, true = rng.integers(0, 3, (2, 6, 4, 5))
    true[rng.random(true.shape) < 0.2] = -1
    image = jax.nn.one_hot(said, 4)
    task.check({"image": Feature((4, 5, 4), "float32"), "pixels": Feature((4, 5), "int32")})
    totals, wrong = 0, 0
    for rows in (slice(0, 3), slice(3, 6)):
        batch = {"image": image[rows], "pixels": jnp.asarray(true[rows]), "mask": jnp.ones(3)}
        batch["mask"] = batch["mask"].at[2].set(rows.start == 0)
        totals = totals + np.float64(task.counts({}, {}, batch)["confusion"])
        wrong = wrong + np.float64(task.metrics({}, {}, batch)["error"])
    said, true = said[:5], true[:5]
    said, true = said[true >= 0], true[true >= 0]
    overlaps = [
        ((said == c) & (true == c)).sum() / ((said == c) | (true == c)).sum() for c in range(3)
    ]
    assert task.ratios({"confusion": totals})["mean_iou"] == pytest.approx(np.mean(overlaps))
    assert wrong.tolist() == [(said != true).sum(), len(true)]
