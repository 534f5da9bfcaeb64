"""NaN made at run time in scores: no search, sample or answer hides it behind numbers.

On x86 such a NaN has its sign bit set, and the order by bits of `jax.lax.top_k` puts it below every
number; the constant NaN stands above. Both are made here, under jit, from arguments.
"""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rcnn_jax
from rcnn_jax.data.text.vocabulary import PAD
from rcnn_jax.decoding import ctc
from rcnn_jax.decoding.beam import beam_search
from rcnn_jax.decoding.sampling import greedy, sample
from rcnn_jax.decoding.top_k import best_of, top_k
from rcnn_jax.metrics.best_class import NO_ANSWER, best_class

INFINITY = np.float32(np.inf)
SIGNS = (1.0, -1.0)
BOS, EOS, STEPS = 1, 2, 3
KNOWN = {"steps": STEPS, "start_id": BOS, "end_id": EOS}


def made(infinity, sign):
    """A NaN that the compiler does not know, of either sign."""
    nan = infinity - infinity
    return jax.lax.select(sign < 0, -nan, nan)


def test_both_signs_are_made():
    bits = [
        jax.jit(lambda i, s: jax.lax.bitcast_convert_type(made(i, s), jnp.uint32) >> 31)(
            INFINITY, sign
        )
        for sign in SIGNS
    ]
    assert sorted(map(int, bits)) == [0, 1]


@functools.partial(jax.jit, static_argnames="k")
def largest(values, where, infinity, sign, k):
    """By both functions, of values of which one, if it is there, becomes NaN."""
    values = values.at[where].set(made(infinity, sign).astype(values.dtype), mode="drop")
    return [top_k(values, k), [each[0] for each in best_of(values[None], k)]], best_class(values)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("classes", [6, 1100])
def test_the_largest_values_begin_with_what_is_no_number(dtype, classes):
    values = np.linspace(-3, 3, classes).astype(dtype)
    values[[1, 2]] = np.inf, -np.inf
    for where in (classes - 1, 4):
        for sign in SIGNS:
            both, best = largest(values, where, INFINITY, sign, k=4)
            for found, places in both:
                found = np.asarray(found, np.float32)
                assert np.isnan(found).tolist() == [True, False, False, False]
                assert (np.diff(found[1:]) <= 0).all()
                assert places[:2].tolist() == [where, 1]
            assert best == NO_ANSWER
    values = np.full(classes, -2, dtype)
    values[:4] = -1, -0.0, 0, -0.0
    both, best = largest(values, classes, INFINITY, 1.0, k=4)
    for found, places in both:
        assert np.asarray(found, np.float32).tolist() == [0, 0, 0, -1]
        assert places.tolist() == [1, 2, 3, 0]
    assert best == 1


def step(ids, state):
    """Ids 0 to 3; row 1 breaks after it has written a 3, and row 2 at once."""
    table = jnp.log(jnp.array([[0.1, 0.1, 0.2, 0.6], [0.25, 0.1, 0.15, 0.5]], jnp.float32))
    logits = jnp.where((ids == BOS)[:, None], table[:1], table[1:])
    breaks = (state["row"] == 2) | ((state["row"] == 1) & (ids == 3))
    kinds = {
        "a logit": jnp.arange(4)[None] == 1,  # of a banned id, too
        "an infinite logit": jnp.arange(4)[None] == 1,
        "no possible id": jnp.ones((1, 4), bool),
    }
    broken = {
        "a logit": made(state["infinity"][:1], state["sign"][0]),
        "an infinite logit": state["infinity"][:1],
        "no possible id": -state["infinity"][:1],
    }
    for number, kind in enumerate(kinds):
        chosen = breaks[:, None] & kinds[kind] & (state["kind"] == number)[:, None]
        logits = jnp.where(chosen, broken[kind][None], logits)
    return logits, state


def state_of(sign, kind):
    rows = {"row": np.arange(3), "infinity": np.full(3, INFINITY)}
    return rows | {"sign": np.full(3, sign), "kind": np.full(3, kind)}


@functools.partial(jax.jit, static_argnames="n_best")
def searched(state, n_best=2):
    return beam_search(step, state, len(state["row"]), width=3, n_best=n_best, banned=(1,), **KNOWN)


@functools.cache
def writers():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "greedy": jax.jit(lambda state: greedy(step, state, 3, banned=(1,), **KNOWN)),
        "sample": jax.jit(lambda state: sample(step, state, keys, banned=(1,), **KNOWN)),
        "of two": jax.jit(lambda state: sample(step, state, keys, top_k=2, **KNOWN)),
    }


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("sign", SIGNS)
def test_a_beam_with_a_broken_sequence_has_no_answer(sign, kind):
    found = searched(state_of(sign, kind))
    assert np.isnan(found.log_probs).all(1).tolist() == [False, True, True]
    assert np.isnan(found.scores).all(1).tolist() == [False, True, True]
    assert (np.asarray(found.ids[1:]) == PAD).all()
    assert not np.asarray(found.lengths[1:]).any()
    # Row 0 is what it is without the others beside it.
    alone = searched({name: values[:1] for name, values in state_of(sign, kind).items()})
    for mine, its in zip(found, alone, strict=True):
        np.testing.assert_array_equal(mine[:1], its)
    assert np.isfinite(found.log_probs[0]).all()


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("how", ["greedy", "sample", "of two"])
def test_a_row_without_a_distribution_has_no_ids(how, sign, kind):
    written = writers()[how](state_of(sign, kind))
    log_probs, ids = np.asarray(written.log_probs), np.asarray(written.ids)
    assert np.isfinite(log_probs[0])
    assert np.isnan(log_probs[2])
    assert np.isnan(log_probs[1]) or 3 not in ids[1]  # a sample need not contain a 3
    assert how != "greedy" or np.isnan(log_probs[1])
    assert (ids[np.isnan(log_probs)] == PAD).all()
    assert (np.asarray(written.lengths) > 0).tolist() == np.isfinite(log_probs).tolist()


def test_a_search_that_is_over_is_not_broken_by_what_follows_beside_it():
    """Row 0 ends at once, and its model has no distribution afterwards; row 1 takes all steps."""

    def late(ids, state):
        ended = jnp.array([[0.0, 0.0, 50.0, 0.0]])
        going_on = jnp.array([[0.0, 0.0, -50.0, 9.0]])
        logits = jnp.where((state["row"] == 0)[:, None], ended, going_on)
        nan = made(state["infinity"], 1.0)
        broken = (state["row"] == 0) & (ids != BOS)
        return jnp.where(broken[:, None], nan[:, None], logits), state

    rows = {"row": np.arange(2), "infinity": np.full(2, INFINITY)}
    found = jax.jit(lambda state: beam_search(late, state, 2, width=2, **KNOWN))(rows)
    assert found.ids[:, 0].tolist() == [[EOS, PAD, PAD], [3, 3, 3]]
    assert np.isfinite(found.log_probs).all()


def test_no_decoder_of_ctc_reads_a_line_with_a_broken_frame():
    logits = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)

    @jax.jit
    def decode(logits, infinity, sign):
        logits = logits.at[1, 2, 3].set(made(infinity, sign))
        lengths = np.array([5, 5])
        return ctc.beam_search(logits, lengths, width=4, n_best=2), ctc.best_path(logits, lengths)

    for sign in SIGNS:
        beams, (labels, counts, log_probs) = jax.device_get(decode(logits, INFINITY, sign))
        assert np.isnan(beams.log_probs).all(1).tolist() == [False, True]
        assert np.isnan(log_probs).tolist() == [False, True]
        assert (counts > 0).tolist() == [True, False]
        assert not labels[1].any()
        assert not beams.labels[1].any()


def users(names, modules):
    """Files of the package that take one of the names from one of the modules."""
    package = pathlib.Path(rcnn_jax.__file__).parent
    found = set()
    for file in package.rglob("*.py"):
        text = file.read_text()
        if not any(name in text for name in names):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                taken = node.attr in names and ast.unparse(node.value) in modules
            else:
                taken = isinstance(node, ast.ImportFrom) and node.module in modules
                taken = taken and any(alias.name in names for alias in node.names)
            if taken:
                found.add(file.relative_to(package).as_posix())
    return found


def test_one_module_alone_selects_the_largest():
    """Whoever calls the functions of JAX anywhere else loses the care that is taken there."""
    names = {"top_k", "approx_max_k", "approx_min_k"}
    assert users(names, {"lax", "jax.lax"}) == {"decoding/top_k.py"}


def test_classes_are_taken_from_scores_where_nan_is_seen():
    """`argmax` of scores answers with a class where a score is NaN; what it is used for is known.

    Positions in windows and booleans, and the paths of CTC, whose probabilities are NaN then.
    """
    names = {"argmax", "argmin", "argsort", "sort"}
    assert users(names, {"jnp", "jax.numpy", "lax", "jax.lax"}) == {
        "metrics/best_class.py",
        "layers/pooling.py",
        "decoding/sampling.py",
        "decoding/ctc/alignment.py",
        "decoding/ctc/beam.py",
        "decoding/ctc/best_path.py",
    }
