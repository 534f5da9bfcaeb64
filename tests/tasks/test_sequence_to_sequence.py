"""Sequence to sequence: which ids and which sequences count, and what does not fit."""

import functools

import jax
import numpy as np
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.vocabulary import EOS, PAD
from rcnn_jax.data.transforms import chain
from rcnn_jax.models.encoder_decoder import EncoderDecoder, greedy
from rcnn_jax.models.tagger import Tagger
from rcnn_jax.tasks.sequence_to_sequence import SequenceToSequence

KEY = np.array([0, 1], np.uint32)
CLASSES = 5
MODEL = EncoderDecoder(classes=CLASSES, vocabulary=4, features=3, hidden=4)


def make(**arguments):
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    return SequenceToSequence(**({"model": MODEL} | chains | arguments))


@pytest.fixture(scope="module")
def scored():
    """Random parameters, and a batch some of whose targets are what these write."""
    rng = np.random.default_rng(3)
    source = rng.integers(0, 4, (8, 3)).astype(np.int32)
    length = rng.integers(1, 4, 8).astype(np.int32)
    init = functools.partial(MODEL.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), source)
    variables = jax.tree.map(lambda s: 2 * rng.normal(size=s.shape).astype(np.float32), shapes)

    @jax.jit
    def both(source, length, targets):
        written = greedy(MODEL, variables, source, length, 5)
        return written, MODEL.apply(variables, source, train=False, lengths=length, targets=targets)

    written = np.asarray(both(source, length, np.zeros((8, 5), np.int32))[0])
    target, target_length = np.zeros((8, 5), np.int32), np.full(8, 5, np.int32)
    for row, said in enumerate(written):
        ends = np.flatnonzero(said == EOS)
        target_length[row] = ends[0] + 1 if len(ends) else 5
        target[row, : target_length[row]] = said[: target_length[row]]
    target[1, 0] = CLASSES  # unknown to training
    target[2, 0] = (target[2, 0] + 1) % CLASSES
    target_length[3] = min(target_length[3] + 1, 5)  # what is written ends too early
    mask = np.array([1, 1, 1, 1, 1, 1, 0, 0], np.float32)
    batch = {
        "source": source,
        "source_length": length,
        "target": target,
        "target_length": target_length,
        "mask": mask,
    }
    return variables["params"], batch, written, np.asarray(both(source, length, target)[1])


def test_ids_and_sequences_that_count(scored):
    params, batch, written, logits = scored
    task = make()
    sums = jax.jit(functools.partial(task.metrics, params, {}))(batch)
    real = range(6)
    lengths, target = batch["target_length"], batch["target"]
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    ids = [(r, t) for r in real for t in range(lengths[r])]
    known = [(r, t) for r, t in ids if target[r, t] < CLASSES]
    assert len(known) == len(ids) - 1
    loss = -sum(log_p[r, t, target[r, t]] for r, t in known)
    np.testing.assert_allclose(sums["loss"], (loss, len(known)), rtol=1e-5)
    wrong = sum(logits[r, t].argmax() != target[r, t] for r, t in ids)
    assert sums["error"] == (wrong, len(ids))
    whole = [
        written[r, : lengths[r]].tolist() == target[r, : lengths[r]].tolist()
        and (written[r, lengths[r] :] == -1).all()
        for r in real
    ]
    assert sums["sequence_error"] == (6 - sum(whole), 6)
    assert 0 < sum(whole) < 6
    out = jax.jit(lambda batch: task.loss(params, {}, (), batch, KEY))(batch)
    np.testing.assert_allclose((out.total, out.count), sums["loss"], rtol=1e-5)
    assert out.metrics["error"] == sums["error"]


def test_predictions_are_what_is_written(scored):
    params, batch, written, _ = scored
    predict = jax.jit(make().predict)
    found = predict(params, {}, batch)
    np.testing.assert_array_equal(found["target"], written)
    assert np.isfinite(found["log_probs"]).all()
    assert (found["log_probs"] < 0).all()
    # Sources whose vectors are NaN have no answer; the others have theirs.
    table = np.array(params["source_embedding"])
    table[1] = -np.nan
    real = np.arange(batch["source"].shape[1]) < batch["source_length"][:, None]
    broken = ((batch["source"] == 1) & real).any(axis=1)
    assert 0 < broken.sum() < len(broken)
    found = predict({**params, "source_embedding": table}, {}, batch)
    np.testing.assert_array_equal(np.isnan(found["log_probs"]), broken)
    np.testing.assert_array_equal(found["target"], np.where(broken[:, None], PAD, written))


def test_what_does_not_fit():
    names = ("source", "source_length", "target", "target_length")
    features = {name: Feature((), "int32") for name in names}
    make().check(features)
    with pytest.raises(ValueError, match=r"a feature 'target_length', the data set has 'source'"):
        make().check(dict(list(features.items())[:3]))
    with pytest.raises(ValueError, match="call of Tagger takes no argument 'targets'"):
        make(model=Tagger(classes=5, vocabulary=4))
