"""Sequences written id by id, against enumeration of all of them.

The model of these tests has a state, a number that depends on every id it has read, so that a
sequence which goes on from the state of another one is found out.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.text import vocabulary
from rcnn_jax.data.text.vocabulary import PAD
from rcnn_jax.decoding import sampling
from rcnn_jax.decoding.beam import beam_search
from rcnn_jax.decoding.sampling import greedy, sample
from rcnn_jax.decoding.top_k import best_of

CLASSES, STATES, BATCH, STEPS = 4, 11, 3, 4
BOS, EOS = 1, 2
TABLE = 1.5 * np.random.default_rng(0).normal(size=(BATCH, STATES, CLASSES)).astype(np.float32)
STATE = {"number": np.array([3, 5, 7]), "table": np.arange(BATCH)}
KNOWN = {"start_id": BOS, "end_id": EOS}


def step(ids, state):
    number = (state["number"] * CLASSES + ids) % STATES
    return jnp.asarray(TABLE)[state["table"], number], {**state, "number": number}


def log_probs_after(row, written):
    """Log-probabilities of the id after those written, by NumPy."""
    number = int(STATE["number"][row])
    for last in (BOS, *written):
        number = (number * CLASSES + last) % STATES
    logits = TABLE[row, number].astype(np.float64)
    return logits - np.log(np.exp(logits).sum())


def every(row, banned=(), length_power=0.0):
    """All sequences that end, or are cut, with log-probabilities and scores, the best first."""
    found = []
    for length in range(1, STEPS + 1):
        for ids in itertools.product(range(CLASSES), repeat=length):
            ended = ids[-1] == EOS or length == STEPS
            if EOS in ids[:-1] or not ended or set(ids) & set(banned):
                continue
            total = sum(log_probs_after(row, ids[:place])[ids[place]] for place in range(length))
            found.append((total / length**length_power, total, ids))
    return sorted(found, reverse=True)


@functools.partial(jax.jit, static_argnames=("width", "n_best", "length_power", "banned"))
def searched(state, **arguments):
    return beam_search(step, state, BATCH, steps=STEPS, **KNOWN, **arguments)


@pytest.mark.parametrize(("length_power", "banned"), [(0.0, ()), (1.0, (0,)), (0.7, ())])
def test_a_beam_that_holds_everything_finds_the_best_of_all(length_power, banned):
    found = searched(
        STATE, width=CLASSES**STEPS, n_best=12, length_power=length_power, banned=banned
    )
    for row in range(BATCH):
        wanted = every(row, banned, length_power)[:12]
        for place, (score, total, ids) in enumerate(wanted):
            length = int(found.lengths[row, place])
            assert tuple(found.ids[row, place, :length].tolist()) == ids
            assert (np.asarray(found.ids[row, place, length:]) == PAD).all()
            np.testing.assert_allclose(found.log_probs[row, place], total, rtol=1e-5)
            np.testing.assert_allclose(found.scores[row, place], score, rtol=1e-5)


def test_a_small_beam_is_what_a_plain_search_finds():
    """Against a list of prefixes, sorted anew at each step; what has ended leaves its place."""
    width, n_best = 3, 5
    found = searched(STATE, width=width, n_best=n_best)
    for row in range(BATCH):
        beam, ended = [(0.0, ())], []
        for length in range(1, STEPS + 1):
            longer = [
                (total + log_prob, (*ids, number))
                for total, ids in beam
                for number, log_prob in enumerate(log_probs_after(row, ids))
            ]
            best = sorted(longer, reverse=True)[:width]
            ended += [one for one in best if one[1][-1] == EOS or length == STEPS]
            beam = [one for one in best if one[1][-1] != EOS]
        wanted = sorted(ended, reverse=True)[:n_best]
        lengths = np.asarray(found.lengths[row])
        got = [tuple(ids[:n].tolist()) for ids, n in zip(found.ids[row], lengths, strict=True)]
        assert got[: len(wanted)] == [ids for _, ids in wanted]
        assert not lengths[len(wanted) :].any()


def test_a_beam_of_one_is_greedy():
    found = searched(STATE, width=1, n_best=1)
    written = jax.jit(lambda state: greedy(step, state, BATCH, steps=STEPS, **KNOWN))(STATE)
    np.testing.assert_array_equal(found.ids[:, 0], written.ids)
    np.testing.assert_array_equal(found.lengths[:, 0], written.lengths)
    np.testing.assert_allclose(found.log_probs[:, 0], written.log_probs, rtol=1e-6)
    for row, length in enumerate(np.asarray(written.lengths)):
        ids = written.ids[row, :length].tolist()
        for place, number in enumerate(ids):
            assert np.argmax(log_probs_after(row, ids[:place])) == number
        assert (number == EOS) or length == STEPS
        assert (np.asarray(written.ids[row, length:]) == PAD).all()


def test_some_sequences_end_early_here():
    """Else the tests above would not look at what follows an end."""
    lengths = {len(ids) for row in range(BATCH) for _, _, ids in every(row)[:12]}
    assert lengths == {1, 2, 3, 4} or lengths == {1, 2, 3}


def test_samples_have_the_probabilities_of_the_model():
    draws, row = 4000, 1
    state = {name: np.full(draws, values[row]) for name, values in STATE.items()}
    run = functools.partial(sample, step, steps=STEPS, **KNOWN)
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = jax.jit(run)(state, keys)
    counted = {}
    for ids, length, log_prob in zip(*map(np.asarray, drawn), strict=True):
        ids = tuple(ids[:length].tolist())
        counted[ids] = counted.get(ids, 0) + 1
        total = sum(log_probs_after(row, ids[:n])[ids[n]] for n in range(len(ids)))
        np.testing.assert_allclose(log_prob, total, rtol=1e-4)
    for _, total, ids in every(row)[:20]:
        expected = draws * np.exp(total)
        assert abs(counted.get(ids, 0) - expected) < 5 * np.sqrt(expected) + 1
    # Each row draws by its own key, whatever stands beside it.
    few = jax.jit(run)({name: values[:7] for name, values in state.items()}, keys[:7])
    np.testing.assert_array_equal(few.ids, drawn.ids[:7])


def test_cold_samples_and_samples_of_the_best_are_greedy():
    keys = jax.random.split(jax.random.key(1), BATCH)
    written = greedy(step, STATE, BATCH, steps=STEPS, **KNOWN)
    cold = sample(step, STATE, keys, steps=STEPS, temperature=1e-4, **KNOWN)
    best = sample(step, STATE, keys, steps=STEPS, top_k=1, **KNOWN)
    for drawn in (cold, best):
        np.testing.assert_array_equal(drawn.ids, written.ids)
        # Of the model, not of the distribution that was drawn from.
        np.testing.assert_allclose(drawn.log_probs, written.log_probs, rtol=1e-6)


def test_banned_ids_are_never_written():
    keys = jax.random.split(jax.random.key(2), BATCH)
    for banned in ((0, 3), (BOS, EOS)):
        for written in (
            greedy(step, STATE, BATCH, steps=STEPS, banned=banned, **KNOWN).ids,
            sample(step, STATE, keys, steps=STEPS, banned=banned, **KNOWN).ids,
            searched(STATE, width=3, n_best=3, banned=banned).ids,
        ):
            assert not np.isin(written, banned).any()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"width": 0}, "width of at least 1, got 0"),
        ({"steps": 0}, "steps of at least 1, got 0"),
        ({"n_best": 0}, "n_best of at least 1, got 0"),
        ({"length_power": -1.0}, "at least 0, got -1.0"),
        ({"banned": (4,)}, r"0\.\.3"),
        ({"banned": (0, 1, 2, 3)}, "leave something"),
    ],
)
def test_impossible_searches(arguments, problem):
    given = {"width": 2, "steps": STEPS, **KNOWN} | arguments
    with pytest.raises(ValueError, match=problem):
        beam_search(step, STATE, BATCH, **given)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"temperature": 0.0}, "temperature is positive"),
        ({"top_k": -1}, "top_k at least 0"),
        ({"steps": 0}, "steps=0"),
        ({"banned": (-1,)}, r"0\.\.3"),
    ],
)
def test_impossible_samples(arguments, problem):
    keys = jax.random.split(jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match=problem):
        sample(step, STATE, keys, **({"steps": STEPS, **KNOWN} | arguments))


@pytest.mark.parametrize("kind", ["all differ", "many are equal", "few are finite"])
def test_the_best_of_many(kind):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 1999)).astype(np.float32)
    if kind == "many are equal":
        values = np.round(values)
    if kind == "few are finite":
        values[:, 3:] = -np.inf
    found, places = jax.jit(functools.partial(best_of, k=7))(values)
    np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, :-8:-1])
    np.testing.assert_array_equal(found, np.take_along_axis(values, np.asarray(places), axis=1))
    if kind != "few are finite":
        assert all(len(set(row)) == 7 for row in np.asarray(places).tolist())


def test_nothing_has_one_number():
    assert sampling.PAD == vocabulary.PAD
