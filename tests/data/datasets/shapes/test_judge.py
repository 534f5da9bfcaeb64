"""The judge of captions about shapes: shares over a split, apart for held-out pairs."""

import numpy as np
import pytest

from rcnn_jax.data.datasets.shapes.dataset import example
from rcnn_jax.data.datasets.shapes.judge import judge

SCENES = [example(0, "test", index) for index in range(8)]
FEATURES = {name: np.stack([one[name] for one in SCENES]) for name in ("objects", "held_out")}
TRUE = [one["captions"].tobytes().decode().splitlines()[0] for one in SCENES]


def test_true_sentences():
    found = judge(TRUE, FEATURES)
    assert {name: found[name] for name in found if name != "mentioned"} == {
        "grammatical": 1.0,
        "objects_true": 1.0,
        "colours_true": 1.0,
        "relations_true": 1.0,
        "all_true": 1.0,
        "all_true_held_out": 1.0,
        "all_true_others": 1.0,
    }
    assert 1 <= found["mentioned"] <= 3


def test_false_sentences_count_where_they_stand():
    """Every second test scene has a held-out pair."""
    assert FEATURES["held_out"].tolist() == [0, 1] * 4
    said = ["gibberish it is" if place in (1, 3) else text for place, text in enumerate(TRUE)]
    found = judge(said, FEATURES)
    assert found["grammatical"] == found["all_true"] == 0.75
    assert (found["all_true_held_out"], found["all_true_others"]) == (0.5, 1.0)
    assert found["mentioned"] < judge(TRUE, FEATURES)["mentioned"]


def test_a_split_without_held_out_pairs_has_one_share():
    none = {**FEATURES, "held_out": np.zeros(8, np.int32)}
    assert not {"all_true_held_out", "all_true_others"} & set(judge(TRUE, none))


@pytest.mark.parametrize(
    ("captions", "features"),
    [([], FEATURES), (TRUE[:3], FEATURES), (TRUE, {"objects": FEATURES["objects"]})],
)
def test_what_cannot_be_judged(captions, features):
    with pytest.raises(ValueError, match="as many objects and held_out"):
        judge(captions, features)
