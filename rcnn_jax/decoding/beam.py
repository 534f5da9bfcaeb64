"""Beam search over sequences that a model generates id by id.

References:
    Sutskever, Vinyals & Le, Sequence to sequence learning with neural networks, NIPS 2014 (left to
    right search, where a sequence that has ended leaves the beam);
    Wu et al., Google's neural machine translation system, 2016 (powers of the length).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from rcnn_jax.data.text.vocabulary import PAD
from rcnn_jax.decoding.sampling import Step, allowed_logits
from rcnn_jax.decoding.top_k import best_of, top_k


class Beams(NamedTuple):
    """The best sequences that a beam search found, the best first.

    Attributes:
        ids: Generated ids, `int32[batch, n_best, steps]`, including the end id, and `PAD` after it.
            A sequence that has not ended within `steps` ids is cut.
        lengths: Number of ids including the end id, `int32[batch, n_best]`; 0 where fewer sequences
            were found.
        log_probs: Natural logarithms of the sequences' probabilities, `[batch, n_best]`; -inf where
            fewer sequences were found. All of a search are NaN, and its lengths 0, where an id had
            no distribution: a logit was NaN or inf, or all were -inf.
        scores: The order of the sequences, `log_probs / lengths ** length_power`,
            `[batch, n_best]`.
    """

    ids: Int[Array, "batch n_best steps"]
    lengths: Int[Array, "batch n_best"]
    log_probs: Float[Array, "batch n_best"]
    scores: Float[Array, "batch n_best"]


class _Search(NamedTuple):
    """State of the search: the unfinished sequences of the beam, and the finished ones."""

    number: Array  # of steps so far, []
    ids: Array  # of the unfinished sequences, [batch, width, steps]
    last: Array  # last id of each, [batch, width]
    log_probs: Array  # [batch, width], -inf for an unused entry of the beam
    state: PyTree
    found: Beams
    broken: Array  # whether an id had no distribution, [batch]


def beam_search(
    step: Step,
    state: PyTree,
    batch: int,
    *,
    width: int,
    steps: int,
    start_id: int,
    end_id: int,
    n_best: int = 1,
    length_power: float = 0.0,
    banned: Sequence[int] = (),
) -> Beams:
    """Searches for the most probable sequences.

    At each step the `width` best continuations of the beam are kept. A sequence that ends leaves
    the beam, and another continuation takes its place at the next step. The search stops when no
    sequence of the beam can overtake those that were found. A beam of width 1 generates the same
    sequence as `greedy`, and one that holds all sequences finds the best of all.

    Args:
        step: Function `step(ids, state) -> (logits, state)` of the model, which is called with
            `batch * width` rows; see `rcnn_jax.decoding.sampling`.
        state: State of the model before the first step, with leaves `[batch, ...]`.
        batch: Number of independent searches.
        width: Number of sequences in the beam, at least 1.
        steps: Largest number of ids of a sequence, at least 1.
        start_id: Id that the model reads at the first step.
        end_id: Id that ends a sequence.
        n_best: Number of sequences to return, at least 1. It may exceed `width`, because sequences
            that have ended are no longer in the beam.
        length_power: Power of the length by which log-probabilities are divided before sequences
            are compared, at least 0: 0 compares probabilities, which favours short sequences, and 1
            compares the mean over the ids.
        banned: Ids that are never generated.

    Returns:
        The `n_best` sequences of each search.

    Raises:
        ValueError: A number is out of range, or a banned id is not a class.

    Example:
        The sequence 2, 0 is more probable than the greedy one, which starts with 1.

        >>> import math
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.decoding.beam import beam_search
        >>> table = jnp.log(jnp.array([[0.1, 0.5, 0.4], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05]]))
        >>> def step(ids, state):
        ...     return table[ids], state
        >>> found = beam_search(step, (), 1, width=2, steps=4, start_id=0, end_id=0)
        >>> found.ids.tolist(), round(math.exp(found.log_probs[0, 0]), 2)
        ([[[2, 0, -1, -1]]], 0.36)
    """
    for name, value in (("width", width), ("steps", steps), ("n_best", n_best)):
        if value < 1:
            raise ValueError(f"beam search needs {name} of at least 1, got {value}")
    if not length_power >= 0:
        raise ValueError(f"length_power is at least 0, got {length_power}")
    start = jnp.full((batch * width,), start_id, jnp.int32)
    state = jax.tree.map(lambda leaf: jnp.repeat(leaf, width, axis=0), state)
    dtype = jnp.promote_types(jax.eval_shape(step, start, state)[0].dtype, jnp.float32)

    def running(search: _Search) -> Array:
        return (search.number < steps) & jnp.any(_unfinished(search, length_power))

    def body(search: _Search) -> _Search:
        return _advance(step, search, end_id, length_power, banned)

    first = _Search(
        jnp.int32(0),
        jnp.full((batch, width, steps), PAD, jnp.int32),
        start.reshape(batch, width),
        # All entries of the beam hold the empty sequence, of which only the first is used.
        jnp.full((batch, width), -jnp.inf, dtype).at[:, 0].set(0.0),
        state,
        Beams(
            jnp.full((batch, n_best, steps), PAD, jnp.int32),
            jnp.zeros((batch, n_best), jnp.int32),
            jnp.full((batch, n_best), -jnp.inf, dtype),
            jnp.full((batch, n_best), -jnp.inf, dtype),
        ),
        jnp.zeros((batch,), bool),
    )
    last = jax.lax.while_loop(running, body, first)
    ids, lengths, log_probs, scores = last.found
    broken = last.broken[:, None]
    return Beams(
        jnp.where(broken[..., None], PAD, ids),
        jnp.where(broken, 0, lengths),
        jnp.where(broken, jnp.nan, log_probs),
        jnp.where(broken, jnp.nan, scores),
    )


def _unfinished(search: _Search, length_power: float) -> Array:
    """Returns whether a sequence of each beam can still overtake those found, `bool[batch]`."""
    # Upper bound on what is reachable: further ids only reduce the probability, and the largest
    # length divides it by most.
    hope = search.log_probs.max(axis=1) / search.ids.shape[2] ** length_power
    return (hope > search.found.scores[:, -1]) & ~search.broken


def _advance(
    step: Step, search: _Search, end_id: int, length_power: float, banned: Sequence[int]
) -> _Search:
    """Performs one step of the search."""
    batch, width, steps = search.ids.shape
    # What other searches still do must not change one that is over.
    over = ~_unfinished(search, length_power)[:, None]
    before = jnp.where(over, -jnp.inf, search.log_probs)
    logits, state = step(search.last.reshape(-1), search.state)
    logits, total = allowed_logits(logits, banned)
    # The best continuations overall are among the best ones of each sequence: two small selections
    # replace a large one, and only the selected logits are normalised to log-probabilities.
    each = min(width, logits.shape[-1])
    best, ids = best_of(logits, each)
    best = (best - total[:, None]).reshape(batch, width, each)
    # An unused entry of the beam has no continuation, whatever the model returns for it.
    totals = jnp.where(before[..., None] == -jnp.inf, -jnp.inf, before[..., None] + best)
    broken = search.broken | jnp.isnan(totals).any(axis=(1, 2))
    log_probs, positions = top_k(totals.reshape(batch, width * each), width)
    parents = positions // each
    last = jnp.take_along_axis(ids.reshape(batch, width * each), positions, axis=1)
    written = jnp.take_along_axis(search.ids, parents[..., None], axis=1)
    written = written.at[:, :, search.number].set(last)
    rows = (jnp.arange(batch)[:, None] * width + parents).reshape(-1)
    state = jax.tree.map(lambda leaf: leaf[rows], state)
    length = search.number + 1
    ended = (last == end_id) | (length == steps)
    finished = _merged(
        search.found, written, jnp.where(ended, log_probs, -jnp.inf), length, length_power
    )
    log_probs = jnp.where(ended, -jnp.inf, log_probs)
    return _Search(length, written, last, log_probs, state, finished, broken)


def _merged(
    found: Beams, ids: Array, log_probs: Array, length: Array, length_power: float
) -> Beams:
    """Merges previously finished sequences with those that ended at this step, keeping the best."""
    new = Beams(
        ids,
        jnp.where(log_probs == -jnp.inf, 0, length),
        log_probs,
        log_probs / length.astype(log_probs.dtype) ** length_power,
    )
    both = jax.tree.map(lambda one, other: jnp.concatenate([one, other], axis=1), found, new)
    scores, positions = top_k(both.scores, found.scores.shape[1])
    ids = jnp.take_along_axis(both.ids, positions[..., None], axis=1)
    return Beams(
        jnp.where((scores == -jnp.inf)[..., None], PAD, ids),
        jnp.take_along_axis(both.lengths, positions, axis=1),
        jnp.take_along_axis(both.log_probs, positions, axis=1),
        scores,
    )
