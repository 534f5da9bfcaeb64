"""Classification: loss and metrics against NumPy, with padding, views and smoothing."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pixel_nets import Given, Linear, nine_views, seven_images
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain
from rcnn_jax.tasks.classification import Classification


def make(evaluate: str = "", **arguments) -> Classification:
    return Classification(
        model=Linear(classes=12),
        train_transform=chain.build(""),
        evaluation_transform=chain.build(evaluate),
        **arguments,
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return seven_images(rng) | {"label": rng.integers(0, 12, 7).astype(np.int32)}


def log_probabilities(params, image):
    logits = image.reshape(len(image), -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_loss_is_smoothed_cross_entropy_over_real_examples(batch):
    task = make(label_smoothing=0.2)
    params, state = task.init(jax.random.key(0), batch)
    out = task.loss(params, state, (), batch, jax.random.key(1))
    log_p = log_probabilities(jax.device_get(params), batch["image"])[:5]
    target = np.full((5, 12), 0.2 / 12)
    target[np.arange(5), batch["label"][:5]] += 0.8
    np.testing.assert_allclose(out.total, -(target * log_p).sum(), rtol=1e-5)
    assert float(out.count) == 5


def test_metrics_do_not_see_padding(batch):
    task = make()
    params, state = task.init(jax.random.key(0), batch)
    sums = jax.device_get(task.metrics(params, state, batch))
    other = {**batch, "image": batch["image"].copy()}
    other["image"][5:] = 1e6
    np.testing.assert_array_equal(
        jax.tree.leaves(sums), jax.tree.leaves(jax.device_get(task.metrics(params, state, other)))
    )
    log_p = log_probabilities(jax.device_get(params), batch["image"])[:5]
    label = batch["label"][:5]
    assert sums["error"] == ((log_p.argmax(-1) != label).sum(), 5)
    np.testing.assert_allclose(sums["loss"][0], -log_p[np.arange(5), label].sum(), rtol=1e-5)


@pytest.mark.parametrize("label", range(12))
def test_top_5_error_by_the_rank_of_the_right_class(label):
    """Logits 11, 10, ..., 0: class r has rank r; equal ones rank by number, NaN has none."""
    falling = np.arange(12, 0, -1, dtype=np.float32)
    rows = np.stack([falling, np.ones(12), np.full(12, np.nan)]).astype(np.float32)
    batch = {
        "image": rows.reshape(3, 2, 6, 1),
        "label": np.full(3, label),
        "mask": np.ones(3, np.float32),
    }
    task = dataclasses.replace(make(), model=Given())
    for row, right in enumerate([label < 5, label < 5, False]):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        assert task.metrics({}, {}, one)["top_5_error"][0] == (not right)


def test_views_are_averaged_as_probabilities(batch):
    large, views = nine_views(batch["image"])
    task = make("nine_crop(4, 2)")
    params, state = make().init(jax.random.key(0), batch)
    p = task.predict(params, state, {**batch, "image": large})["probabilities"]
    params = jax.device_get(params)
    expected = np.mean([np.exp(log_probabilities(params, view)) for view in views], axis=0)
    np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-5)


def test_arguments_of_the_call_reach_the_model(batch):
    params, state = make().init(jax.random.key(0), batch)
    plain = make().predict(params, state, batch)["probabilities"]
    flat = make(call={"scale": 0.0}).predict(params, state, batch)["probabilities"]
    np.testing.assert_allclose(flat, 1 / 12, rtol=1e-6)
    assert np.abs(plain - flat).max() > 0.01


def test_overfits_one_batch(batch):
    task = make()
    params, state = task.init(jax.random.key(0), batch)
    loss = jax.jit(
        jax.value_and_grad(lambda p: task.loss(p, state, (), batch, jax.random.key(1)).total)
    )
    for _ in range(200):
        _, gradient = loss(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    assert float(jnp.asarray(task.metrics(params, state, batch)["error"][0])) == 0


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ({"image": Feature((4, 4, 1), "uint8")}, "needs a feature 'label'"),
        ({"image": Feature((4, 4, 1), "uint8"), "label": Feature((), "int64", 10)}, "classes=12"),
    ],
)
def test_a_data_set_that_does_not_fit(features, says):
    with pytest.raises(ValueError, match=says):
        make().check(features)


class Half(nn.Module):
    """A head in bfloat16, as Linen's `dtype=` makes it."""

    classes: int = 12

    @nn.compact
    def __call__(self, x, *, train: bool):
        del train
        return nn.Dense(self.classes, dtype=jnp.bfloat16)(x.reshape(x.shape[0], -1))


def test_counts_are_exact_whatever_the_type_of_the_logits():
    """In bfloat16 a sum of ones stops at 256."""
    task = Classification(
        model=Half(),
        train_transform=chain.build(""),
        evaluation_transform=chain.build(""),
    )
    batch = {
        "image": np.random.default_rng(0).normal(size=(1001, 2, 2, 1)).astype(np.float32),
        "label": np.zeros(1001, np.int32),
        "mask": np.ones(1001, np.float32),
    }
    params, state = task.init(jax.random.key(0), batch)
    sums = task.metrics(params, state, batch)
    assert float(sums["error"][1]) == 1001
    assert float(task.loss(params, state, (), batch, jax.random.key(1)).count) == 1001


def test_smoothing_out_of_range():
    with pytest.raises(ValueError, match=r"label_smoothing=1.0 must be in \[0, 1\)"):
        make(label_smoothing=1.0)


class Improving(nn.Module):
    """An answer after each of three iterations: the linear map, times the number of iterations."""

    classes: int = 12

    @nn.compact
    def __call__(self, x, *, train: bool, every_step: bool = False, first: float = 0.0):
        del train
        logits = nn.Dense(self.classes)(x.reshape(x.shape[0], -1))
        answers = jnp.stack([first * logits, logits[:, ::-1], 2 * logits])
        return answers if every_step else answers[-1]


def test_an_answer_after_every_iteration(batch):
    calls = {"call": {"first": 3.0}, "train_call": {"first": 0.5}}
    task = dataclasses.replace(make(), model=Improving(), every_step=True, **calls)
    params, state = task.init(jax.random.key(0), batch)
    kernel, bias = (np.asarray(params["Dense_0"][k]) for k in ("kernel", "bias"))
    logits = batch["image"].reshape(7, -1) @ kernel + bias
    label = batch["label"][:5]

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    def answers(first):
        return [log_softmax(z)[:5] for z in (first * logits, logits[:, ::-1], 2 * logits)]

    out = task.loss(params, state, (), batch, jax.random.key(1))
    losses = [-log_p[np.arange(5), label].sum() for log_p in answers(0.5)]
    np.testing.assert_allclose(out.total, np.mean(losses), rtol=1e-5)
    sums = jax.device_get(task.metrics(params, state, batch))
    wrong = [(log_p.argmax(-1) != label).sum() for log_p in answers(3.0)]
    assert [sums[f"error_after_{t}"][0] for t in range(3)] == wrong
    assert sums["error"] == (wrong[-1], 5)
    assert wrong[1] != wrong[2]
    for t, log_p in enumerate(answers(3.0)):
        value = -log_p[np.arange(5), label].sum()
        np.testing.assert_allclose(sums[f"loss_after_{t}"][0], value, rtol=1e-4)
    predicted = task.predict(params, state, batch)["log_probabilities"]
    np.testing.assert_allclose(predicted[:5], answers(3.0)[-1], rtol=1e-4, atol=1e-5)


def test_views_and_an_answer_after_every_iteration(batch):
    large = {**batch, "image": nine_views(batch["image"])[0]}
    params, state = make().init(jax.random.key(0), batch)
    last = dataclasses.replace(make("nine_crop(4, 2)"), model=Improving())
    every = dataclasses.replace(last, every_step=True)
    sums = jax.device_get(every.metrics(params, state, large))
    assert sums["error_after_2"] == jax.device_get(last.metrics(params, state, large)["error"])


def test_confusion_counts_real_examples_by_true_class_and_answer(batch):
    task = make()
    params, state = task.init(jax.random.key(0), batch)
    confusion = np.asarray(task.counts(params, state, batch)["confusion"])
    expected = np.zeros((12, 12))
    answers = log_probabilities(jax.device_get(params), batch["image"])[:5].argmax(-1)
    np.add.at(expected, (batch["label"][:5], answers), 1)
    np.testing.assert_array_equal(confusion, expected)


def test_details_name_the_worst_class_first():
    confusion = np.zeros((4, 4))
    confusion[0] = [3, 1, 0, 0]
    confusion[1] = [0, 2, 4, 2]
    confusion[3] = [0, 0, 0, 5]
    task, names = make(), ("cat", "dog", "owl", "fox")
    details = task.details({"confusion": confusion}, {"label": Feature((), "int64", names)})
    assert details["confusion"] == confusion.astype(int).tolist()
    assert details["classes"] == [
        {"class": "dog", "n": 8, "error": 0.75, "taken_for": "owl", "times": 4},
        {"class": "cat", "n": 4, "error": 0.25, "taken_for": "dog", "times": 1},
        {"class": "fox", "n": 5, "error": 0.0, "taken_for": None, "times": 0},
        {"class": "owl", "n": 0, "error": None, "taken_for": None, "times": 0},
    ]
    details = task.details({"confusion": confusion}, {"label": Feature((), "int64", 4)})
    assert [row["class"] for row in details["classes"]] == ["1", "0", "3", "2"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"call": {"steps": 2}}, "steps"),
        ({"train_call": {"scal": 2}}, "scal"),
        ({"every_step": True}, "every_step"),
    ],
)
def test_an_argument_that_the_model_does_not_take(arguments, name):
    with pytest.raises(ValueError, match=f"call of Linear takes no argument '{name}'.*'scale'"):
        make(**arguments)


def test_every_step_is_no_argument_of_a_call():
    with pytest.raises(ValueError, match=r"set by config\.task\.every_step"):
        dataclasses.replace(make(), model=Improving(), call={"every_step": True})


@pytest.mark.parametrize("value", [True, "3", None])
def test_an_argument_of_another_type(value):
    with pytest.raises(ValueError, match=f"scale={value!r}: the call of Linear .* float"):
        make(call={"scale": value})
