"""Several labels an image: loss and metrics against NumPy, with padding and views."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pixel_nets import Given, Linear, nine_views, seven_images
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain
from rcnn_jax.tasks.multilabel import MultiLabel

LABELS = 6


def make(model: nn.Module | None = None, evaluate: str = "") -> MultiLabel:
    return MultiLabel(
        model=model or Linear(LABELS),
        train_transform=chain.build(""),
        evaluation_transform=chain.build(evaluate),
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return seven_images(rng) | {"labels": rng.integers(0, 2, (7, LABELS)).astype(np.uint8)}


def probabilities(params, image):
    kernel, bias = (np.asarray(params["Dense_0"][name], np.float64) for name in ("kernel", "bias"))
    return 1 / (1 + np.exp(-(image.reshape(len(image), -1) @ kernel + bias)))


def cross_entropy(p, labels):
    return -np.where(labels > 0, np.log(p), np.log(1 - p)).sum()


def test_loss_is_the_cross_entropy_of_real_examples(batch):
    task = make()
    params, state = task.init(jax.random.key(0), batch)
    out = task.loss(params, state, (), batch, jax.random.key(1))
    p = probabilities(params, batch["image"])[:5]
    labels = batch["labels"][:5]
    np.testing.assert_allclose(out.total, cross_entropy(p, labels), rtol=1e-5)
    assert float(out.count) == 5
    wrong = ((p >= 0.5) != (labels > 0)).mean(-1).sum()
    np.testing.assert_allclose(out.metrics["error"], (wrong, 5), rtol=1e-6)


def test_metrics_do_not_see_padding(batch):
    task = make()
    params, state = task.init(jax.random.key(0), batch)
    sums = jax.device_get(task.metrics(params, state, batch))
    other = {**batch, "image": batch["image"].copy(), "labels": batch["labels"].copy()}
    other["image"][5:] = 1e6
    other["labels"][5:] = 1
    np.testing.assert_array_equal(
        jax.tree.leaves(sums), jax.tree.leaves(jax.device_get(task.metrics(params, state, other)))
    )
    p, labels = probabilities(params, batch["image"])[:5], batch["labels"][:5]
    said = p >= 0.5
    wrong = said != (labels > 0)
    np.testing.assert_allclose(sums["error"], (wrong.mean(-1).sum(), 5), rtol=1e-6)
    assert sums["image_error"] == (wrong.any(-1).sum(), 5)
    assert sums["f1"] == (2 * (said & (labels > 0)).sum(), said.sum() + labels.sum())
    np.testing.assert_allclose(sums["loss"], (cross_entropy(p, labels), 5), rtol=1e-5)


def test_certain_answers_have_a_finite_loss():
    """The logarithm of 1 - p is not taken of a probability that was rounded to 1."""
    row = np.array([[200.0, -200.0, 200.0, -200.0]], np.float32)
    batch = {
        "image": row.reshape(1, 2, 2, 1),
        "labels": np.array([[1, 0, 0, 1]], np.uint8),
        "mask": np.ones(1, np.float32),
    }
    sums = make(Given()).metrics({}, {}, batch)
    np.testing.assert_allclose(sums["loss"][0], 400.0)
    assert sums["image_error"][0] == 1


def test_nan_is_wrong_about_every_image():
    batch = {
        "image": np.full((3, 2, 2, 1), np.nan, np.float32),
        "labels": np.zeros((3, 4), np.uint8),
        "mask": np.array([1, 1, 0], np.float32),
    }
    sums = make(Given()).metrics({}, {}, batch)
    assert sums["image_error"] == (2, 2)
    assert np.isnan(sums["loss"][0])


def test_views_are_averaged_as_probabilities(batch):
    large, views = nine_views(batch["image"])
    task = make(evaluate="nine_crop(4, 2)")
    params, state = make().init(jax.random.key(0), batch)
    predicted = task.predict(params, state, {**batch, "image": large})
    expected = np.mean([probabilities(params, view) for view in views], axis=0)
    np.testing.assert_allclose(predicted["probabilities"], expected, rtol=1e-5)
    np.testing.assert_allclose(predicted["log_complements"], np.log(1 - expected), rtol=1e-4)


def test_counts_and_details_of_each_label():
    """Four labels: always right, missed once, invented once, and one that is never there."""
    said = np.array([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]])
    labels = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], np.uint8)
    batch = {
        "image": (2.0 * said - 1).astype(np.float32).reshape(3, 2, 2, 1),
        "labels": labels,
        "mask": np.ones(3, np.float32),
    }
    task = make(Given())
    counts = jax.device_get(task.counts({}, {}, batch))
    np.testing.assert_array_equal(counts["hit"], [2, 1, 1, 0])
    np.testing.assert_array_equal(counts["missed"], [0, 1, 0, 0])
    np.testing.assert_array_equal(counts["invented"], [0, 0, 1, 0])
    feature = Feature((4,), "uint8", entries=("cat", "dog", "cow", "emu"))
    rows = task.details(counts, {"labels": feature})["labels"]
    assert [row["label"] for row in rows] == ["dog", "cow", "cat", "emu"]
    assert rows[0] == {"label": "dog", "n": 2, "precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert rows[1] == {"label": "cow", "n": 1, "precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert rows[3] == {"label": "emu", "n": 0, "precision": None, "recall": None, "f1": None}
    assert [row["label"] for row in task.details(counts, {})["labels"]] == ["1", "2", "0", "3"]


def test_answers_name_the_most_probable_labels():
    feature = Feature((3,), "uint8", entries=("cat", "dog", "cow"))
    predicted = {"probabilities": np.array([[0.25, 0.75, 0.5]])}
    assert make().answers(predicted, {"labels": feature}, 2) == [
        [{"label": "dog", "probability": 0.75}, {"label": "cow", "probability": 0.5}]
    ]


def test_overfits_one_batch(batch):
    task = make()
    params, state = task.init(jax.random.key(0), batch)
    loss = jax.jit(
        jax.value_and_grad(lambda p: task.loss(p, state, (), batch, jax.random.key(1)).total)
    )
    for _ in range(200):
        _, gradient = loss(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    sums = task.metrics(params, state, batch)
    assert float(jnp.asarray(sums["error"][0])) == 0
    assert sums["f1"][0] == sums["f1"][1]


IMAGE = Feature((4, 4, 1), "uint8")


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ({"image": IMAGE}, "needs a feature 'labels'"),
        ({"image": IMAGE, "labels": Feature((), "int64", 10)}, r"int64\[\], but .* one vector"),
        ({"image": IMAGE, "labels": Feature((6,), "float32")}, r"float32\[6\], but .* one vector"),
        ({"image": IMAGE, "labels": Feature((5,), "uint8")}, "classes=6, but .* are 5 labels"),
    ],
)
def test_a_data_set_that_does_not_fit(features, says):
    with pytest.raises(ValueError, match=says):
        make().check(features)
    make().check({"image": IMAGE, "labels": Feature((LABELS,), "uint8")})


def test_another_feature_may_hold_the_labels(batch):
    task = dataclasses.replace(make(), label="present")
    other = {"present" if name == "labels" else name: value for name, value in batch.items()}
    params, state = task.init(jax.random.key(0), other)
    np.testing.assert_array_equal(
        task.metrics(params, state, other)["loss"], make().metrics(params, state, batch)["loss"]
    )
