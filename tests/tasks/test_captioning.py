"""Captioning: which words count, which sentence is learnt, and what is said of the answers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.vocabulary import BOS, EOS, PAD, SPECIALS, UNK
from rcnn_jax.data.transforms import chain
from rcnn_jax.models.captioner import multimodal_rnn
from rcnn_jax.models.tagger import Tagger
from rcnn_jax.tasks.captioning import Captioning, picture_keys

KEY = np.array([0, 1], np.uint32)
WORDS = ("<other>", *SPECIALS, "a", "red", "dog", "runs", "zebra", "quagga")
CLASSES, SIZE, STEPS = 7, 4, 5  # the last two words are in no vocabulary
MODEL = multimodal_rnn(CLASSES, features=4, hidden=6, dropout=0.0, output_dropout=0.0)
CAPTIONS = np.array(
    [
        [[3, 5, 6, EOS, -1], [3, 4, 5, 6, EOS]],
        [[3, UNK, EOS, -1, -1], [-1] * 5],
        [[4, 4, 4, 4, EOS], [5, EOS, -1, -1, -1]],
    ],
    np.int32,
)
REFERENCES = np.array(
    [[[3, 5, 6, -1], [3, 4, 5, 6]], [[3, 7, -1, -1], [-1] * 4], [[4, 4, 4, 4], [5, -1, -1, -1]]],
    np.int32,
)
RNG = np.random.default_rng(0)
BATCH = {
    "features": RNG.normal(size=(3, SIZE)).astype(np.float32),
    "captions": CAPTIONS,
    "caption_lengths": np.array([[4, 5], [3, 0], [5, 2]], np.int32),
    "references": REFERENCES,
    "reference_lengths": np.array([[3, 4], [2, 0], [4, 1]], np.int32),
    "file": np.array([[97, 0], [98, 99], [100, 0]], np.uint8),
    "mask": np.array([1, 1, 0], np.float32),
}
PLACED = jax.tree.map(jnp.asarray, BATCH)


def make(**arguments):
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    known = {"model": MODEL, "words": WORDS, "inputs": "features", "max_steps": STEPS}
    return Captioning(**(chains | known | arguments))


@functools.cache
def params():
    shapes = jax.eval_shape(lambda key: make().init(key, PLACED)[0], jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


@functools.cache
def log_probs():
    """Of every word of every caption, by the model itself, `[pictures, sentences, steps]`."""
    run = jax.jit(functools.partial(MODEL.apply, train=False))
    logits = run({"params": params()}, PLACED["features"], targets=CAPTIONS)
    every = np.asarray(jax.nn.log_softmax(logits))
    return np.take_along_axis(every, np.maximum(CAPTIONS, 0)[..., None], axis=-1)[..., 0], every


def broken():
    """The batch with numbers that are none in the vectors of the second and third picture."""
    features = np.array(PLACED["features"])
    features[1, 2], features[2] = np.array([-np.nan, np.nan], np.float32)
    return {**PLACED, "features": jnp.asarray(features)}


def no_answer(task, predicted):
    assert np.isnan(predicted["log_probs"]).all(axis=1).tolist() == [False, True, True]
    assert (predicted["ids"][1:] == PAD).all()
    assert not predicted["lengths"][1:].any()
    for answers in task.answers(predicted, {}, 2)[1:]:
        assert [answer["caption"] for answer in answers] == [""]
        assert np.isnan(answers[0]["probability"])


def test_the_loss_is_of_real_words_and_ends():
    total, count = jax.jit(make().metrics)(params(), {}, PLACED)["loss"]
    own = log_probs()[0]
    counted = [own[0, 0, :4], own[0, 1, :5], own[1, 0, :3]]
    np.testing.assert_allclose(total, -sum(part.sum() for part in counted), rtol=1e-5)
    assert count == 12


def test_all_sentences_are_learnt_or_one_at_a_time():
    keys = jax.vmap(jax.random.key)(np.arange(40))
    task = make(sentences="all")
    whole = jax.jit(lambda key: task.loss(params(), {}, (), PLACED, key))(keys[0])
    np.testing.assert_allclose(
        whole.total, make().metrics(params(), {}, PLACED)["loss"][0], rtol=1e-5
    )
    assert whole.count == 12
    one = make()
    drawn = jax.jit(jax.vmap(lambda key: one.loss(params(), {}, (), PLACED, key)))(keys)
    own = log_probs()[0]
    short, long = (-own[0, row, :length].sum() for row, length in ((0, 4), (1, 5)))
    rest = -own[1, 0, :3].sum()
    # The second picture has one sentence, which is drawn always; the third row is padding.
    expected = {7: short + rest, 8: long + rest}
    assert set(np.asarray(drawn.count).tolist()) == set(expected)
    for total, count in zip(drawn.total, drawn.count, strict=True):
        np.testing.assert_allclose(total, expected[int(count)], rtol=1e-5)


def test_answers_are_the_most_probable_sentences():
    """Against every sentence there is of up to three ids."""
    task = make(max_steps=3, beam_width=7**3, n_best=4)
    predict = jax.jit(task.predict)
    found = jax.device_get(predict(params(), {}, PLACED))
    no_answer(task, jax.device_get(predict(params(), {}, broken())))
    words = [number for number in range(CLASSES) if number not in (UNK, BOS)]
    sentences = [
        ids
        for n in (1, 2, 3)
        for ids in itertools.product(words, repeat=n)
        if EOS not in ids[:-1] and (ids[-1] == EOS or n == 3)
    ]
    table = np.full((1, len(sentences), 3), PAD, np.int32)
    for row, ids in zip(table[0], sentences, strict=True):
        row[: len(ids)] = ids
    x = PLACED["features"]
    run = jax.jit(functools.partial(MODEL.apply, train=False))
    logits = run({"params": params()}, x, targets=np.repeat(table, 3, axis=0))
    own = np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits)), np.maximum(table, 0)[..., None], axis=-1
    )[..., 0]
    totals = np.where(table >= 0, own, 0).sum(axis=-1)
    for picture in range(3):
        best = np.argsort(-totals[picture])[:4]
        np.testing.assert_allclose(found["log_probs"][picture], totals[picture][best], rtol=1e-4)
        said = [task.sentence(ids.tolist()) for ids in found["ids"][picture]]
        assert said == [task.sentence(table[0, row].tolist()) for row in best]


def test_sentences_are_drawn_as_often_as_they_are_probable():
    task = make(temperature=1.0, n_best=2000, max_steps=2)
    predict = jax.jit(task.predict)
    found = jax.device_get(predict(params(), {}, PLACED))
    assert (np.diff(found["log_probs"]) <= 0).all()
    allowed = np.array([n not in (UNK, BOS) for n in range(CLASSES)])
    for picture in range(3):
        wanted = np.exp(log_probs()[1][picture, 0, 0]) * allowed
        wanted /= wanted.sum()
        drawn = np.bincount(found["ids"][picture, :, 0], minlength=CLASSES) / 2000
        np.testing.assert_allclose(drawn, wanted, atol=5 * 0.5 / 2000**0.5)
        assert ((drawn > 0) <= allowed).all()
    no_answer(task, jax.device_get(predict(params(), {}, broken())))


def test_what_is_drawn_depends_on_picture_and_seed_alone():
    def drawn(batch, **arguments):
        task = make(temperature=1.0, n_best=8, **arguments)
        return jax.device_get(jax.jit(task.predict)(params(), {}, batch))

    found = drawn(PLACED)
    order = np.array([2, 0, 1, 0])
    again = drawn({"features": PLACED["features"][order]})
    for name in ("ids", "log_probs"):
        np.testing.assert_allclose(found[name][order], again[name], rtol=1e-5)
    other = drawn(PLACED, drawing_seed=1)
    assert (found["ids"] != other["ids"]).any(axis=(1, 2)).all()
    only = drawn(PLACED, top_k=1)["ids"]
    greedy = jax.device_get(jax.jit(make(beam_width=1).predict)(params(), {}, PLACED))["ids"]
    np.testing.assert_array_equal(only, np.repeat(greedy, 8, axis=1))


def test_pictures_have_keys_of_their_own():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images[1, 0, 0, 0] = 1
    images[2, 0, 0, 1] = 1  # the same numbers elsewhere
    keys = jax.random.key_data(picture_keys(0, jnp.asarray(images)))
    assert len({tuple(key) for key in keys.tolist()}) == 3
    np.testing.assert_array_equal(keys[0], keys[3])


def answered(captions):
    """Predictions that say these sentences, of words."""
    ids = np.full((len(captions), 1, STEPS), PAD, np.int32)
    for row, words in zip(ids, captions, strict=True):
        said = [WORDS.index(word) for word in words.split()]
        row[0, : len(said) + 1] = [*said, EOS]
    return {"ids": ids, "log_probs": np.zeros((len(captions), 1), np.float32)}


def test_right_sentences_and_copies():
    task = make(training_captions=("a dog runs", "a dog", "red red"))
    predictions = [(answered(["a dog runs", "a", "red"]), BATCH)]
    found = task.evaluate(iter(predictions))
    # Unigrams: "a dog runs" is right, "a" is in "a zebra"; 4 of 4, one word shorter than closest.
    assert found["bleu_1"] == pytest.approx(np.exp(1 - 5 / 4), rel=1e-6)
    assert 0 < found["rouge_l"] < 1
    assert (found["copied"], found["exact"]) == (0.5, 0.5)
    shown = task.tables(predictions)["captions"]
    assert [row["caption"] for row in shown] == ["a dog runs", "a"], "padding is no picture"
    assert [row["file"] for row in shown] == ["a", "bc"]
    assert [row["example"] for row in shown] == [0, 1]
    unread = {**BATCH, "mask": np.array([0, 1, 1], np.float32)}
    shown = task.tables([(answered(["red", "a", "dog"]), unread)])["captions"]
    assert [(row["example"], row["caption"]) for row in shown] == [(1, "a"), (2, "dog")]
    shown = task.tables(predictions)["captions"]
    # What is in no vocabulary is a word of the references all the same.
    assert shown[1]["references"] == ["a zebra"]
    assert shown[0]["references"] == ["a dog runs", "a red dog runs"]


def judged(captions, features):
    assert set(features) == {"file"}
    return {"judged": float(len(captions)), "files": float(features["file"].sum())}


judged.reads = ("file",)


def test_what_is_kept_of_a_batch_is_all_that_is_read_on_the_host():
    task = make(judge=f"{__name__}:judged")
    whole = [(answered(["a dog", "a", "a"]), BATCH)]
    kept = [(whole[0][0], {name: BATCH[name] for name in ("mask", *task.keeps)})]
    assert "features" not in kept[0][1]
    assert task.evaluate(kept) == task.evaluate(whole)
    assert task.tables(kept) == task.tables(whole)
    without = [(whole[0][0], {k: v for k, v in BATCH.items() if k != "file"})]
    assert [row["file"] for row in make().tables(without)["captions"]] == ["", ""]


def test_a_judge_sees_captions_and_the_features_that_it_names():
    task = make(judge=f"{__name__}:judged")
    found = task.evaluate([(answered(["a", "a", "a"]), BATCH)] * 2)
    assert found["judged"] == 4
    assert found["files"] == 2 * (97 + 98 + 99)
    assert not set(make().evaluate([(answered(["a", "a", "a"]), BATCH)])) & {"judged", "copied"}


def test_answers_for_people():
    task = make().answering(3)
    assert (task.n_best, task.beam_width, make().answering(1).beam_width) == (3, 7, 7)
    assert make(beam_width=1).answering(2).beam_width == 2
    predicted = {
        "ids": np.array([[[3, 5, EOS], [3, EOS, -1], [-1] * 3]], np.int32),
        "log_probs": np.array([[np.log(0.5), np.log(0.25), -np.inf]]),
    }
    rows = task.answers(predicted, {}, 3)
    assert [row["caption"] for row in rows[0]] == ["a dog", "a"]
    assert rows[0][1]["probability"] == pytest.approx(0.25)
    assert task.reads == ("features",)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"sentences": "two"}, "one of one, all, got 'two'"),
        ({"beam_width": 0}, "beam_width must be at least 1, got 0"),
        ({"temperature": -1.0}, r"at least 0, got -1\.0, 0 and 0: see config\.decoding"),
        ({"words": WORDS[:5]}, "5 words of the data do not fit a model with classes=7"),
        ({"judge": "nobody:judge"}, "config.task.judge"),
        ({"judge": f"{__name__}:answered"}, r"answered' has no attribute `reads`"),
        ({"model": Tagger(classes=7, vocabulary=3)}, "targets"),
    ],
)
def test_impossible_tasks(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        make(**arguments)


def test_a_data_set_without_sentences():
    with pytest.raises(ValueError, match="needs a feature 'captions'"):
        make().check({"features": Feature((SIZE,), "float32")})
    with pytest.raises(ValueError, match=r"needs a feature 'image'.*config\.task\.inputs"):
        make(inputs="image").check({"features": Feature((SIZE,), "float32")})
    features = {name: Feature(value.shape[1:], "int32") for name, value in BATCH.items()}
    del features["file"]
    with pytest.raises(ValueError, match=r"the judge .*:judged needs a feature 'file'"):
        make(judge=f"{__name__}:judged").check(features)


def test_four_devices_draw_the_same_sentences():
    """The draw belongs to the example, not to where it lies."""
    task = make()
    batch = {name: np.concatenate([value] * 4)[:8] for name, value in BATCH.items()}
    batch = jax.tree.map(jnp.asarray, batch)

    def drawn(rows):
        return task.training_batch(rows, jnp.asarray(KEY))["captions"]

    whole = jax.jit(drawn)(batch)
    split = jax.tree.map(lambda value: value.reshape(4, 2, *value.shape[1:]), batch)
    apart = jax.jit(jax.vmap(drawn, axis_name="data"))(split)
    np.testing.assert_array_equal(apart.reshape(whole.shape), whole)
    assert not np.array_equal(whole[0], whole[3]) or not np.array_equal(whole[0], whole[6])
