"""Prefix beam search: the n most probable labellings, with a language model and a lexicon.

The whole batch is searched in one compiled loop over frames. Two ways to the same prefix are added
up. They meet where one prefix of the beam, extended by a label, is another prefix of the beam; this
is known exactly, without comparing or hashing sequences, because which prefix begins with which
other is carried along as a matrix.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.decoding.ctc.arguments import checked_logits
from rcnn_jax.decoding.ctc.language_model import (
    LanguageModel,
    Lexicon,
    checked_language_model,
    checked_lexicon,
)


class Beams(NamedTuple):
    """The labellings found, the best first.

    Attributes:
        labels: `[batch, n_best, time]`, padded with the blank.
        lengths: `[batch, n_best]` number of labels.
        log_probs: log-probability of the labelling by the logits alone `[batch, n_best]`. It counts
            the paths that stayed in the beam, and so is exact or too low. `-inf`: fewer labellings
            were found; NaN: a frame has no distribution.
        scores: what they are ranked by `[batch, n_best]`, see `beam_search`.
    """

    labels: Int[Array, "batch n_best time"]
    lengths: Int[Array, "batch n_best"]
    log_probs: Float[Array, "batch n_best"]
    scores: Float[Array, "batch n_best"]


class _Beam(NamedTuple):
    """The prefixes that one sequence is searched with, `[width, ...]` each.

    Attributes:
        labels: `[width, time]`.
        length: number of labels.
        in_blank: log-probability of the paths that end in a blank.
        in_label: log-probability of the paths that end in the last label.
        begins: `[width, width]`, True where prefix i is prefix j or its beginning; False where one
            of them is no prefix.
        bonus: weighted log-probability of the language model, and the insertion bonuses.
        context: of the language model.
        state: of the lexicon.
    """

    labels: Array
    length: Array
    in_blank: Array
    in_label: Array
    begins: Array
    bonus: Array
    context: Array
    state: Array


def beam_search(
    logits: ArrayLike,
    logit_lengths: ArrayLike,
    width: int = 16,
    n_best: int = 1,
    blank_id: int = 0,
    language_model: LanguageModel | None = None,
    lexicon: Lexicon | None = None,
    lm_weight: float = 1.0,
    insertion_bonus: float = 0.0,
) -> Beams:
    """Searches the labellings of the largest score, prefix by prefix.

    The score of a labelling is

        log p(labels | logits) + lm_weight * log p_LM(labels) + insertion_bonus * number of labels

    and after each frame the `width` prefixes that score best are kept. With all prefixes in the
    beam the search is exact.

    Args:
        logits: `[batch, time, classes]`.
        logit_lengths: `[batch]` number of frames.
        width: number of prefixes, at least 1.
        n_best: number of labellings to return, in 1..width.
        blank_id: class of the blank.
        language_model: None for none.
        lexicon: only its words are searched, and only they are returned; None for all.
        lm_weight: weight of the language model, at least 0.
        insertion_bonus: added for each label; a language model alone prefers short labellings.

    Returns:
        See `Beams`. It has no useful derivative.

    Raises:
        ValueError: an argument is impossible; see also `checked_logits`,
            `checked_language_model` and `checked_lexicon`.

    Reference:
        Graves & Jaitly, ICML 2014 (prefix beam search); Hannun et al., 2014 (language model).
    """
    scores, frames = checked_logits(logits, logit_lengths, blank_id)
    if width < 1 or not 1 <= n_best <= width:
        raise ValueError(
            f"beam search needs 1 <= n_best <= width, got n_best={n_best} and width={width}"
        )
    if not (0 <= lm_weight < math.inf and math.isfinite(insertion_bonus)):
        raise ValueError(
            "lm_weight must be at least 0, and both it and insertion_bonus finite, got "
            f"{lm_weight} and {insertion_bonus}"
        )
    classes = scores.shape[2]
    model = checked_language_model(language_model, classes)
    words = checked_lexicon(lexicon, classes)
    # What each label adds to the score; a weight of 0 also lifts what the model forbids.
    gains = jnp.asarray(model.log_probs, scores.dtype)
    gains = (lm_weight * gains if lm_weight else jnp.zeros_like(gains)) + insertion_bonus
    return _search(
        jax.nn.log_softmax(scores, axis=2),
        frames,
        model._replace(log_probs=gains),
        words,
        width=width,
        n_best=n_best,
        blank_id=blank_id,
    )


@functools.partial(jax.jit, static_argnames=("width", "n_best", "blank_id"))
def _search(
    scores: Array,
    frames: Array,
    model: LanguageModel,
    words: Lexicon,
    *,
    width: int,
    n_best: int,
    blank_id: int,
) -> Beams:
    step = functools.partial(_step, model=model, words=words, blank_id=blank_id)

    def search(scores: Array, frames: Array) -> Beams:
        time = scores.shape[0]
        begin = _start(width, time, scores.dtype, model.start, blank_id)

        def advance(beam: _Beam, inputs: tuple[Array, Array]) -> tuple[_Beam, None]:
            score, live = inputs
            after = step(beam, score)
            return jax.tree.map(lambda new, old: jnp.where(live, new, old), after, beam), None

        live = jnp.arange(time, dtype=frames.dtype) < frames
        beam, _ = lax.scan(advance, begin, (scores, live))
        whole = jnp.where(words.is_word[beam.state], 0, -jnp.inf)
        log_probs = jnp.logaddexp(beam.in_blank, beam.in_label) + whole
        values, best = lax.top_k(log_probs + beam.bonus, n_best)
        broken = jnp.any(live[:, None] & jnp.isnan(scores))
        found = (values > -jnp.inf) & ~broken
        nothing = jnp.where(broken, jnp.nan, -jnp.inf)
        return Beams(
            labels=jnp.where(found[:, None], beam.labels[best, :time], blank_id),
            lengths=jnp.where(found, beam.length[best], 0),
            log_probs=jnp.where(found, log_probs[best], nothing),
            scores=jnp.where(found, values, nothing),
        )

    return jax.vmap(search)(scores, frames)


def _start(width: int, time: int, dtype: Any, context: ArrayLike, blank_id: int) -> _Beam:
    """The empty prefix, and empty places."""
    first = jnp.arange(width) == 0
    return _Beam(
        labels=jnp.full((width, max(time, 1)), blank_id, jnp.int32),
        length=jnp.zeros(width, jnp.int32),
        in_blank=jnp.where(first, 0, jnp.full((), -jnp.inf, dtype)),
        in_label=jnp.full(width, -jnp.inf, dtype),
        begins=first[:, None] & first[None],
        bonus=jnp.zeros(width, dtype),
        context=jnp.full(width, context, jnp.int32),
        state=jnp.zeros(width, jnp.int32),
    )


def _step(
    beam: _Beam, score: Array, *, model: LanguageModel, words: Lexicon, blank_id: int
) -> _Beam:
    """One frame: each prefix stays or takes a label, and the best are kept."""
    width, classes = beam.length.shape[0], score.shape[0]
    place = jnp.arange(width, dtype=jnp.int32)
    last = beam.labels[place, beam.length - 1]  # without meaning for the empty prefix
    nonempty = beam.length > 0
    whole = jnp.logaddexp(beam.in_blank, beam.in_label)

    stay_blank = whole + score[blank_id]
    stay_label = jnp.where(nonempty, beam.in_label + score[last], -jnp.inf)
    taken = whole[:, None] + score[None]
    # The last label again makes a new one only after a blank.
    again = nonempty[:, None] & (jnp.arange(classes, dtype=jnp.int32)[None] == last[:, None])
    taken = jnp.where(again, beam.in_blank[:, None] + score[None], taken)
    allowed = words.next_state[beam.state] >= 0
    taken = jnp.where(allowed, taken, -jnp.inf)

    # Prefix i and the last label of prefix j is prefix j: the paths of i belong to j.
    child = beam.begins & (beam.length[:, None] + 1 == beam.length[None])
    parent = jnp.argmax(child, axis=0)
    has_parent = jnp.any(child, axis=0)
    inherited = jnp.where(has_parent, taken[parent, last], -jnp.inf)
    stay_label = jnp.logaddexp(stay_label, inherited)
    taken = taken.at[jnp.where(has_parent, parent, width), last].set(-jnp.inf, mode="drop")

    # The column of the blank stands for staying.
    value = taken + beam.bonus[:, None] + model.log_probs[beam.context]
    value = value.at[:, blank_id].set(jnp.logaddexp(stay_blank, stay_label) + beam.bonus)
    best_value, best = lax.top_k(value.reshape(-1), width)
    source, label = best // classes, best % classes
    longer = label != blank_id
    alive = best_value > -jnp.inf

    length = beam.length[source]
    context, state = beam.context[source], beam.state[source]
    labels = beam.labels[source]
    # Where i grew, it begins j only if j has the same label there; staying changes nothing.
    theirs = labels[:, length].T  # [i, j]: label of j at the end of the old i
    old = beam.begins[source[:, None], source[None]]
    follows = (length[None] > length[:, None]) & (theirs == label[:, None])
    same = place[:, None] == place[None]
    begins = old & jnp.where(longer[:, None], follows | same, True)
    end = jnp.where(longer, length, labels.shape[1])
    return _Beam(
        labels=labels.at[place, end].set(label, mode="drop"),
        length=length + longer,
        in_blank=jnp.where(longer, -jnp.inf, stay_blank[source]),
        in_label=jnp.where(longer, taken[source, label], stay_label[source]),
        begins=begins & alive[:, None] & alive[None],
        bonus=jnp.where(
            longer, beam.bonus[source] + model.log_probs[context, label], beam.bonus[source]
        ),
        context=jnp.where(longer, model.next_context[context, label], context),
        state=jnp.where(longer, words.next_state[state, label], state),
    )
