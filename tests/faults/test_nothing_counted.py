"""A batch or a split without anything that has a loss is left out, and nothing has diverged."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = [pytest.mark.faults, pytest.mark.one_row]

FLAGS = [
    "--config=transcribe_digits",
    "--workdir=run",
    "--config.model.features=(4,4,4)",
    "--config.model.hidden=8",
    "--config.batch_size=4",
    "--config.epochs=2.0",
    "--config.log_every=1",
    "--config.best_metric=loss",
]


def write_lines(folder, digits, *, count=1, length=4, width=None):
    """Writes lines of handwritten digits, cut to a width."""
    data, rng = load_digits(), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        text = rng.choice(list(digits), length)
        rows = [rng.choice(np.flatnonzero(data.target == int(digit))) for digit in text]
        image = np.hstack([data.images[row] * 15 for row in rows]).astype(np.uint8)
        name = f"{length}_{number}"
        Image.fromarray(image[:, :width]).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("".join(text))


def entries(tmp_path):
    return list(map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))


def test_a_batch_whose_lines_are_all_too_short_is_counted_and_training_goes_on(door, tmp_path):
    lines = tmp_path / "lines"
    write_lines(lines / "train", "0123456789", count=8, length=12)
    # Eleven digits on 8 columns, alone in their bucket.
    write_lines(lines / "train", "0123456789", length=11, width=8)
    for split in ("validation", "test"):
        write_lines(lines / split, "0123456789", count=2)
    result = door("train", *FLAGS, f"--config.data.name=lines:{lines}")
    assert result.returncode == 0, result.stderr
    assert "diverged" not in result.stdout + result.stderr
    losses = {
        e["step"]: (e["loss"], e["infeasible"]) for e in entries(tmp_path) if "split" not in e
    }
    alone = [step for step, (loss, _) in losses.items() if loss is None]
    assert len(alone) == 2  # once an epoch
    assert all(losses[step][1] == 1.0 for step in alone)
    assert all(np.isfinite(loss) for step, (loss, _) in losses.items() if step not in alone)


def test_a_validation_split_without_a_loss_ranks_last_and_training_goes_on(door, tmp_path):
    lines = tmp_path / "lines"
    write_lines(lines / "train", "0123", count=8)
    for split in ("validation", "test"):
        write_lines(lines / split, "89", count=2)  # which training never saw
    result = door("train", *FLAGS, f"--config.data.name=lines:{lines}")
    assert result.returncode == 0, result.stderr
    assert (
        "the validation metric loss is undefined at step 2: nothing is counted (0/0); as "
        "config.best_metric it counts as the worst value" in result.stderr
    )
    assert [e["loss"] for e in entries(tmp_path) if e.get("split") == "validation"] == [None] * 2
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr
