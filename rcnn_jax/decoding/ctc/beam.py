"""Prefix beam search for CTC: the n most probable labellings, with a language model and a lexicon.

The whole batch is searched in one compiled loop over frames. Two ways to the same prefix are added
up. They coincide where one prefix of the beam, extended by a label, is another prefix of the beam.
This is determined exactly, without comparing or hashing sequences, because a matrix records which
prefix begins with which other one.
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
from rcnn_jax.decoding.top_k import top_k


class Beams(NamedTuple):
    """The labellings that a prefix beam search found, the best first.

    Attributes:
        labels: Labels, `[batch, n_best, time]`, padded with the blank.
        lengths: Number of labels, `[batch, n_best]`.
        log_probs: Log-probability of each labelling by the logits alone, `[batch, n_best]`. It sums
            over the paths that stayed in the beam, and so is exact or too low. `-inf`: fewer
            labellings were found; NaN: a frame has no distribution.
        scores: Scores by which labellings are ranked, `[batch, n_best]`; see `beam_search`.
    """

    labels: Int[Array, "batch n_best time"]
    lengths: Int[Array, "batch n_best"]
    log_probs: Float[Array, "batch n_best"]
    scores: Float[Array, "batch n_best"]


class _Beam(NamedTuple):
    """The prefixes in the beam of one sequence, `[width, ...]` each.

    Attributes:
        labels: Labels of each prefix, `[width, time]`.
        length: Number of labels.
        in_blank: Log-probability of the paths that end in a blank.
        in_label: Log-probability of the paths that end in the last label.
        begins: True where prefix i equals prefix j or is its beginning, `[width, width]`; false
            where one of the two entries is unused.
        bonus: Weighted log-probability by the language model plus the insertion bonuses.
        context: Context of the language model.
        state: State of the lexicon.
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
    """Searches for the labellings with the highest score, prefix by prefix.

    The score of a labelling is

        log p(labels | logits) + lm_weight * log p_LM(labels) + insertion_bonus * number of labels

    and after each frame the `width` prefixes with the highest scores are kept. If the beam holds
    all prefixes, the search is exact.

    Args:
        logits: Logits, `[batch, time, classes]`.
        logit_lengths: Number of frames of each sequence, `[batch]`.
        width: Number of prefixes in the beam, at least 1.
        n_best: Number of labellings to return, in 1..width.
        blank_id: Class of the blank.
        language_model: Table of label probabilities; None for no language model.
        lexicon: Automaton of the only labellings that are searched and returned; None allows all.
        lm_weight: Weight of the language model, at least 0.
        insertion_bonus: Score that is added for each label, because a language model alone prefers
            short labellings.

    Returns:
        The best labellings of each sequence. They have no useful derivative.

    Raises:
        ValueError: An argument is invalid; see also `checked_logits`, `checked_language_model` and
            `checked_lexicon`.

    References:
        Graves & Jaitly, ICML 2014 (prefix beam search); Hannun et al., 2014 (language model).

    Example:
        The labelling 1 has three paths and so is more probable than the empty one, whose only path
        is the most probable path.

        >>> import math
        >>> import numpy as np
        >>> from rcnn_jax.decoding import ctc
        >>> logits = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]]))
        >>> beams = ctc.beam_search(logits, np.array([2]), width=2, n_best=2)
        >>> beams.labels.tolist(), [round(math.exp(x), 2) for x in beams.log_probs[0]]
        ([[[1, 0], [0, 0]]], [0.64, 0.36])
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
    # Gain in score by each label. A weight of 0 also allows labels of log-probability -inf.
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
    """Searches a batch whose arguments are checked."""
    step = functools.partial(_step, model=model, words=words, blank_id=blank_id)

    def search(scores: Array, frames: Array) -> Beams:
        time = scores.shape[0]
        begin = _start(width, time, scores.dtype, model.start, blank_id)

        def advance(beam: _Beam, inputs: tuple[Array, Array]) -> tuple[_Beam, None]:
            score, mask = inputs
            after = step(beam, score)
            return jax.tree.map(lambda new, old: jnp.where(mask, new, old), after, beam), None

        mask = jnp.arange(time, dtype=frames.dtype) < frames
        beam, _ = lax.scan(advance, begin, (scores, mask))
        whole = jnp.where(words.is_word[beam.state], 0, -jnp.inf)
        log_probs = jnp.logaddexp(beam.in_blank, beam.in_label) + whole
        values, best = top_k(log_probs + beam.bonus, n_best)
        broken = jnp.any(mask[:, None] & jnp.isnan(scores))
        exists = (values > -jnp.inf) & ~broken
        nothing = jnp.where(broken, jnp.nan, -jnp.inf)
        return Beams(
            labels=jnp.where(exists[:, None], beam.labels[best, :time], blank_id),
            lengths=jnp.where(exists, beam.length[best], 0),
            log_probs=jnp.where(exists, log_probs[best], nothing),
            scores=jnp.where(exists, values, nothing),
        )

    return jax.vmap(search)(scores, frames)


def _start(width: int, time: int, dtype: Any, context: ArrayLike, blank_id: int) -> _Beam:
    """Returns a beam of the empty prefix and unused entries."""
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
    """Advances the beam by one frame: each prefix stays or is extended, and the best are kept."""
    width, classes = beam.length.shape[0], score.shape[0]
    index = jnp.arange(width, dtype=jnp.int32)
    last = beam.labels[index, beam.length - 1]  # undefined for the empty prefix
    nonempty = beam.length > 0
    whole = jnp.logaddexp(beam.in_blank, beam.in_label)

    stay_blank = whole + score[blank_id]
    stay_label = jnp.where(nonempty, beam.in_label + score[last], -jnp.inf)
    taken = whole[:, None] + score[None]
    # Repeating the last label makes a new label only after a blank.
    again = nonempty[:, None] & (jnp.arange(classes, dtype=jnp.int32)[None] == last[:, None])
    taken = jnp.where(again, beam.in_blank[:, None] + score[None], taken)
    allowed = words.next_state[beam.state] >= 0
    taken = jnp.where(allowed, taken, -jnp.inf)

    # Where prefix i, extended by the last label of prefix j, is prefix j, its paths belong to j.
    child = beam.begins & (beam.length[:, None] + 1 == beam.length[None])
    parent = jnp.argmax(child, axis=0)
    has_parent = jnp.any(child, axis=0)
    inherited = jnp.where(has_parent, taken[parent, last], -jnp.inf)
    stay_label = jnp.logaddexp(stay_label, inherited)
    taken = taken.at[jnp.where(has_parent, parent, width), last].set(-jnp.inf, mode="drop")

    # The column of the blank holds the value of staying.
    value = taken + beam.bonus[:, None] + model.log_probs[beam.context]
    value = value.at[:, blank_id].set(jnp.logaddexp(stay_blank, stay_label) + beam.bonus)
    best_value, best = top_k(value.reshape(-1), width)
    source, label = best // classes, best % classes
    longer = label != blank_id
    alive = best_value > -jnp.inf

    length = beam.length[source]
    context, state = beam.context[source], beam.state[source]
    labels = beam.labels[source]
    # An extended prefix i still begins j only if j has the same label at that position.
    theirs = labels[:, length].T  # [i, j]: label of j at the end of the old i
    old = beam.begins[source[:, None], source[None]]
    follows = (length[None] > length[:, None]) & (theirs == label[:, None])
    same = index[:, None] == index[None]
    begins = old & jnp.where(longer[:, None], follows | same, True)
    end = jnp.where(longer, length, labels.shape[1])
    return _Beam(
        labels=labels.at[index, end].set(label, mode="drop"),
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
