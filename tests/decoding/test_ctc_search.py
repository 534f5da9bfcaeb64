"""Best path, prefix search, alignment and beam search against the list of all paths."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoding import oracles
from rcnn_jax.decoding import ctc

pytestmark = pytest.mark.one_row

SMALL = [(4, 3, 0), (3, 4, 3), (5, 2, 1), (4, 4, 1)]  # time, classes, blank
CASES = 250
best_path = jax.jit(ctc.best_path, static_argnums=2)
align = jax.jit(ctc.forced_alignment, static_argnums=4)


def case(time, classes, blank, scale=2.0, cases=CASES):
    everything = oracles.paths(time, classes, blank)
    rng = np.random.default_rng(100 * time + classes)
    logits = scale * rng.normal(size=(cases, time, classes))
    return everything, logits, np.full(cases, time), rng


def search(logits, frames, **options):
    """Under jit as users call it inside their own programs."""
    return jax.jit(functools.partial(ctc.beam_search, **options))(logits, frames)


@pytest.mark.parametrize(("time", "classes", "blank"), SMALL)
def test_best_path_and_prefix_search(time, classes, blank, x64):
    everything, logits, frames, _ = case(time, classes, blank, scale=0.7)
    path_probs, probs = everything.path_probs(logits), everything.probs(logits)
    labels, lengths, value = best_path(logits, frames, blank)
    expected = [everything.labellings[i] for i in everything.owner[path_probs.argmax(1)]]
    assert oracles.unpadded(labels, lengths) == expected
    assert (np.asarray(labels)[np.arange(time) >= np.asarray(lengths)[:, None]] == blank).all()
    np.testing.assert_allclose(value, np.log(path_probs.max(1)), rtol=1e-10)

    labels, lengths, value = ctc.prefix_search(logits, frames, blank)
    most_probable = [everything.labellings[i] for i in probs.argmax(1)]
    assert oracles.unpadded(labels, lengths) == most_probable
    np.testing.assert_allclose(value, np.log(probs.max(1)), rtol=1e-10)
    assert most_probable != expected  # in some cases the best path is another labelling


def test_known_values():
    two = np.log([[[0.6, 0.4], [0.6, 0.4]]])
    labels, lengths, value = ctc.best_path(two, np.array([2]))
    assert oracles.unpadded(labels, lengths) == [()]
    assert np.exp(float(value[0])) == pytest.approx(0.36, abs=1e-6)
    labels, lengths, value = ctc.prefix_search(two, np.array([2]))
    assert oracles.unpadded(labels, lengths) == [(1,)]
    assert np.exp(value[0]) == pytest.approx(0.64, abs=1e-12)
    four = np.log([[[0.3, 0.5, 0.2], [0.4, 0.5, 0.1], [0.5, 0.1, 0.4], [0.1, 0.7, 0.2]]])
    labels, lengths, value = ctc.prefix_search(four, np.array([4]))
    assert oracles.unpadded(labels, lengths) == [(1, 1)]
    assert np.exp(value[0]) == pytest.approx(0.226, abs=5e-4)


def test_prefix_search_on_long_confident_frames_and_its_limit():
    truth = np.tile([1, 1, 0, 2, 3, 3, 0, 3], 25)
    logits = 9.0 * np.eye(4)[truth][None]
    labels, lengths, value = ctc.prefix_search(logits, np.array([200]), max_prefixes=500)
    assert oracles.unpadded(labels, lengths) == [oracles.labelling(truth, 0)]
    exact = -oracles.forward(logits, np.array([200]), labels, lengths, 0)
    np.testing.assert_allclose(value, exact, rtol=1e-10)
    with pytest.raises(ValueError, match="extended max_prefixes=20 prefixes of a sequence of 30"):
        ctc.prefix_search(np.zeros((1, 30, 4)), np.array([30]), max_prefixes=20)
    with pytest.raises(ValueError, match="sequence 1 have a frame without a distribution"):
        ctc.prefix_search(np.array([[[0.0, 1]], [[0, np.nan]]]), np.array([1, 1]))


@pytest.mark.parametrize(("time", "classes", "blank"), SMALL)
def test_alignment_is_the_best_path_of_the_labelling(time, classes, blank, x64):
    everything, logits, frames, rng = case(time, classes, blank)
    chosen = rng.integers(0, len(everything.labellings), CASES)
    labels, lengths = everything.padded(chosen, time, fill=-3)
    found = align(logits, frames, labels, lengths, blank)
    weight = everything.path_probs(logits) * (everything.owner == chosen[:, None])
    paths = everything.paths[weight.argmax(1)]
    np.testing.assert_array_equal(found.path, paths)
    np.testing.assert_allclose(found.log_probabilities, np.log(weight.max(1)), rtol=1e-10)
    probs = np.exp(oracles.log_softmax(logits))
    for row, path in enumerate(paths):
        spans, t = [], 0
        for label, run in itertools.groupby(path):
            end = t + len(list(run))
            if label != blank:
                spans.append((t, end, probs[row, t:end, label].mean()))
            t = end
        assert len(spans) == lengths[row]
        spans += [(0, 0, 0)] * (time - len(spans))
        own = [x[row] for x in (found.starts, found.ends, found.confidences)]
        np.testing.assert_allclose(np.array(own).T, spans, rtol=1e-10, atol=0)


def test_alignment_without_a_path_and_with_padding():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 6, 4)).astype(np.float32)
    frames, lengths = np.array([4, 2, 0, 0]), np.array([2, 2, 0, 1])
    labels = np.array([[1, 1], [2, 2], [1, 1], [3, 1]])
    found = align(logits, frames, labels, lengths, 0)
    np.testing.assert_array_equal(np.isfinite(found.log_probabilities), [True, False, True, False])
    assert float(found.log_probabilities[2]) == 0
    assert (np.asarray(found.path)[1:] == 0).all()
    assert (np.asarray(found.ends)[1:] == 0).all()
    assert (np.asarray(found.confidences)[1:] == 0).all()
    alone = align(logits[:1, :4], frames[:1], labels[:1], lengths[:1], 0)
    np.testing.assert_array_equal(found.path[0], [*alone.path[0], 0, 0])
    np.testing.assert_array_equal(found.starts[0], alone.starts[0])
    np.testing.assert_array_equal(found.ends[0], alone.ends[0])


def expect_beams(found, everything, log_probs, scores, n_best):
    """The n best labellings by score, with their own log-probabilities, and nothing else."""
    order = np.argsort(-scores, axis=1)[:, :n_best]
    best = np.take_along_axis(scores, order, 1)
    np.testing.assert_allclose(found.scores, best, rtol=1e-9)
    own = np.where(np.isfinite(best), np.take_along_axis(log_probs, order, 1), -np.inf)
    np.testing.assert_allclose(found.log_probs, own, rtol=1e-9)
    for row in range(len(scores)):
        expected = [
            everything.labellings[i] if np.isfinite(s) else ()
            for i, s in zip(order[row], best[row], strict=True)
        ]
        assert oracles.unpadded(found.labels[row], found.lengths[row]) == expected


@pytest.mark.parametrize(("time", "classes", "blank"), SMALL)
def test_full_width_is_exhaustive(time, classes, blank, x64):
    everything, logits, frames, _ = case(time, classes, blank)
    log_probs = np.log(everything.probs(logits))
    count = len(everything.labellings)
    wide = sum((classes - 1) ** n for n in range(time + 1)) + 3  # more than there are prefixes
    found = search(logits, frames, width=wide, n_best=count, blank_id=blank)
    expect_beams(found, everything, log_probs, log_probs, count)


def random_model(rng, classes, contexts):
    table = rng.normal(size=(contexts, classes))
    table[rng.random(table.shape) < 0.1] = -np.inf
    return ctc.LanguageModel(table, rng.integers(0, contexts, table.shape), start=1)


def model_score(model, labels):
    context, total = model.start, 0.0
    for label in labels:
        total += model.log_probs[context, label]
        context = model.next_context[context, label]
    return total


@pytest.mark.parametrize("with_lexicon", [False, True], ids=["all", "lexicon"])
@pytest.mark.parametrize("weight", [0.0, 0.6])
def test_language_model_and_lexicon_are_exhaustive(weight, with_lexicon, x64):
    time, classes, blank = 4, 4, 1
    everything, logits, frames, rng = case(time, classes, blank)
    model = random_model(rng, classes, 5)
    words = {(0,), (0, 2), (2, 2, 3), (3, 0, 3, 0), (3, 3)}
    lexicon = ctc.lexicon_of(sorted(words), classes) if with_lexicon else None
    log_probs = np.log(everything.probs(logits))
    extra = np.array(
        [
            (weight * model_score(model, labels) if weight else 0.0) + 0.3 * len(labels)
            if not with_lexicon or labels in words
            else -np.inf
            for labels in everything.labellings
        ]
    )
    found = search(
        logits,
        frames,
        width=125,
        n_best=8,
        blank_id=blank,
        language_model=model,
        lexicon=lexicon,
        lm_weight=weight,
        insertion_bonus=0.3,
    )
    expect_beams(found, everything, log_probs, log_probs + extra, 8)


def test_lexicon_of_many_words_with_a_separator(x64):
    time, classes = 5, 4
    everything, logits, frames, _ = case(time, classes, 0, cases=50)
    words = {(1,), (2, 1), (1, 1, 2)}

    def allowed(labels):
        text = [tuple(g) for sep, g in itertools.groupby(labels, lambda k: k == 3) if not sep]
        tidy = (
            labels
            and labels[0] != 3
            and labels[-1] != 3
            and (3, 3) not in set(itertools.pairwise(labels))
        )
        return bool(tidy) and all(word in words for word in text)

    mask = np.array([0 if allowed(labels) else -np.inf for labels in everything.labellings])
    assert {(1, 3, 2, 1), (1, 3, 1, 3, 1)} <= {
        labels for labels, m in zip(everything.labellings, mask, strict=True) if m == 0
    }
    log_probs = np.log(everything.probs(logits))
    lexicon = ctc.lexicon_of(sorted(words), classes, separator=3)
    found = search(logits, frames, width=364, n_best=3, lexicon=lexicon)
    expect_beams(found, everything, log_probs, log_probs + mask, 3)


class SlowBeam:
    """Prefix beam search with a dictionary of tuples, for any width."""

    def __init__(self, width, blank):
        self.width, self.blank = width, blank

    def __call__(self, scores):
        beam = {(): (0.0, -np.inf)}
        for frame in scores:
            after = {}

            def add(prefix, in_blank, in_label, after=after):
                old = after.get(prefix, (-np.inf, -np.inf))
                after[prefix] = (np.logaddexp(old[0], in_blank), np.logaddexp(old[1], in_label))

            for prefix, (in_blank, in_label) in beam.items():
                whole = np.logaddexp(in_blank, in_label)
                add(prefix, whole + frame[self.blank], -np.inf)
                for k, score in enumerate(frame):
                    if k == self.blank:
                        continue
                    again = bool(prefix) and prefix[-1] == k
                    if again:
                        add(prefix, -np.inf, in_label + score)
                    longer = (*prefix, k)
                    # What is not in the beam is entered from its own parent alone.
                    add(longer, -np.inf, (in_blank if again else whole) + score)
            best = sorted(after.items(), key=lambda item: -np.logaddexp(*item[1]))
            beam = dict(best[: self.width])
        return [(labels, np.logaddexp(*parts)) for labels, parts in beam.items()]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_narrow_beams_keep_what_a_dictionary_keeps(width, x64):
    """Long sequences, so that prefixes leave the beam and come back."""
    rng = np.random.default_rng(width)
    logits = rng.normal(size=(30, 25, 4))
    frames = rng.integers(0, 26, 30)
    found = search(logits, frames, width=width, n_best=width, blank_id=2)
    for row, length in enumerate(frames):
        expected = SlowBeam(width, 2)(oracles.log_softmax(logits[row, :length]))
        kept = np.isfinite(np.asarray(found.log_probs[row]))
        assert kept.sum() == len(expected)
        labels = oracles.unpadded(found.labels[row], found.lengths[row])[: len(expected)]
        assert labels == [prefix for prefix, _ in expected]
        np.testing.assert_allclose(
            found.log_probs[row][: len(expected)], [v for _, v in expected], rtol=1e-9
        )
    exact = -oracles.forward(
        logits, frames, np.asarray(found.labels[:, 0]), np.asarray(found.lengths[:, 0]), 2
    )
    assert (np.asarray(found.log_probs[:, 0]) <= exact + 1e-9).all()


def test_beam_search_of_no_frames_and_beyond_the_length():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(3, 6, 4)).astype(np.float32)
    frames = np.array([4, 0, 6])
    found = search(logits, frames, width=8, n_best=2)
    logits[0, 4:] = np.nan
    again = search(logits, frames, width=8, n_best=2)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.lengths[1].tolist() == [0, 0]
    assert found.log_probs[1].tolist() == [0, -np.inf]
    none = ctc.beam_search(jnp.zeros((2, 0, 3)), np.array([0, 0]), width=2)
    assert none.labels.shape == (2, 1, 0)
    assert none.log_probs.tolist() == [[0], [0]]


def test_not_a_number_is_not_hidden():
    """Neither a NaN nor a frame of impossible classes; beyond the end they do not matter."""
    logits = np.zeros((4, 6, 4), np.float32)
    logits[0, 1, 2] = logits[3, 3, 1] = np.nan
    logits[1, 2] = -np.inf
    frames, labels = np.array([6, 6, 6, 3]), np.ones((4, 2), int)
    broken = [True, True, False, False]
    found = search(logits, frames, width=8, n_best=2)
    assert np.isnan(found.log_probs).all(1).tolist() == broken
    assert np.isfinite(found.scores).all(1).tolist() == [False, False, True, True]
    assert np.isnan(best_path(logits, frames, 0)[2]).tolist() == broken
    aligned = align(logits, frames, labels, np.full(4, 2), 0)
    assert np.isnan(aligned.log_probabilities).tolist() == broken
    assert aligned.ends.max(1).tolist()[:2] == [0, 0]


TABLE = np.zeros((2, 3))
NEXT = np.zeros((2, 3), int)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "1 <= n_best <= width, got n_best=1 and width=0"),
        ({"width": 2, "n_best": 3}, "got n_best=3 and width=2"),
        ({"lm_weight": -1.0}, "lm_weight must be at least 0, .*, got -1.0"),
        ({"insertion_bonus": np.nan}, "insertion_bonus finite, got 1.0 and nan"),
        ({"blank_id": 3}, r"blank_id must lie in 0\.\.2"),
        ({"language_model": ctc.LanguageModel(TABLE, TABLE)}, "next_context must be integers"),
        ({"language_model": ctc.LanguageModel(TABLE[:1], NEXT)}, r"of the shape \(2, 3\)"),
        ({"language_model": ctc.LanguageModel(TABLE + np.nan, NEXT)}, "finite or -inf"),
        ({"language_model": ctc.LanguageModel(TABLE, NEXT + 2)}, r"must lie in 0\.\.1, got 2"),
        ({"language_model": ctc.LanguageModel(TABLE, NEXT, 2)}, "start of a language model"),
        ({"lexicon": ctc.Lexicon(NEXT[:, :2], np.ones(2, bool))}, "next_state must be integers"),
        ({"lexicon": ctc.Lexicon(NEXT, np.ones(2))}, "is_word of a lexicon must be 2 booleans"),
        ({"lexicon": ctc.Lexicon(NEXT - 2, np.ones(2, bool))}, r"must lie in -1\.\.1, got -2"),
    ],
)
def test_one_sentence_for_what_is_impossible(options, message):
    with pytest.raises(ValueError, match=message):
        ctc.beam_search(np.zeros((1, 2, 3), np.float32), np.array([2]), **options)


@pytest.mark.parametrize("word", [[], [1, 4], [-1], [1, 2]])
def test_impossible_words_are_named(word):
    with pytest.raises(ValueError, match="a word must be of one label or more"):
        ctc.lexicon_of([[1], word], 4, separator=2)
