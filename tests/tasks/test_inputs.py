"""What a task's model reads, by name; its lengths; its views; names that tasks once had."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.models.sequence_classifier import SequenceClassifier
from rcnn_jax.tasks.base import BaseTask
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.tasks.multilabel import MultiLabel
from rcnn_jax.tasks.regression import Regression

EMPTY = transforms.build("")
CLIPS = np.random.default_rng(0).normal(size=(3, 4, 2, 2, 1)).astype(np.float32)


class Brightness(nn.Module):
    """The mean of a clip's first `lengths` pictures, for each of two answers."""

    classes: int = 2

    @nn.compact
    def __call__(self, x, *, train: bool, lengths=None):
        del train
        assert x.ndim == 5, x.shape
        each = x.mean(axis=(2, 3, 4))
        lengths = jnp.full(x.shape[:1], x.shape[1]) if lengths is None else lengths
        mask = jnp.arange(x.shape[1])[None] < lengths[:, None]
        mean = (each * mask).sum(1) / mask.sum(1)
        return mean[:, None] * self.param("w", nn.initializers.ones, (1, self.classes))


def make(task=Classification, evaluation=EMPTY, **arguments):
    chains = {"train_transform": EMPTY, "evaluation_transform": evaluation}
    return task(**({"model": Brightness(), "inputs": "clip"} | chains | arguments))


def batch(**features):
    return {
        "clip": CLIPS,
        "length": np.array([4, 2, 1], np.int32),
        "label": np.array([0, 1, 0], np.int32),
        "labels": np.eye(3, 2, dtype=np.int32),
        "target": np.zeros((3, 2), np.float32),
        "mask": np.array([1, 1, 0], np.float32),
        **features,
    }


@pytest.mark.parametrize("task", [Classification, MultiLabel, Regression])
def test_inputs_of_any_name_and_shape_with_their_lengths(task):
    """Clips have five axes, which once were taken for views in evaluation alone."""
    made = make(task, lengths="length")
    params, state = made.init(jax.random.key(0), batch())
    params = {"w": jnp.array([[1.0, -1.0]])}
    beyond = CLIPS.copy()
    beyond[1, 2:], beyond[2, 1:] = 7, 7
    answers = [
        jax.tree.leaves(
            (
                made.predict(params, state, batch(clip=clips)),
                made.metrics(params, state, batch(clip=clips)),
                made.loss(params, state, (), batch(clip=clips), jax.random.key(1)),
            )
        )
        for clips in (CLIPS, beyond)
    ]
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)
    whole = make(task).predict(params, state, batch())
    for one, other in zip(
        *(jax.tree.leaves(p) for p in (whole, made.predict(params, state, batch()))), strict=True
    ):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-6)  # the first is as long as all
        assert not np.allclose(one[1], other[1])
    if task is not Regression:
        assert made.reads == ("clip",)
        without = {name: value for name, value in batch().items() if name != "length"}
        with pytest.raises(ValueError, match=r"lengths 'length'.*have 'clip', .*encoders\.padding"):
            made.predict(params, state, without)


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("task", "without", "says"),
    [
        (Classification, "clip", r"needs a feature 'clip'.*; see config\.task\.inputs\."),
        (MultiLabel, "length", r"needs a feature 'length'.*; see config\.task\.lengths\."),
        (Regression, "target", r"needs a feature 'target'.*; see config\.task\.target\."),
        (Classification, "label", r"needs a feature 'label'.*; see config\.task\.label\."),
    ],
)
def test_the_key_of_a_missing_feature_is_named(task, without, says):
    features = {name: Feature(v.shape[1:], str(v.dtype)) for name, v in batch().items()}
    made = make(task, lengths="length")
    made.check(features)
    del features[without]
    with pytest.raises(ValueError, match=says):
        made.check(features)
    features[without] = Feature((), "float32")
    if without == "length":
        with pytest.raises(ValueError, match="needs one integer in 'length', an example has float"):
            made.check(features)


@pytest.mark.one_row
def test_a_model_that_takes_no_lengths():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x, *, train: bool):
            return x

    with pytest.raises(ValueError, match="the call of Plain takes no argument 'lengths'"):
        make(model=Plain(), lengths="length")


@dataclasses.dataclass(frozen=True)
class Twice:
    """Two views of each example: as it is, and backwards."""

    makes_views: bool = True
    lengths: bool = False
    feature: str = "clip"
    random = False

    def __call__(self, batch, keys):
        del keys
        value = batch[self.feature]
        views = {self.feature: jnp.stack([value, value[:, ::-1]], axis=1)}
        if self.lengths:
            views["length"] = jnp.stack([batch["length"]] * 2, axis=1)
        return {**batch, **views}


def test_the_views_of_a_transform_that_says_so_are_averaged():
    chain = transforms.Chain((Twice(lengths=True),))
    made, plain = make(evaluation=chain, lengths="length"), make(lengths="length")
    params, state = {"w": jnp.array([[1.0, -1.0]])}, {}
    one = plain.predict(params, state, batch())["probabilities"]
    other = plain.predict(params, state, batch(clip=CLIPS[:, ::-1]))["probabilities"]
    both = made.predict(params, state, batch())["probabilities"]
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-6)
    assert not np.allclose(one, other)
    assert (chain.makes_views, EMPTY.makes_views) == (True, False)
    assert transforms.build("nine_crop(2, 1)|to_float(255)").makes_views


@pytest.mark.one_row
def test_views_that_are_not_what_a_transform_says_of_itself():
    images = {**batch(), "image": np.ones((3, 2, 2, 1), np.float32)}
    silent = make(evaluation=Twice(makes_views=False, feature="image"), inputs="image")
    with pytest.raises(ValueError, match=r"'image' of shape \[3, 2, 2, 2, 1\].*makes_views = True"):
        silent.metrics({}, {}, images)
    declared = dataclasses.replace(EMPTY, transforms=(Twice(feature="labels"),))
    with pytest.raises(ValueError, match=r"views are one axis more, \[batch, views, \.\.\.\]"):
        make(evaluation=declared).metrics({}, {}, batch())
    with pytest.raises(ValueError, match=r"2 views.*lengths of shape \[3\] belong to no view"):
        make(evaluation=Twice(), lengths="length").metrics({}, {}, batch())


def test_a_sequence_classifier_gets_the_lengths():
    frames = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 2)), jnp.float32)
    net = SequenceClassifier(classes=2, hidden=3)
    made = make(model=net, inputs="frames", lengths="length")
    params, state = made.init(jax.random.key(0), batch(frames=frames))
    whole = made.predict(params, state, batch(frames=frames))["probabilities"]
    cut = batch(frames=frames[1:2, :2])
    cut |= {name: cut[name][1:2] for name in ("length", "mask")}
    alone = made.predict(params, state, cut)["probabilities"]
    np.testing.assert_allclose(alone[0], whole[1], rtol=1e-5)


@pytest.mark.one_row
def test_a_task_with_a_name_that_methods_once_had_is_refused():
    with pytest.raises(TypeError, match=r":Old defines '_sums'.*is called 'sums' now"):

        class Old(BaseTask):
            def _sums(self, logits, batch):
                return {}

    class Mixin:
        def _question(self, batch):
            return batch

    with pytest.raises(TypeError, match=r"'_question'.*'model_inputs' now"):
        type("New", (Mixin, Classification), {})
