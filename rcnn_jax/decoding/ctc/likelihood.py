"""The likelihood of a labelling, its gradient, and which label each frame speaks of.

A path gives each frame a class; the labelling of a path is what is left when repeated classes are
merged and blanks removed. The probability of a labelling is the sum over its paths, taken by the
forward-backward algorithm on the chain

    blank_0, label_0, blank_1, label_1, ..., blank_N

in which a path stays, moves on by one, or passes over a blank between two different labels. The
two kinds of places are two arrays `[max_labels + 1, batch]`: with the batch last, a move along
the chain is a shift of whole rows. The last place of the labels belongs to no label.

Reference:
    Graves, Fernandez, Gomez & Schmidhuber, Connectionist temporal classification, ICML 2006.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from rcnn_jax.decoding.ctc import wide
from rcnn_jax.decoding.ctc.arguments import checked_labels, checked_logits
from rcnn_jax.decoding.ctc.wide import Wide

INFEASIBLE = ("inf", "zero")


def feasible(
    logit_lengths: Int[ArrayLike, "batch"],
    labels: Int[ArrayLike, "batch max_labels"],
    label_lengths: Int[ArrayLike, "batch"],
) -> Bool[Array, "batch"]:
    """Whether any path has the labelling: a frame for each label, and one between equal ones.

    Args:
        logit_lengths: `[batch]` number of frames.
        labels: `[batch, max_labels]`, padded with anything.
        label_lengths: `[batch]` number of labels.

    Returns:
        `[batch]`, True where `frames >= labels + adjacent repeats`.
    """
    labels, lengths = jnp.asarray(labels), jnp.asarray(label_lengths)
    counted = jnp.arange(1, labels.shape[1], dtype=lengths.dtype)[None] < lengths[:, None]
    repeats = jnp.sum((labels[:, 1:] == labels[:, :-1]) & counted, axis=1)
    return jnp.asarray(logit_lengths) >= lengths + repeats


def loss(
    logits: ArrayLike,
    logit_lengths: ArrayLike,
    labels: ArrayLike,
    label_lengths: ArrayLike,
    blank_id: int = 0,
    infeasible: str = "inf",
) -> Float[Array, "batch"]:
    """Negative log-likelihood of each labelling, `-log p(labels | softmax(logits))`.

    The gradient by the logits is softmax minus posterior. What lies beyond the lengths has no
    effect and no gradient. A NaN, or a frame without a finite logit, gives NaN. Reverse mode only,
    and once.

    Args:
        logits: `[batch, time, classes]`, of any floating dtype; half precision is computed in
            float32. A class may be excluded by `-inf`.
        logit_lengths: `[batch]` number of frames of each sequence.
        labels: `[batch, max_labels]` integers, padded with anything.
        label_lengths: `[batch]` number of labels of each sequence.
        blank_id: class of the blank.
        infeasible: the loss of a labelling of probability 0 (see `feasible`; or one that needs a
            class at `-inf`): `"inf"` or `"zero"`. Its gradient is 0.

    Returns:
        `[batch]`, at least 0, float32 (float64 for such logits).

    Raises:
        ValueError: an argument is impossible, as far as known; see `checked_logits` and
            `checked_labels`.
    """
    if infeasible not in INFEASIBLE:
        raise ValueError(f"infeasible must be one of {INFEASIBLE}, got {infeasible!r}")
    arguments = _checked(logits, logit_lengths, labels, label_lengths, blank_id)
    value = _compiled_loss(*arguments, blank_id)
    return jnp.where(jnp.isposinf(value), 0, value) if infeasible == "zero" else value


def posteriors(
    logits: ArrayLike,
    logit_lengths: ArrayLike,
    labels: ArrayLike,
    label_lengths: ArrayLike,
    blank_id: int = 0,
) -> Float[Array, "batch time classes"]:
    """Probability that a path of the labelling has a class in a frame, given the labelling.

    Args:
        logits: `[batch, time, classes]`, see `loss`.
        logit_lengths: `[batch]`.
        labels: `[batch, max_labels]`.
        label_lengths: `[batch]`.
        blank_id: class of the blank.

    Returns:
        `[batch, time, classes]`; a frame sums to 1, or to 0 beyond the length and where the
        labelling has probability 0. It has no derivative.

    Raises:
        ValueError: as `loss`; or the result is differentiated.
    """
    return _forward_backward(
        *_checked(logits, logit_lengths, labels, label_lengths, blank_id), blank_id
    )[1]


def _checked(
    logits: ArrayLike, frames: ArrayLike, labels: ArrayLike, counts: ArrayLike, blank_id: int
) -> tuple[Array, Array, Array, Array]:
    scores, frames = checked_logits(logits, frames, blank_id)
    batch, _, classes = scores.shape
    return scores, frames, *checked_labels(labels, counts, batch, classes, blank_id)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(logits: Array, frames: Array, labels: Array, counts: Array, blank_id: int) -> Array:
    chain = _chain(logits, frames, labels, blank_id)
    return _negative_log(chain, _forward(chain, counts)[0])


def _loss_forward(
    logits: Array, frames: Array, labels: Array, counts: Array, blank_id: int
) -> tuple[Array, Array]:
    value, posterior, chain = _forward_backward(logits, frames, labels, counts, blank_id)
    softmax = jnp.exp((logits - chain.peak[..., None]) - chain.rest[..., None])
    counted = chain.live & jnp.isfinite(value)[:, None]
    gradient = jnp.where(counted[..., None], softmax - posterior, 0)
    return value, jnp.where(jnp.isnan(value)[:, None, None], jnp.nan, gradient)


def _loss_backward(blank_id: int, gradient: Array, weight: Array) -> tuple[Any, ...]:
    del blank_id
    # Where the gradient is 0 by rule it is so for any weight, also one that is not finite.
    return jnp.where(gradient == 0, 0, gradient * weight[:, None, None]), None, None, None


_loss.defvjp(_loss_forward, _loss_backward)
_compiled_loss = jax.jit(_loss, static_argnums=4)


@functools.partial(jax.jit, static_argnums=4)
def _forward_backward(
    logits: Array, frames: Array, labels: Array, counts: Array, blank_id: int
) -> tuple[Array, Array, "_Chain"]:
    """Negative log-likelihoods, posteriors `[batch, time, classes]` and the chains."""
    chain = _chain(logits, frames, labels, blank_id)
    total, paths = _forward(chain, counts)
    of_blanks, of_labels = _backward(chain, counts, total, paths)
    hot = jax.nn.one_hot(chain.labels, logits.shape[-1], dtype=logits.dtype)
    posterior = jnp.einsum("tnb,bnk->btk", of_labels, hot, precision="highest")
    posterior = posterior.at[:, :, blank_id].add(of_blanks.T)
    counted = chain.live & ~wide.is_zero(total)[:, None]
    value = _negative_log(chain, total)
    posterior = jnp.where(counted[..., None], posterior, 0)
    return value, jnp.where(jnp.isnan(value)[:, None, None], jnp.nan, posterior), chain


class _Chain(NamedTuple):
    """The chains of a batch.

    Attributes:
        labels: `[batch, max_labels + 1]`, the last of no meaning.
        differs: `[max_labels + 1, batch]`, whether a label is another than the one before.
        blank: emissions of the blank `[time, 1, batch]`.
        label: emissions of the labels `[time, max_labels + 1, batch]`.
        peak: largest logit `[batch, time]`.
        rest: logarithm of the sum of `exp(logit - peak)` `[batch, time]`.
        broken: `[batch]`, True where a frame has no distribution.
        live: `[batch, time]`, True before the end of a sequence.
    """

    labels: Array
    differs: Array
    blank: Wide
    label: Wide
    peak: Array
    rest: Array
    broken: Array
    live: Array


def _chain(logits: Array, frames: Array, labels: Array, blank_id: int) -> _Chain:
    logits = _without_derivative(logits)
    padded = jnp.pad(labels, ((0, 0), (0, 1)))
    # Softmax in parts, so that the many classes are read and not copied.
    peak = jnp.max(logits, axis=2)
    rest = jnp.log(jnp.sum(jnp.exp(logits - peak[..., None]), axis=2))
    live = jnp.arange(logits.shape[1], dtype=frames.dtype)[None] < frames[:, None]
    label = jnp.take_along_axis(logits, padded[:, None], axis=2)
    label = (label - peak[..., None]) - rest[..., None]
    # Beyond its end a sequence sees blanks for certain, which leave all sums as they are.
    label = jnp.where(live[..., None], label, -jnp.inf).transpose(1, 2, 0)
    blank = jnp.where(live, (logits[..., blank_id] - peak) - rest, 0)
    return _Chain(
        labels=padded,
        differs=jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 1))).T[: padded.shape[1]],
        blank=wide.from_log(blank.T[:, None]),
        label=wide.from_log(label),
        peak=peak,
        rest=rest,
        # One NaN, or infinity for the largest, makes all log-probabilities of its frame NaN.
        broken=jnp.any(jnp.isnan(blank), axis=1),
        live=live,
    )


def _forward(chain: _Chain, counts: Array) -> tuple[Wide, tuple[Wide, Wide]]:
    """Sums over the first parts of paths: all of them, and those that enter each frame.

    The loops carry, and report, sums before the emission of a frame: what a loop carries is there
    to be copied, while what it is about to carry would be computed once more for the report.
    """
    start = _unit(chain, jnp.zeros_like(counts))

    def step(entering: tuple[Wide, Wide], seen: tuple[Wide, Wide]) -> Any:
        blanks, labels = wide.multiply(entering[0], seen[0]), wide.multiply(entering[1], seen[1])
        to_blanks = wide.add(blanks, _moved(labels, 1))
        to_labels = wide.add(labels, _where(chain.differs, to_blanks, blanks))
        return (wide.normalized(to_blanks), wide.normalized(to_labels)), entering

    ends, paths = lax.scan(step, (start, start), (chain.blank, chain.label))
    return Wide(*(jnp.take_along_axis(x, counts[None], axis=0)[0] for x in ends[0])), paths


def _backward(
    chain: _Chain, counts: Array, total: Wide, paths: tuple[Wide, Wide]
) -> tuple[Array, Array]:
    """Posteriors of the blanks, summed `[time, batch]`, and of the labels."""
    whole = Wide(total.mantissa[None], total.exponent[None])

    def step(leaving: tuple[Wide, Wide], seen: tuple[Wide, Wide, Wide, Wide]) -> Any:
        blanks, labels = wide.multiply(leaving[0], seen[0]), wide.multiply(leaving[1], seen[1])
        shares = (
            wide.share(seen[2], blanks, whole).sum(axis=0),
            wide.share(seen[3], labels, whole),
        )
        to_blanks = wide.add(blanks, labels)
        to_labels = wide.add(labels, _moved(_where(chain.differs, to_blanks, blanks), -1))
        return (wide.normalized(to_blanks), wide.normalized(to_labels)), shares

    start = _unit(chain, counts), _unit(chain, counts - 1)
    seen = (chain.blank, chain.label, *paths)
    return lax.scan(step, start, seen, reverse=True)[1]


def _negative_log(chain: _Chain, total: Wide) -> Array:
    """The loss; NaN where a frame has no distribution, which the exponents would hide."""
    return jnp.where(chain.broken, jnp.nan, jnp.maximum(-wide.log(total), 0))


def _unit(chain: _Chain, place: Array) -> Wide:
    """One at a place of each chain, zero elsewhere."""
    index = jnp.arange(chain.labels.shape[1], dtype=place.dtype)[:, None]
    return wide.constant(index == place[None], chain.peak.dtype)


def _moved(places: Wide, by: int) -> Wide:
    """Each place takes what was `by` places before it, 1 or -1; zero comes in at the end."""
    mantissa, exponent = places
    zero = jnp.full_like(exponent[:1], wide.ZERO_EXPONENT)
    if by == 1:
        return Wide(
            jnp.concatenate([jnp.ones_like(mantissa[:1]), mantissa[:-1]]),
            jnp.concatenate([zero, exponent[:-1]]),
        )
    return Wide(
        jnp.concatenate([mantissa[1:], jnp.ones_like(mantissa[:1])]),
        jnp.concatenate([exponent[1:], zero]),
    )


def _where(condition: Array, a: Wide, b: Wide) -> Wide:
    return Wide(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


@jax.custom_jvp
def _without_derivative(x: Array) -> Array:
    return x


@_without_derivative.defjvp
def _refuse_derivative(primals: Any, tangents: Any) -> Any:
    # Exponents are integers: differentiating through them would give zeros without a word.
    raise ValueError("CTC posteriors, and so the gradient of the CTC loss, have no derivative")
