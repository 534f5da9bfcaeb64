"""Scores that are NaN: tasks count them as wrong and say so; none answers by a class.

Where the label is the first class, `argmax` of NaN would be right. The NaN has both signs, of which
those made on x86 have the negative one.
"""

import jax
import numpy as np
import pytest
from flax import linen as nn

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.vocabulary import TagVocabulary
from rcnn_jax.data.transforms import chain
from rcnn_jax.metrics.best_class import NO_ANSWER
from rcnn_jax.metrics.ratios import MacroF1, MeanClassAccuracy, MeanIoU
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.tasks.labelling import SequenceLabelling
from rcnn_jax.tasks.multilabel import MultiLabel
from rcnn_jax.tasks.tagging import Tagging
from rcnn_jax.tasks.transcription import Transcription

pytestmark = pytest.mark.one_row

CHAINS = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
KEY = np.array([0, 1], np.uint32)
NANS = np.array([np.nan, -np.nan], np.float32)


class Scores(nn.Module):
    """The scores are the input."""

    classes: int

    @nn.compact
    def __call__(self, x, *, train: bool, lengths=None):
        del train, lengths
        return x

    def output_lengths(self, lengths):
        return lengths


def run(method, *arguments):
    return jax.device_get(jax.jit(method)({}, {}, *arguments))


def test_the_signs_are_both():
    assert np.signbit(NANS).tolist() == [False, True]


def test_classification():
    """Of four examples of the first class one is right, and two are NaN in one or all scores."""
    scores = np.zeros((4, 12), np.float32)
    scores[0, 0] = scores[1, 3] = 9
    scores[2, 5], scores[3] = NANS[0], NANS[1]
    batch = {"x": scores, "label": np.zeros(4, np.int32), "mask": np.ones(4, np.float32)}
    task = Classification(model=Scores(12), inputs="x", **CHAINS)
    sums = run(task.metrics, batch)
    assert sums["error"] == (3, 4)
    assert sums["top_5_error"] == (2, 4)
    assert np.isnan(sums["loss"][0])
    out = jax.jit(task.loss)({}, {}, (), batch, KEY)
    assert out.metrics["error"][0] == 3
    counts = run(task.counts, batch)
    details = task.details(counts, {"label": Feature((), "int32", 12)})
    first = next(row for row in details["classes"] if row["class"] == "0")
    assert first == {"class": "0", "n": 4, "error": 0.75, "taken_for": "3", "times": 1}
    assert sum(map(sum, details["confusion"])) == 2
    answers = task.answers(run(task.predict, batch), {"label": Feature((), "int32", 12)}, 2)
    assert [np.isnan(answer[0]["probability"]) for answer in answers] == [False, False, True, True]


def test_labels_that_hold_or_do_not():
    scores = np.array([[9, -9, 9, -9]] * 3, np.float32)
    scores[1, [2, 3]], scores[2, 3] = NANS, NANS[1]
    labels = np.array([[1, 0, 1, 0]] * 3, np.uint8)
    batch = {"x": scores, "labels": labels, "mask": np.ones(3, np.float32)}
    task = MultiLabel(model=Scores(4), inputs="x", **CHAINS)
    sums = run(task.metrics, batch)
    assert sums["error"] == (0.75, 3)
    assert sums["image_error"] == (2, 3)
    assert sums["f1"] == (10, 13)
    assert jax.jit(task.loss)({}, {}, (), batch, KEY).metrics["error"][0] == 0.75
    answers = task.answers(run(task.predict, batch), {"labels": Feature((4,), "uint8")}, 2)
    assert [answer[0]["label"] for answer in answers] == ["0", "2", "3"]
    assert np.isnan([answer[0]["probability"] for answer in answers]).tolist() == [
        False,
        True,
        True,
    ]


def steps():
    """Three steps of the first class: right, NaN, and NaN behind the end."""
    scores = np.zeros((1, 3, 3), np.float32)
    scores[0, 0, 0] = 9
    scores[0, 1, 1], scores[0, 2] = NANS[1], NANS[0]
    return scores


def test_labels_of_steps():
    batch = {
        "x": steps(),
        "targets": np.zeros((1, 3), np.int32),
        "length": np.array([2], np.int32),
        "mask": np.ones(1, np.float32),
    }
    task = SequenceLabelling(model=Scores(3), inputs="x", lengths="length", **CHAINS)
    assert run(task.metrics, batch)["error"] == (1, 2)
    predicted = run(task.predict, batch)
    assert predicted["labels"].tolist() == [[0, NO_ANSWER, -1]]
    assert np.isnan(predicted["log_probabilities"][0, 1]).all()
    # A metric of labels counts the one as wrong and leaves out what is behind the end.
    for kind, value in ((MeanIoU, 1 / 2), (MeanClassAccuracy, 1 / 2), (MacroF1, 2 / 3)):
        metric = kind(classes=3, label="targets", prediction="labels")
        totals = jax.jit(metric.sums)(predicted, batch)
        assert totals.tolist() == [[1, 0, 0, 1], [0] * 4, [0] * 4]
        assert metric.value(np.float64(totals)) == pytest.approx(value)
    by_score = MeanIoU(classes=3, label="targets", prediction="log_probabilities")
    assert jax.jit(by_score.sums)(predicted, batch)[0].tolist() == [1, 0, 0, 2]


def test_tags():
    """The sentence is one chunk of two words, of which only the first is answered."""
    vocabulary = TagVocabulary.fit([["B-from", "I-from"]])
    tags = np.array([[vocabulary.tags.index(tag) for tag in ("B-from", "I-from", "O")]], np.int32)
    scores = steps()
    scores[0, 0] = np.eye(3)[tags[0, 0]] * 9
    batch = {
        "words": scores,
        "tags": tags,
        "length": np.array([2], np.int32),
        "mask": np.ones(1, np.float32),
    }
    task = Tagging(model=Scores(3), tags=vocabulary.tags, **CHAINS)
    sums = run(task.metrics, batch)
    assert sums["error"] == (1, 2)
    counts = run(task.counts, batch)
    assert [counts[name].sum() for name in ("gold", "predicted", "correct")] == [1, 1, 0]
    predicted = run(task.predict, batch)
    assert predicted["tags"].tolist() == [[tags[0, 0], NO_ANSWER, -1]]
    assert np.isnan(predicted["probabilities"]).tolist() == [[False, True, False]]
    # A first word without an answer begins no chunk.
    batch["words"] = scores[:, [1, 0, 2]]
    batch["tags"] = tags[:, [0, 0, 2]]
    assert task.ratios(run(task.counts, batch))["f1"] == pytest.approx(200 / 3)


def test_lines():
    scores = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    scores[:, 0, 1] += 9
    scores[1, 2, 0], scores[2, 1] = NANS[1], NANS[0]
    batch = {
        "image": scores,
        "length": np.full(3, 4, np.int32),
        "labels": np.array([[1, 0, 0, 0]] * 3, np.int32),
        "label_length": np.ones(3, np.int32),
        "mask": np.ones(3, np.float32),
    }
    task = Transcription(model=Scores(3), alphabet="ab", **CHAINS)
    predicted = run(task.predict, batch)
    first, *others = [answer[0] for answer in task.answers(predicted, {}, 1)]
    assert first["text"].startswith("a")
    assert 0 < first["confidence"] < 1
    for broken in others:
        assert broken["text"] == ""
        assert np.isnan(broken["confidence"])
    assert np.isnan(task.evaluate([(predicted, batch)])["calibration_error"])
