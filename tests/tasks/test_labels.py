"""Labels that no logit answers to are refused before the start, or make the loss NaN."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.metrics.tokens import token_sums
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.tasks.labelling import SequenceLabelling
from rcnn_jax.tasks.labels import check_number
from rcnn_jax.tasks.multilabel import MultiLabel


class Answers(nn.Module):
    """Gives so many equal logits, whatever it sees."""

    count: int

    def __call__(self, x, *, train):
        return jnp.zeros((x.shape[0], self.count)) + 0 * x.mean()


def made(kind, count, **arguments):
    same = {name: lambda batch, keys: batch for name in ("train_transform", "evaluation_transform")}
    return kind(model=Answers(count), **same, **arguments)


def losses(task, **label):
    mask = np.array([1, 1, 0], np.float32)
    batch = {"image": np.zeros((3, 2, 2, 1), np.float32), "mask": mask, **label}
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    out = task.loss({}, {}, (), batch, np.array([0, 1], np.uint32))
    return [float(out.total), float(task.metrics({}, {}, batch)["loss"][0])]


@pytest.mark.parametrize(
    ("labels", "finite"),
    [([0, 1, 0], True), ([0, 2, 0], False), ([-1, 0, 0], False)],
)
def test_a_class_that_there_is_not(labels, finite):
    found = losses(made(Classification, 2), label=np.array(labels, np.int32))
    assert np.isfinite(found).all() == finite
    assert finite or np.isnan(found).all()


@pytest.mark.parametrize(("holds", "finite"), [(1, True), (2, False), (-1, False)])
def test_a_label_that_is_neither_0_nor_1(holds, finite):
    labels = np.array([[0, 1], [holds, 0], [9, 9]], np.int32)
    found = losses(made(MultiLabel, 2), labels=labels)
    assert np.isfinite(found).all() == finite
    assert finite or np.isnan(found).all()


def test_a_negative_token_is_no_class():
    logits, mask = jnp.zeros((1, 3, 2)), jnp.array([[True, True, False]])
    for ids, finite in (([0, 5, -1], True), ([0, -1, 0], False)):
        total = token_sums(logits, jnp.array([ids]), mask)["loss"][0]
        assert bool(jnp.isfinite(total)) == finite


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("task", "answers", "feature"),
    [
        (made(Classification, 1), {"log_probabilities": (4, 1)}, Feature((), "int32", 2)),
        (made(MultiLabel, 1), {"probabilities": (4, 1)}, Feature((2,), "uint8")),
        (made(SequenceLabelling, 1), {"log_probabilities": (4, 9, 1)}, Feature((9,), "int32", 2)),
    ],
)
def test_too_few_logits(task, answers, feature):
    features = dict.fromkeys(("label", "labels", "targets"), feature)
    ((name, (of, classes)),) = task.wanted_answers(features).items()
    logits = answers[name][-1]
    with pytest.raises(ValueError, match=r"Answers answers with 1 logit, but .* has 2 classes"):
        check_number(logits, classes, of, task.model)
    check_number(logits + 1, classes, of, task.model)
    check_number(1, None, "label", task.model)


@pytest.mark.one_row
@pytest.mark.parametrize("label", [Feature((), "float32"), Feature((1,), "int32")])
def test_a_label_is_one_integer(label):
    features = {"image": Feature((2, 2, 1), "float32"), "label": label}
    with pytest.raises(ValueError, match=r"needs one integer in 'label', an example has .*config"):
        made(Classification, 2).check(features)
