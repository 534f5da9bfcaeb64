"""Tagging: tokens and chunks that count, tags that training does not know, and what is learnt."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.vocabulary import TagVocabulary
from rcnn_jax.data.transforms import chain
from rcnn_jax.metrics.chunks import conlleval
from rcnn_jax.models.tagger import Tagger
from rcnn_jax.tasks.tagging import Tagging

KNOWN = TagVocabulary.fit([["B-from", "I-from", "B-to", "I-to"]])
# Neither of the last two is known: one has a type of its own, one only a new prefix.
ALL = KNOWN.extended([["B-via", "I-day"]])
KEY = np.array([0, 1], np.uint32)
PARAMS = {"scale": np.float32(1)}


class Given(nn.Module):
    """Logits are looked up: word i has a row of its own, and a parameter scales it."""

    classes: int = 5

    @nn.compact
    def __call__(self, words, *, train: bool, lengths=None, sign: float = 1.0):
        del train, lengths
        scale = self.param("scale", nn.initializers.ones, ())
        rows = np.random.default_rng(5).normal(size=(40, self.classes)).astype(np.float32)
        return sign * scale * jnp.asarray(rows)[words]


def make(**arguments) -> Tagging:
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    return Tagging(**({"model": Given(), "tags": ALL.tags} | chains | arguments))


def batch_of(tags, seed=0, size=7, time=6):
    """Random sentences; the last two rows fill the batch up, one of them with words in it."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, time + 1, size).astype(np.int32)
    length[-1] = 0
    mask = np.ones(size, np.float32)
    mask[-2:] = 0
    return {
        "words": rng.integers(0, 40, (size, time)).astype(np.int32),
        "tags": rng.integers(0, len(tags), (size, time)).astype(np.int32),
        "length": length,
        "mask": mask,
    }


@pytest.fixture
def batches():
    return [batch_of(ALL.tags, seed) for seed in range(20)]


def tokens(batches):
    """(gold, answer, log-probabilities) of each sentence that counts."""
    rows = np.random.default_rng(5).normal(size=(40, 5)).astype(np.float32)
    for batch in batches:
        for words, tags, length, real in zip(
            *(batch[k] for k in ("words", "tags", "length", "mask")), strict=True
        ):
            if real:
                logits = rows[words[:length]].astype(np.float64)
                log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
                yield tags[:length], logits.argmax(-1), log_p


def totals(task, batches, method="metrics"):
    one = jax.jit(functools.partial(getattr(task, method), PARAMS, {}))
    found = [jax.device_get(one(batch)) for batch in batches]
    return jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *found)


def test_metrics_of_a_split_are_those_of_its_sentences(batches):
    """F1 is that of `conlleval` over the whole split, tags unknown to training included."""
    sums = totals(make(), batches)
    sentences = list(tokens(batches))
    named = [
        [[ALL.tags[i] for i in ids] for ids in column]
        for column in list(zip(*sentences, strict=True))[:2]
    ]
    expected = conlleval(*named)
    assert 0 < expected["f1"] < expected["precision"] < 50
    scores = make().ratios(totals(make(), batches, "counts"))
    assert scores == pytest.approx({n: expected[n] for n in ("f1", "precision", "recall")})
    gold, answers = (np.concatenate(column) for column in list(zip(*sentences, strict=True))[:2])
    assert sums["error"] == ((gold != answers).sum(), len(gold))
    np.testing.assert_allclose(1 - sums["error"][0] / len(gold), expected["accuracy"] / 100)
    log_p = np.concatenate([row for _, _, row in sentences])
    known = gold < KNOWN.known
    loss = -log_p[np.flatnonzero(known), gold[known]].sum()
    np.testing.assert_allclose(sums["loss"], (loss, known.sum()), rtol=1e-5)
    assert sums["unknown_tags"] == ((~known).sum(), len(gold))
    assert 0 < (~known).sum() < len(gold)


def test_loss_is_that_of_tokens_and_follows_the_metrics(batches):
    task = make(call={"sign": 1.0}, train_call={"sign": -1.0})
    out = jax.jit(lambda batch: task.loss(PARAMS, {}, (), batch, KEY))(batches[0])
    reversed_sign = dataclasses.replace(task, call={"sign": -1.0})
    expected = jax.jit(functools.partial(reversed_sign.metrics, PARAMS, {}))(batches[0])
    np.testing.assert_allclose((out.total, out.count), expected["loss"], rtol=1e-6)
    np.testing.assert_array_equal(out.metrics["error"], expected["error"])
    plain = jax.jit(functools.partial(task.metrics, PARAMS, {}))(batches[0])
    assert float(plain["error"][0]) != float(out.metrics["error"][0])


def test_predictions_end_where_sentences_end(batches):
    task = make()
    found = jax.jit(functools.partial(task.predict, PARAMS, {}))(batches[0])
    sentences = iter(tokens(batches[:1]))
    for row, (length, real) in enumerate(
        zip(batches[0]["length"], batches[0]["mask"], strict=True)
    ):
        length = length if real else 0
        if length:
            _, answers, log_p = next(sentences)
            np.testing.assert_array_equal(found["tags"][row, :length], answers)
            best = np.exp(log_p).max(-1)
            np.testing.assert_allclose(found["probabilities"][row, :length], best, rtol=1e-5)
        assert (found["tags"][row, length:] == -1).all()
        assert not found["probabilities"][row, length:].any()


def test_details_are_those_of_each_slot(batches):
    counts = totals(make(), batches, "counts")
    details = make().details(counts, {})
    sentences = [[[ALL.tags[i] for i in ids] for ids in pair[:2]] for pair in tokens(batches)]
    gold, answers = zip(*sentences, strict=True)
    types = conlleval(gold, answers)["types"]
    assert [row["slot"] for row in details["slots"]] == sorted(
        types, key=lambda k: (-types[k]["gold"], k)
    )
    for row in details["slots"]:
        for name, value in types[row["slot"]].items():
            # What the script calls 0 was not counted at all.
            assert row[name] == pytest.approx(value) or (row[name] is None and value == 0), (
                row,
                name,
            )
    empty = {row["slot"] for row in details["slots"] if row["precision"] is None}
    assert empty == {"day", "via"}  # never answered, for the model has no such class
    assert details["unknown_tags"] == [
        {"tag": tag, "tokens": sum(s.count(tag) for s in gold)} for tag in ("B-via", "I-day")
    ]
    zeros = {name: np.zeros_like(n) for name, n in counts.items()}
    nothing = make().details(zeros, {})
    assert nothing["slots"][0]["f1"] is None
    assert nothing["unknown_tags"] == []
    # A tagger that says O alone, as most do at first.
    scores = make().ratios({**counts, "predicted": zeros["predicted"], "correct": zeros["correct"]})
    assert scores == {"f1": 0.0, "precision": 0.0, "recall": 0.0} == make().ratios(zeros)


def test_a_tagger_learns_a_batch_with_all_its_tags():
    """Through the task: words to tags, dropout on, and then every chunk is found."""
    model = Tagger(
        classes=5, vocabulary=40, features=8, hidden=12, window=3, cell="elman", dropout=0.1
    )
    task = make(model=model, tags=KNOWN.tags)
    batch = jax.tree.map(jnp.asarray, batch_of(KNOWN.tags))
    params, state = jax.jit(task.init)(KEY, batch)

    @jax.jit
    def learn(params):
        def step(params, key):
            gradient = jax.grad(lambda p: task.loss(p, state, (), batch, key).total)(params)
            return jax.tree.map(lambda p, g: p - 0.1 * g / (1 + jnp.abs(g)), params, gradient), None

        learnt, _ = jax.lax.scan(step, params, jax.random.split(KEY, 150))
        before, after = (task.metrics(p, state, batch) for p in (params, learnt))
        return before, after, task.counts(learnt, state, batch)

    before, after, counts = jax.device_get(learn(params))
    assert float(before["error"][0]) > 5
    assert after["error"][0] == 0
    assert task.ratios(counts)["f1"] == 100


class Fewer(Given):
    """Answers with one logit fewer than it says that it has classes."""

    @nn.compact
    def __call__(self, words, *, train: bool, lengths=None):
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * jnp.zeros((*words.shape, self.classes - 1))


def test_logits_are_counted_and_not_words():
    """However many words a sentence has."""
    for time in (2, 9):
        batch = jax.tree.map(jnp.asarray, batch_of(KNOWN.tags, time=time))
        sums = make(tags=KNOWN.tags).metrics(PARAMS, {}, batch)
        assert float(sums["error"][1]) == batch["length"][:-2].sum()
        with pytest.raises(
            ValueError, match=r"Fewer answers with 4 logits, .*'tags' has 5 classes"
        ):
            make(model=Fewer(), tags=KNOWN.tags).metrics(PARAMS, {}, batch)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"classes=5, but there are only 2 tags"):
        make(tags=("O", "B-a"))
    with pytest.raises(ValueError, match="got 'X-a'"):
        make(tags=("O", "B-a", "B-b", "B-c", "X-a"))
    with pytest.raises(ValueError, match="takes no argument 'lengths'"):
        make(model=nn.Dense(5))
    with pytest.raises(ValueError, match=r"needs a feature 'tags', the data set has 'words'"):
        make().check({"words": Feature((None,), "uint8")})
    words = {"words": Feature((None,), "uint8"), "tags": Feature((None,), "uint8")}
    with pytest.raises(ValueError, match=r"needs a feature 'length'.*see config\.encoder"):
        make().check(words)
    make().check(words | {"length": Feature((), "int32")})
