"""Beam search over sequences that a model writes id by id.

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
from rcnn_jax.decoding.top_k import best_of


class Beams(NamedTuple):
    """The best sequences that were found, the best first.

    Attributes:
        ids: int32 `[batch, n_best, steps]`, with the end id, and `PAD` behind it. One that has
            not ended within `steps` ids is cut.
        lengths: int32 `[batch, n_best]`, the end id counted; 0 where fewer were found.
        log_probs: natural logarithms of their probabilities `[batch, n_best]`; -inf where fewer
            were found.
        scores: `log_probs / lengths ** length_power`, by which they are ordered.
    """

    ids: Int[Array, "batch n_best steps"]
    lengths: Int[Array, "batch n_best"]
    log_probs: Float[Array, "batch n_best"]
    scores: Float[Array, "batch n_best"]


class _Search(NamedTuple):
    number: Array
    ids: Array  # of the beam, [batch, width, steps]
    last: Array  # [batch, width]
    log_probs: Array  # [batch, width], -inf for a free place
    state: PyTree
    found: Beams


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

    At each step the `width` best continuations of the beam are kept. One that ends leaves it, and
    its place goes to another continuation at the next step. The search stops when no sequence in
    the beam can come before those that were found. A beam of 1 writes what `greedy` writes, one
    that holds every sequence finds the best of all.

    Args:
        step: what writes, see `rcnn_jax.decoding.sampling`; it is called with `batch * width` rows.
        state: before the first step, leaves `[batch, ...]`.
        batch: how many searches there are.
        width: sequences in the beam.
        steps: most ids of a sequence.
        start_id: read at the first step.
        end_id: ends a sequence.
        n_best: how many sequences are returned; more than `width` are possible, because sequences
            that have ended are no longer in the beam.
        length_power: sequences are compared by their log-probability divided by this power of their
            length, so that 0 compares probabilities, which favours short ones, and 1 the mean over
            the ids.
        banned: ids that are never written.

    Returns:
        The best that were found.

    Raises:
        ValueError: a number is impossible.
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
        # A sequence can only lose probability, and counts for most when it is longest.
        hope = search.log_probs.max(axis=1) / steps**length_power
        return (search.number < steps) & jnp.any(hope > search.found.scores[:, -1])

    def body(search: _Search) -> _Search:
        return _advance(step, search, end_id, length_power, banned)

    first = _Search(
        jnp.int32(0),
        jnp.full((batch, width, steps), PAD, jnp.int32),
        start.reshape(batch, width),
        # All places hold the empty sequence: one of them is enough.
        jnp.full((batch, width), -jnp.inf, dtype).at[:, 0].set(0.0),
        state,
        Beams(
            jnp.full((batch, n_best, steps), PAD, jnp.int32),
            jnp.zeros((batch, n_best), jnp.int32),
            jnp.full((batch, n_best), -jnp.inf, dtype),
            jnp.full((batch, n_best), -jnp.inf, dtype),
        ),
    )
    return jax.lax.while_loop(running, body, first).found


def _advance(
    step: Step, search: _Search, end_id: int, length_power: float, banned: Sequence[int]
) -> _Search:
    batch, width, steps = search.ids.shape
    logits, state = step(search.last.reshape(-1), search.state)
    logits, total = allowed_logits(logits, banned)
    # The best of all are among the best of each: two small selections instead of one large one.
    # And the logarithms of probabilities are made of these alone, not of every id.
    each = min(width, logits.shape[-1])
    best, ids = best_of(logits, each)
    best -= total[:, None]
    totals = search.log_probs[..., None] + best.reshape(batch, width, each)
    log_probs, places = jax.lax.top_k(totals.reshape(batch, width * each), width)
    parents = places // each
    last = jnp.take_along_axis(ids.reshape(batch, width * each), places, axis=1)
    written = jnp.take_along_axis(search.ids, parents[..., None], axis=1)
    written = written.at[:, :, search.number].set(last)
    rows = (jnp.arange(batch)[:, None] * width + parents).reshape(-1)
    state = jax.tree.map(lambda leaf: leaf[rows], state)
    length = search.number + 1
    ended = (last == end_id) | (length == steps)
    found = _merged(
        search.found, written, jnp.where(ended, log_probs, -jnp.inf), length, length_power
    )
    log_probs = jnp.where(ended, -jnp.inf, log_probs)
    return _Search(length, written, last, log_probs, state, found)


def _merged(
    found: Beams, ids: Array, log_probs: Array, length: Array, length_power: float
) -> Beams:
    """The best of what was found before and of what has ended now."""
    new = Beams(
        ids,
        jnp.where(log_probs == -jnp.inf, 0, length),
        log_probs,
        log_probs / length.astype(log_probs.dtype) ** length_power,
    )
    both = jax.tree.map(lambda one, other: jnp.concatenate([one, other], axis=1), found, new)
    scores, places = jax.lax.top_k(both.scores, found.scores.shape[1])
    ids = jnp.take_along_axis(both.ids, places[..., None], axis=1)
    return Beams(
        jnp.where((scores == -jnp.inf)[..., None], PAD, ids),
        jnp.take_along_axis(both.lengths, places, axis=1),
        jnp.take_along_axis(both.log_probs, places, axis=1),
        scores,
    )
