"""Transcription: sums against paths written out, edits by hand, what is learnt, what is said."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.data.spec import Feature
from rcnn_jax.data.text.visual_order import VisualOrder
from rcnn_jax.data.transforms import chain
from rcnn_jax.decoding import ctc
from rcnn_jax.layers.normalization import real_rows
from rcnn_jax.models.transcriber import Transcriber
from rcnn_jax.tasks.classification import Classification
from rcnn_jax.tasks.transcription import Transcription

pytestmark = pytest.mark.one_row

ALPHABET = ("a", "b", " ")
KEY = np.array([0, 1], np.uint32)
PARAMS = {"scale": np.float32(1)}
TABLE = np.random.default_rng(5).normal(size=(40, 4))


class Given(nn.Module):
    """Each frame names a row of logits; two frames make no step, three make one, and so on."""

    classes: int = 4

    @nn.compact
    def __call__(self, x, *, train: bool, lengths=None, sign: float = 1.0):
        del train, lengths
        scale = self.param("scale", nn.initializers.ones, ())
        return sign * scale * jnp.asarray(TABLE, jnp.float32)[x[:, 2:, 0].astype(int)]

    def output_lengths(self, lengths):
        return (lengths - 2) * (lengths > 2)


def make(**arguments) -> Transcription:
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    defaults = {"model": Given(), "alphabet": ALPHABET, "inputs": "frames"}
    return Transcription(**(defaults | chains | arguments))


def batch_of(lines, time=8, most=4, padding=1):
    """Lines `(number of frames, ids)`; then rows of junk that only fill the batch up."""
    rng = np.random.default_rng(len(lines))
    size = len(lines) + padding
    batch = {
        "frames": rng.integers(0, 40, (size, time, 1)).astype(np.float32),
        "length": np.full(size, time, np.int32),
        "labels": np.zeros((size, most), np.int32),
        "label_length": np.full(size, most, np.int32),
        "mask": (np.arange(size) < len(lines)).astype(np.float32),
    }
    for row, (frames, ids) in enumerate(lines):
        batch["length"][row], batch["label_length"][row] = frames, len(ids)
        batch["labels"][row, : len(ids)] = ids
    return batch


# Learnable; too short by one frame between equal labels; just long enough; with a character that
# is not in the alphabet, at the end and alone; both; empty; without any step.
LINES = [
    (6, (1, 2)), (4, (1, 1)), (5, (1, 1)), (7, (1, 4)), (7, (4,)), (3, (2, 5, 2)), (5, ()), (2, ()),
]  # fmt: skip
LEARNT = [0, 2, 6, 7]


def paths(batch, row):
    """Probability of each labelling of a line, by all its paths."""
    steps = batch["frames"][row, 2 : batch["length"][row], 0].astype(int)
    p = np.exp(TABLE[steps])
    p /= p.sum(-1, keepdims=True)
    found = {}
    for path in itertools.product(range(4), repeat=len(steps)):
        labelling = tuple(k for k, _ in itertools.groupby(path) if k)
        share = np.prod([p[t, k] for t, k in enumerate(path)])
        found[labelling] = found.get(labelling, 0) + share
    return found


def run(task, method, batch, *further):
    return jax.device_get(jax.jit(getattr(task, method))(PARAMS, {}, *further, batch))


def test_sums_are_those_of_the_lines_that_have_a_loss():
    """In training and in evaluation; no gradient from the others, whatever they hold."""
    task, batch = make(), batch_of(LINES)
    expected = sum(-np.log(paths(batch, row)[LINES[row][1]]) for row in LEARNT)
    sums = run(task, "metrics", batch)
    np.testing.assert_allclose(sums["loss"], (expected, 4), rtol=1e-5)
    np.testing.assert_array_equal(sums["infeasible"], (2, 8))
    np.testing.assert_array_equal(sums["unknown"], (3, 8))

    def loss(params, batch, key):
        out = task.loss(params, {}, (), batch, key)
        return out.total, out

    graded = jax.jit(jax.grad(loss, has_aux=True))
    gradient, out = graded(PARAMS, batch, KEY)
    np.testing.assert_allclose((out.total, out.count), (expected, 4), rtol=1e-5)
    assert set(out.metrics) == {"infeasible", "unknown"}
    for name, pair in out.metrics.items():
        np.testing.assert_array_equal(pair, sums[name])
    chosen = np.isin(np.arange(9), LEARNT).astype(np.float32)
    alone, _ = graded(PARAMS, batch | {"mask": chosen}, KEY)
    np.testing.assert_allclose(gradient["scale"], alone["scale"], rtol=1e-5)
    assert abs(alone["scale"]) > 0.1
    # A batch of nothing but such lines has nothing to learn from.
    gradient, out = graded(PARAMS, batch | {"mask": batch["mask"] - chosen}, KEY)
    assert (gradient["scale"], out.total, out.count) == (0, 0, 0)


@pytest.mark.parametrize("n_best", [1, 3])
def test_confidence_is_the_probability_of_the_labelling(n_best):
    batch = batch_of([(7, (1,)), (5, (2, 2)), (3, ()), (2, ())])
    task = make(beam_width=400 if n_best > 1 else 0, n_best=n_best)
    predicted = run(task, "predict", batch)
    for row in range(4):
        right = paths(batch, row)
        answers = [
            tuple(ids[:count].tolist())
            for ids, count in zip(
                predicted["labels"][row], predicted["label_lengths"][row], strict=True
            )
        ]
        best = sorted(right.items(), key=lambda pair: -pair[1])[:n_best]
        if n_best == 1:
            steps = batch["frames"][row, 2 : batch["length"][row], 0].astype(int)
            path = TABLE[steps].argmax(-1)
            best = [(tuple(int(k) for k, _ in itertools.groupby(path) if k), None)]
        assert answers[: len(best)] == [labelling for labelling, _ in best]
        shares = [right[labelling] for labelling, _ in best] + [0] * (n_best - len(best))
        np.testing.assert_allclose(predicted["confidences"][row], shares, rtol=1e-5)
    said = task.answers(predicted, {}, n_best)
    assert [len(line) for line in said[:4]] == [min(n_best, n) for n in (3, 3, 3, 1)]
    assert said[3] == [{"text": "", "confidence": 1.0}]
    assert {letter for line in said for own in line for letter in own["text"]} <= set("ab ")


def predicted_as(*lines):
    """Pairs as evaluation collects them, of `(reference ids, answer ids, confidence)`."""
    batch = batch_of([(8, reference) for reference, _, _ in lines], most=6)
    answers = np.zeros((len(lines) + 1, 1, 7), np.int32)
    for row, (_, answer, _) in enumerate(lines):
        answers[row, 0, : len(answer)] = answer
    counts = np.array([[len(answer)] for _, answer, _ in lines] + [[7]], np.int32)
    shares = np.array([[share] for *_, share in lines] + [[0.5]], np.float32)
    return {"labels": answers, "label_lengths": counts, "confidences": shares}, batch


# a b -> a b;  ab ba -> ab b;  a? -> aa;  aa -> ab: 4 characters of 12 are wrong, words 3 of 6.
PAIRS = [
    predicted_as(((1, 3, 2), (1, 3, 2), 0.9), ((1, 2, 3, 2, 1), (1, 2, 3, 2), 0.9)),
    predicted_as(((1, 4), (1, 1), 0.3), ((1, 1), (1, 2), 0.3)),
]


def test_error_rates_by_hand():
    found = make().evaluate(iter(PAIRS))
    assert found == pytest.approx(
        {
            "cer": 3 / 12,
            "wer": 3 / 6,
            "sequence_accuracy": 1 / 4,
            # Both intervals hold two lines: |1/2 - 0.9| and |0 - 0.3|.
            "calibration_error": (0.4 + 0.3) / 2,
        }
    )


def test_tables_say_which_characters_and_which_lines():
    found = make().tables(iter(PAIRS))
    rows = {(row["written"], row["read"]): row["times"] for row in found["confusions"]}
    assert rows == {("a", None): 1, ("\ufffd", "a"): 1, ("a", "b"): 1}
    assert [(row["lines"], row["accuracy"]) for row in found["calibration"]] == [(2, 0), (2, 0.5)]
    assert found["calibration"][1]["confidence"] == pytest.approx(0.9)
    assert found["without_loss"] == [{"why": "a character that is not in the alphabet", "lines": 1}]
    short = batch_of(LINES)
    answers = run(make(), "predict", short)
    kept = [(a, {name: batch[name] for name in ("mask", *make().keeps)}) for a, batch in PAIRS]
    assert (make().tables(kept), make().evaluate(kept)) == (found, make().evaluate(PAIRS))
    assert "frames" not in kept[0][1]
    found = make().tables([(answers, short)])
    assert [row["lines"] for row in found["without_loss"]] == [2, 3]


def test_a_net_of_nan_has_error_rates_and_no_calibration():
    predicted, batch = PAIRS[0]
    pair = (predicted | {"confidences": np.full((3, 1), np.nan, np.float32)}, batch)
    found = make().evaluate([pair])
    assert np.isnan(found["calibration_error"])
    assert found["cer"] == 1 / 8
    assert make().tables([pair])["calibration"] == []


def test_lines_from_right_to_left_are_told_in_logical_order():
    """Labels are as a picture shows them; what is compared and told is as files have it."""
    order = VisualOrder("auto", "R")
    alphabet = tuple(" ()12abאבגד")
    task = make(model=Given(len(alphabet) + 1), alphabet=alphabet, visual_order=order)
    texts = ["אב (גד)", "א ab 12 (ב)", "ab (1)"]
    shown = [[1 + alphabet.index(letter) for letter in order.visual(text)] for text in texts]
    assert ["".join(alphabet[i - 1] for i in ids) for ids in shown] == [
        "(דג) בא", "(ב) ab 12 א", "ab (1)",
    ]  # fmt: skip
    size, most = len(texts), max(map(len, shown))
    batch = {
        "labels": np.array([ids + [0] * (most - len(ids)) for ids in shown], np.int32),
        "label_length": np.array([len(ids) for ids in shown], np.int32),
        "length": np.full(size, 40, np.int32),
        "mask": np.ones(size, np.float32),
    }
    right = {
        "labels": batch["labels"][:, None],
        "label_lengths": batch["label_length"][:, None],
        "confidences": np.full((size, 1), 0.5, np.float32),
    }
    assert [line[0]["text"] for line in task.answers(right, {}, 1)] == texts
    found = task.evaluate([(right, batch)])
    assert (found["cer"], found["wer"], found["sequence_accuracy"]) == (0, 0, 1)
    # One letter of the first line is read as another one.
    wrong = right | {"labels": right["labels"].copy()}
    wrong["labels"][0, 0, 1] = 1 + alphabet.index("א")
    assert task.evaluate([(wrong, batch)])["cer"] == pytest.approx(1 / sum(map(len, texts)))
    tables = task.tables([(wrong, batch)])
    assert tables["confusions"] == [{"written": "ד", "read": "א", "times": 1}]
    first = tables["lines"][0]
    assert (first["text"], first["reference"]) == ("אב (גא)", texts[0])
    # Without an order, as in runs from before there was one, labels are told as they are.
    plain = make(model=Given(len(alphabet) + 1), alphabet=alphabet)
    assert plain.answers(right, {}, 1)[0][0]["text"] == "(דג) בא"


def test_a_lexicon_of_words_from_right_to_left_is_in_the_order_of_labels():
    """The search follows the picture from left to right: words are turned for it."""
    order, alphabet = VisualOrder("auto", "R"), "אבגד"

    def ids(text):
        return [1 + alphabet.index(letter) for letter in text]

    lexicon = ctc.lexicon_of([ids(order.visual(word)) for word in ("אבג", "אד")], classes=5)

    def allows(text):
        state = 0
        for label in ids(text):
            state = lexicon.next_state[state, label] if state >= 0 else -1
        return state >= 0 and bool(lexicon.is_word[state])

    task = make(model=Given(5), alphabet=alphabet, visual_order=order)
    assert allows("גבא")
    assert not allows("אבג")
    assert task.text(ids("גבא")) == "אבג"


def test_what_is_not_in_the_alphabet_is_never_taken_for_a_character_of_it():
    task = make(alphabet=("\ufffd", "\ue000", "b"))
    assert task.text([1, 2, 3, 4]) == "\ufffd\ue000b\ue001"


def images(texts):
    """A letter is a column of three pixels; a column between letters is dark."""
    glyphs = {1: (1, 0, 0, 1), 2: (0, 1, 1, 0)}
    picture = np.zeros((len(texts), 4, 16, 1), np.uint8)
    for row, ids in enumerate(texts):
        for place, number in enumerate(ids):
            picture[row, :, 1 + 3 * place : 3 + 3 * place, 0] = np.array(glyphs[number])[:, None]
    return picture


def test_it_learns_lines_by_heart():
    """By a Transcriber; pads of 16 columns, of which each line has its own number."""
    texts = [(1, 2, 2), (2,), (1, 1, 2, 1, 2), (2, 1), (), (1, 1)]
    model = Transcriber(3, features=(8,), pools=((2, 2),), hidden=8, layers=1, cell="elman")
    task = make(model=model, alphabet=("a", "b"), inputs="image")
    batch = batch_of([(1 + 3 * len(ids), ids) for ids in texts], most=5)
    del batch["frames"]
    batch["image"] = np.concatenate([images(texts), np.full((1, 4, 16, 1), 200, np.uint8)])
    assert task.unit == "lines"
    optimizer = optax.adam(0.03)

    @jax.jit
    def learn(batch, key):
        params, model_state = task.init(key, batch)

        def step(carry, key):
            params, model_state, moments = carry

            def loss(params):
                with real_rows(batch["mask"]):  # as in the training step
                    out = task.loss(params, model_state, (), batch, key)
                return out.total / out.count, out

            gradient, out = jax.grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(gradient, moments)
            params = optax.apply_updates(params, updates)
            return (params, out.model_state, moments), out.total

        start = (params, model_state, optimizer.init(params))
        (params, model_state, _), losses = jax.lax.scan(step, start, jax.random.split(key, 150))
        return task.predict(params, model_state, batch), losses

    predicted, losses = jax.device_get(learn(batch, KEY))
    assert losses[-1] < 0.1 < 5 < losses[0]
    metrics = task.evaluate([(predicted, batch)])
    assert metrics["cer"] == 0
    assert metrics["sequence_accuracy"] == 1
    said = task.answers(predicted, {}, 1)
    assert [line[0]["text"] for line in said[:6]] == ["abb", "b", "aabab", "ba", "", "aa"]
    assert min(line[0]["confidence"] for line in said[:6]) > 0.9


def test_a_file_has_as_many_answers_as_are_asked_for():
    task = make()
    assert task.reads == ("frames",)
    assert task.answering(1).beam_width == 0
    assert (task.answering(3).n_best, task.answering(3).beam_width) == (3, 16)
    assert task.answering(40).beam_width == 40
    assert make(beam_width=30).answering(3).beam_width == 30


def test_classes_are_answers_too():
    chains = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    task = Classification(model=Given(), **chains)
    predicted = {"probabilities": np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0]], np.float32)}
    named = {"label": Feature((), "int32", classes=("cat", "dog", "owl"))}
    best, _ = task.answers(predicted, named, 2)
    assert [own["class"] for own in best] == ["dog", "owl"]
    assert best[0]["probability"] == pytest.approx(0.6)
    for features in ({}, {"label": Feature((), "int32", classes=3)}):
        assert task.answers(predicted, features, 1)[1][0]["class"] == "0"
    assert (task.reads, task.answering(3)) == (("image",), task)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"alphabet": ("a", "b")}, "config.model.classes=4, but 2 characters and the blank are 3"),
        ({"n_best": 2}, "n_best=2 and beam_width=0"),
        ({"n_best": 0}, "n_best=0 and"),
        ({"beam_width": -1}, "beam_width=-1"),
        ({"model": nn.Dense(4)}, "takes no argument 'lengths'"),
    ],
)
def test_a_mistake_is_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        make(**arguments)


def test_a_data_set_without_lines_is_refused():
    frames = {"frames": Feature((8, 1), "float32"), "length": Feature((), "int32")}
    with pytest.raises(
        ValueError, match=r"transcription needs a feature 'labels', .*\.task\.inputs"
    ):
        make().check(frames)
    with pytest.raises(ValueError, match="transcription needs a feature 'image'"):
        make(inputs="image").check(frames)


def test_a_model_without_lengths_of_its_answers_is_refused():
    class Silent(nn.Module):
        classes: int = 4

        @nn.compact
        def __call__(self, x, *, train: bool, lengths=None):
            return x

    with pytest.raises(ValueError, match="needs a model with output_lengths, Silent has none"):
        make(model=Silent())
