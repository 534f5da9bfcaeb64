"""Scene labelling: label maps move with images, mean IoU ranks checkpoints, masks are files."""

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.one_row


def test_scenes_are_labelled_and_masks_written(door, example):
    result = door("train", "--config=experiment.py", "--workdir=run")
    assert result.returncode == 0, result.stderr
    result = door("evaluate", "--workdir=run", "--split=validation", "--step=best")
    assert result.returncode == 0, result.stderr
    evaluation = json.loads((example / "run" / "evaluation.json").read_text())
    text = (example / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    scores = {line["step"]: line["mean_iou"] for line in lines if "mean_iou" in line}
    assert evaluation["metrics"]["mean_iou"] == pytest.approx(max(scores.values()), rel=1e-5)
    assert evaluation["step"] == max(scores, key=scores.__getitem__)
    assert max(scores.values()) > 0.6, "all ground is 0.25"

    # The net is trained on crops of 16 and asked about pictures of 20.
    rng = np.random.default_rng(0)
    picture = np.full((20, 20, 3), 90, np.uint8)
    picture[5:13, 6:12] = (200, 80, 60)
    Image.fromarray(picture + rng.integers(0, 20, picture.shape).astype(np.uint8)).save(
        example / "picture.png"
    )
    result = door("predict", "--workdir=run", "--output=masks/", "picture.png")
    assert result.returncode == 0, result.stderr
    mask = np.asarray(Image.open(example / "masks" / "picture_mask.png"))
    assert mask.shape == (20, 20)
    assert (mask[6:12, 7:11] == 100).mean() > 0.7
    assert (mask[15:] == 0).mean() > 0.7
