"""Padding: shapes and lengths, splits of longer examples, damage, buckets, and a trained net."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data import pipeline, samplers
from rcnn_jax.data.buckets import Buckets
from rcnn_jax.data.encoders.base import Encoder, Encoding
from rcnn_jax.data.encoders.padding import Padded
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain
from rcnn_jax.models.sequence_classifier import SequenceClassifier
from rcnn_jax.tasks.classification import Classification

pytestmark = pytest.mark.one_row

FEATURES = {
    "clip": Feature((None, 2, 3), "uint8"),
    "step_label": Feature((None,), "int32", 5),
    "label": Feature((), "int32", 2),
}


def source(lengths, damaged=(), **more):
    """Clips that hold their own number in every pixel."""
    columns = {
        "clip": [np.full((n, 2, 3), i + 1, np.uint8) for i, n in enumerate(lengths)],
        "step_label": [np.full(n, i % 5, np.int32) for i, n in enumerate(lengths)],
        "label": np.arange(len(lengths), dtype=np.int32) % 2,
        **{name: column for name, (column, _) in more.items()},
    }
    features = FEATURES | {name: feature for name, (_, feature) in more.items()}
    if damaged:
        mask = np.ones(len(lengths), np.float32)
        mask[list(damaged)] = 0
        columns["mask"] = mask
        for row in damaged:
            columns["clip"][row] = np.zeros((0, 2, 3), np.uint8)
            columns["step_label"][row] = np.zeros(0, np.int32)
    return ArraySource(columns, features)


def bound(training, *others, **arguments):
    encoder = Padded(**arguments)
    return encoder.bind(encoder.fit(training), others)


@pytest.mark.parametrize("residency", ["memory", "stream"])
def test_examples_of_one_shape_with_their_lengths(residency):
    encoding = bound(source([2, 4, 1]), value={"step_label": -1})
    assert isinstance(Padded(), Encoder)
    assert isinstance(encoding, Encoding)
    wrapped = encoding.wrap(source([2, 4, 1]))
    assert wrapped.features == {
        "clip": Feature((4, 2, 3), "uint8"),
        "step_label": Feature((4,), "int32", 5),
        "label": FEATURES["label"],
        "length": Feature((), "int32"),
    }
    if residency == "memory":
        wrapped = wrapped.in_memory()
    with pipeline.train_batches(
        wrapped,
        samplers.Sequential(3, 4),
        start_step=0,
        num_steps=1,
        residency=residency,
        place=lambda batch: batch,
        prefetch=0,
        workers=1,
    ) as batches:
        batch = next(batches)
    assert batch["mask"].tolist() == [1, 1, 1, 0]
    assert batch["length"].tolist() == [2, 4, 1, 0]
    assert batch["clip"][:, :, 0, 0].tolist() == [[1, 1, 0, 0], [2] * 4, [3, 0, 0, 0], [0] * 4]
    assert batch["step_label"][:3].tolist() == [[0, 0, -1, -1], [1] * 4, [2, -1, -1, -1]]


def test_longer_examples_of_other_splits_are_cut_and_counted_or_refused(capsys):
    training, other = source([2, 3]), source([1, 5, 4, 2])
    encoding = bound(training, other)
    assert encoding.wrap(training).features["clip"].shape == (3, 2, 3)
    assert capsys.readouterr().err == ""
    wrapped = encoding.wrap(other)
    assert capsys.readouterr().err == (
        "warning: 2 of 4 examples of a split are longer than 3 steps, the longest has 5; what is "
        "too much is cut off\n"
    )
    assert wrapped.gather(np.arange(4))["length"].tolist() == [1, 3, 3, 2]
    with pytest.raises(ValueError, match=r"2 of 4.*set config\.encoder\.most=5, or"):
        bound(training, other, longer="error").wrap(other)
    with pytest.raises(ValueError, match=r"1 of 2.*the longest has 3"):
        bound(training, longer="error", most=2).wrap(training)
    with pytest.raises(ValueError, match=r"training split has 5 steps.*changed since"):
        bound(training).wrap(source([5, 1]))[0]
    assert bound(training, other, most=6).wrap(other).gather(np.arange(4))["clip"].shape[1] == 6


def test_what_cannot_be_read_is_padding_and_no_part_of_the_longest():
    split = source([2, 9, 3], damaged=[1])
    wrapped = bound(split).wrap(split)
    batch = wrapped.in_memory().gather(np.arange(3))
    assert batch["mask"].tolist() == [1, 0, 1]
    assert (batch["length"].tolist(), batch["clip"].shape) == ([2, 0, 3], (3, 3, 2, 3))


def test_buckets_cut_padded_features_to_the_length_of_their_examples():
    split = source([1, 4, 2, 4])
    wrapped = bound(split).wrap(split)
    buckets = Buckets(wrapped, batch_size=2, seed=0, edges=(2,), features=("clip", "step_label"))
    shapes = set()
    for step in range(2):
        rows = buckets.indices(step)
        batch = pipeline.host_batch(wrapped, rows, buckets.cut(step))
        shapes.add((batch["clip"].shape[1], *batch["length"].tolist()))
    assert {(n, frozenset(lengths)) for n, *lengths in shapes} == {
        (2, frozenset((1, 2))), (4, frozenset((4,))),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("split", "arguments", "says"),
    [
        (source([1]), {"longer": "drop"}, "longer is one of cut, error, got 'drop'"),
        (source([1]), {"most": 0}, "most must be at least 1, or None, got 0"),
        (source([1]), {"features": ("clips",)}, "config.encoder.features names 'clips'"),
        (source([1]), {"length": "label"}, "feature 'label' already.*config.encoder.length"),
        (source([1]), {"value": {"clip": -1}}, "value=-1 cannot be held by 'clip', uint8"),
        (source([2, 0]), {}, "example 1 of the split has an empty 'clip'"),
        (
            source([2], text=([np.zeros(5, np.uint8)], Feature((None,), "uint8"))),
            {},
            "different lengths, .*'text': 5.*config.encoder.features",
        ),
        (
            source([2], photo=([np.zeros((2, 5), "uint8")], Feature((None, None), "uint8"))),
            {},
            r"'photo' uint8\[\?, \?\]: name others",
        ),
        (
            ArraySource({"x": np.zeros((2, 3))}),
            {},
            r"padding needs a varying first axis, the data set has 'x' float64\[3\]",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_padded(split, arguments, says):
    with pytest.raises(ValueError, match=says):
        bound(split, **arguments).wrap(split)


def test_what_is_not_named_is_left_out_where_it_varies():
    text = [np.zeros(n, np.uint8) for n in (5, 7)]
    split = source([2, 3], text=(text, Feature((None,), "uint8")))
    wrapped = bound(split, features=("clip",), length="frames").wrap(split)
    assert set(wrapped.features) == {"clip", "label", "frames"} == set(wrapped[0])


def test_a_sequence_classifier_does_not_see_the_padding():
    """The same loss, gradient and answers, however long and whatever the padding is."""
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, 2)).astype(np.float32) for n in (3, 1, 4)]
    split = ArraySource(
        {"vectors": vectors, "label": np.array([0, 1, 1], np.int32)},
        {"vectors": Feature((None, 2), "float32"), "label": FEATURES["label"]},
    )
    task = Classification(
        model=SequenceClassifier(classes=2, hidden=3, direction="bidirectional"),
        train_transform=chain.build(""),
        evaluation_transform=chain.build(""),
        inputs="vectors",
        lengths="length",
    )
    variables, results = None, []
    for arguments in ({}, {"most": 9, "value": 3.0}):
        wrapped = bound(split, **arguments).wrap(split)
        task.check(wrapped.features)
        batch = jax.tree.map(jnp.asarray, pipeline.host_batch(wrapped, np.arange(3)))
        variables = task.init(jax.random.key(0), batch) if variables is None else variables

        def loss(params, batch=batch, state=variables[1]):
            return task.loss(params, state, (), batch, jax.random.key(1)).total

        results.append((jax.value_and_grad(loss)(variables[0]), task.predict(*variables, batch)))
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    without = dataclasses.replace(task, lengths="")
    assert not np.allclose(
        without.predict(*variables, batch)["probabilities"], results[1][1]["probabilities"]
    )
