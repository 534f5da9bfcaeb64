"""Sequence labelling: steps that count, blank ones and those without a label, and what is wrong."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.datasets.series.lags import BLANK, COPY_50, SYMBOLS
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain
from rcnn_jax.models.sequence_classifier import SequenceClassifier
from rcnn_jax.models.tagger import Tagger
from rcnn_jax.tasks.labelling import SequenceLabelling

CLASSES, SIZE, TIME = 5, 7, 6
KEY = np.array([0, 1], np.uint32)
PARAMS = {"scale": np.float32(1)}
ROWS = np.random.default_rng(5).normal(size=(40, CLASSES)).astype(np.float32)


class Given(nn.Module):
    """Logits are looked up: symbol i has a row of its own, and a parameter scales it."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, x, *, train: bool, lengths=None, sign: float = 1.0):
        del train
        logits = sign * self.param("scale", nn.initializers.ones, ()) * jnp.asarray(ROWS)[x]
        # Only with lengths is the last class worth more, so that it shows whether they came.
        return logits if lengths is None else logits + jnp.eye(CLASSES)[-1][None, None]


def make(**arguments) -> SequenceLabelling:
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    named = {"inputs": "seen", "targets": "wanted", "blank": 2}
    return SequenceLabelling(**({"model": Given()} | named | chains | arguments))


def batch_of():
    """Random sequences; targets may ask for nothing, the last two rows fill the batch up."""
    rng = np.random.default_rng(0)
    mask = np.ones(SIZE, np.float32)
    mask[-2:] = 0
    return {
        "seen": rng.integers(0, 40, (SIZE, TIME)).astype(np.int32),
        "wanted": rng.integers(-1, CLASSES, (SIZE, TIME)).astype(np.int32),
        "length": np.array([6, 3, 0, 5, 1, 4, 6], np.int32),
        "mask": mask,
    }


def expected_of(batch, sign, with_lengths):
    """The sums, counted step by step."""
    logits = (sign * ROWS[batch["seen"]]).astype(np.float64)
    logits[..., -1] += with_lengths
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    asked = [
        (row, step)
        for row in range(SIZE - 2)
        for step in range(batch["length"][row] if with_lengths else TIME)
        if batch["wanted"][row, step] >= 0
    ]
    wrong = [logits[at].argmax() != batch["wanted"][at] for at in asked]
    said = [is_wrong for at, is_wrong in zip(asked, wrong, strict=True) if batch["wanted"][at] != 2]
    assert 0 < sum(said) < len(said) < len(asked) < (SIZE - 2) * TIME
    loss = -sum(log_p[at][batch["wanted"][at]] for at in asked)
    return {
        "loss": (loss, len(asked)),
        "error": (sum(wrong), len(asked)),
        "recall_error": (sum(said), len(said)),
    }, log_p


@pytest.mark.parametrize("lengths", ["", "length"])
def test_steps_that_count(lengths):
    """In evaluation the model is called with one sign, in training with the other."""
    task, batch = make(lengths=lengths, call={"sign": -1.0}), batch_of()

    @jax.jit
    def both(batch):
        out = task.loss(PARAMS, {}, (), batch, KEY)
        return task.metrics(PARAMS, {}, batch), {"loss": (out.total, out.count), **out.metrics}

    for found, sign in zip(both(batch), (-1, 1), strict=True):
        expected, _ = expected_of(batch, sign, bool(lengths))
        assert found.keys() == expected.keys()
        for name, pair in expected.items():
            np.testing.assert_allclose(found[name], pair, rtol=1e-5)


def test_without_a_blank_there_is_no_recall():
    found = jax.eval_shape(functools.partial(make(blank=None).metrics, PARAMS, {}), batch_of())
    assert set(found) == {"error", "loss"}


def test_predictions_end_with_the_sequence():
    batch = batch_of()
    for lengths in ("", "length"):
        found = jax.jit(functools.partial(make(lengths=lengths).predict, PARAMS, {}))(batch)
        _, log_p = expected_of(batch, 1, bool(lengths))
        np.testing.assert_allclose(found["log_probabilities"], log_p, rtol=1e-5, atol=1e-5)
        ends = batch["length"] if lengths else np.full(SIZE, TIME)
        beyond = np.arange(TIME)[None] >= np.where(batch["mask"] > 0, ends, 0)[:, None]
        np.testing.assert_array_equal(found["labels"], np.where(beyond, -1, log_p.argmax(-1)))


def test_a_label_beyond_the_classes_is_not_passed_over():
    """Where it does not count, in padding, it does nothing."""
    task, batch = make(lengths="length"), batch_of()
    loss = jax.jit(lambda batch: task.loss(PARAMS, {}, (), batch, KEY).total)
    unmoved = loss(batch)
    for row, step, counts in ((0, 5, True), (1, 3, False), (SIZE - 1, 0, False)):
        wanted = batch["wanted"].copy()
        wanted[row, step] = CLASSES
        found = loss(batch | {"wanted": wanted})
        assert np.isnan(found) if counts else found == unmoved


def test_who_remembers_nothing_has_the_loss_that_is_published():
    """Blank where blanks are due, any symbol elsewhere: 10 ln 8 / (T + 20) of Arjovsky et al."""
    batch = {
        name: np.stack([np.asarray(column[row]) for row in range(64)])
        for name, column in COPY_50.columns(None, "test").items()
    }
    batch["mask"] = np.ones(64, np.float32)

    class Memoryless(nn.Module):
        classes: int = SYMBOLS + 1

        def __call__(self, x, *, train: bool):
            del train
            due = jnp.arange(x.shape[1]) < x.shape[1] - 10
            scores = jnp.where(
                due[:, None], 100 * jnp.eye(9)[BLANK][None], -jnp.eye(9)[BLANK] * 100
            )
            return jnp.broadcast_to(scores[None], (*x.shape, 9))

    task = make(model=Memoryless(), inputs="inputs", targets="targets", blank=BLANK)
    task.check(COPY_50.features)
    sums = jax.jit(functools.partial(task.metrics, {}, {}))(batch)
    np.testing.assert_allclose(sums["loss"][0] / (64 * 70), 10 * np.log(8) / 70, rtol=1e-5)
    # It says 0 everywhere, which is right for one symbol in eight.
    zeros = (batch["targets"] == 0).sum()
    assert sums["recall_error"] == (640 - zeros, 640)
    assert sums["error"] == (640 - zeros, 64 * 70)


def test_the_tagger_and_its_lengths():
    """Padding changes nothing, with a model that reads the lengths."""
    model = Tagger(classes=CLASSES, vocabulary=40, encoding="one_hot", features=3, hidden=4)
    task, batch = make(model=model, lengths="length"), batch_of()
    beyond = np.arange(TIME)[None] >= batch["length"][:, None]
    other = batch | {
        name: np.where(beyond, 1 - batch[name] % 2, batch[name]) for name in ("seen", "wanted")
    }

    @jax.jit
    def both(key, batch):
        params, _ = task.init(key, batch)
        return jax.value_and_grad(lambda p: task.loss(p, {}, (), batch, key).total)(params)

    found = both(KEY, batch)
    jax.tree.map(np.testing.assert_array_equal, both(KEY, other), found)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found[1]))


INTEGERS = Feature((TIME,), "int32")
FEATURES = {"seen": INTEGERS, "wanted": INTEGERS, "length": Feature((), "int32")}


@pytest.mark.parametrize(
    ("arguments", "features", "says"),
    [
        ({"inputs": "read"}, {}, r"a feature 'read', the data.*config\.task\.inputs"),
        ({"targets": "tags"}, {}, r"a feature 'tags', the data.*config\.task\.targets"),
        ({"lengths": "long"}, {}, r"a feature 'long', the data.*config\.task\.lengths"),
        ({}, {"wanted": Feature((TIME,), "float32")}, r"in 'wanted', an.*float32 .*\(6,\)"),
        ({}, {"wanted": Feature((), "int32")}, r"each step, integers \[time\].*\(\)"),
        ({"lengths": "length"}, {"length": INTEGERS}, r"one integer in 'length'.*\(6,\)"),
        (
            {},
            {"seen": Feature((8, 3), "float32")},
            r"'wanted' has .*\(6,\), but .*'seen'.*\(8, 3\)",
        ),
        ({}, {"seen": Feature((), "int32")}, r"'seen' has \(\): both"),
        (
            {},
            {"wanted": Feature((TIME,), "int32", 8)},
            "classes=5, but the data set's 'wanted' h.*8",
        ),
    ],
)
def test_data_that_do_not_fit(arguments, features, says):
    make().check(FEATURES)
    make(lengths="length").check(FEATURES | {"seen": Feature((TIME, 3), "float32")})
    with pytest.raises(ValueError, match=says) as caught:
        make(**arguments).check(FEATURES | features)
    assert "\n" not in str(caught.value)


def test_models_and_blanks_that_do_not_fit():
    with pytest.raises(ValueError, match=r"config\.task\.blank=5 must be .* class of 5"):
        make(blank=CLASSES)
    with pytest.raises(ValueError, match="blank=-1"):
        make(blank=-1)

    class Unlengthed(nn.Module):
        def __call__(self, x, *, train: bool):
            return x

    make(model=Unlengthed())
    with pytest.raises(ValueError, match="call of Unlengthed takes no argument 'lengths'"):
        make(model=Unlengthed(), lengths="length")
    # One answer for a sequence is none for each of its steps.
    task = make(model=SequenceClassifier(classes=CLASSES, hidden=2))
    batch = batch_of() | {"seen": np.ones((SIZE, TIME, 3), np.float32)}

    def loss(key, batch):
        return task.loss(*task.init(key, batch), (), batch, key).total

    with pytest.raises(ValueError, match=r"\[batch, time, classes\], Seq.* 6 .* 7 .*\(7, 5\)"):
        jax.eval_shape(loss, KEY, batch)
