"""Likelihood of a labelling under CTC, its gradient, and the posterior of each frame.

A path gives each frame a class; the labelling of a path results from merging repeated classes and
removing blanks. The probability of a labelling is the sum over its paths, computed by the
forward-backward algorithm on the chain

    blank_0, label_0, blank_1, label_1, ..., blank_N

in which a path stays, advances by one, or skips a blank between two different labels. The two
kinds of positions are two arrays `[max_labels + 1, batch]`: with the batch last, a move along the
chain is a shift of whole rows. The last position of the labels is not used by any label.

References:
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
    """Returns whether each labelling has a path: a frame per label, and one between equal labels.

    Args:
        logit_lengths: Number of frames of each sequence, `[batch]`.
        labels: Labels, `[batch, max_labels]`, with arbitrary padding.
        label_lengths: Number of labels of each sequence, `[batch]`.

    Returns:
        `bool[batch]`, true where `frames >= labels + adjacent repeats`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.decoding import ctc
        >>> labels = jnp.array([[1, 1], [1, 2]])
        >>> ctc.feasible(jnp.array([2, 2]), labels, jnp.array([2, 2])).tolist()
        [False, True]
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
    """Computes the negative log-likelihood of each labelling, `-log p(labels | softmax(logits))`.

    The gradient with respect to the logits is softmax minus posterior. Values beyond the lengths
    have no effect and no gradient. A NaN, or a frame without a finite logit, gives NaN. It is
    differentiable in reverse mode only, and only once.

    Args:
        logits: Logits of any floating dtype, `[batch, time, classes]`; half precision is computed
            in float32. `-inf` excludes a class.
        logit_lengths: Number of frames of each sequence, `[batch]`.
        labels: Integer labels, `[batch, max_labels]`, with arbitrary padding.
        label_lengths: Number of labels of each sequence, `[batch]`.
        blank_id: Class of the blank.
        infeasible: Loss of a labelling of probability 0 (see `feasible`; or one that needs a class
            at `-inf`), `"inf"` or `"zero"`. Its gradient is 0.

    Returns:
        `[batch]`, at least 0, float32 (float64 for float64 logits).

    Raises:
        ValueError: An argument is invalid, as far as its value is known; see `checked_logits` and
            `checked_labels`.

    Example:
        Three of the four paths over two frames are labelled 1: p = 1 - 0.6 * 0.6.

        >>> import math
        >>> import numpy as np
        >>> from rcnn_jax.decoding import ctc
        >>> logits = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]]))
        >>> lengths, labels = np.array([2]), np.array([[1]])
        >>> round(math.exp(-ctc.loss(logits, lengths, labels, np.array([1]))[0]), 2)
        0.64
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
    """Computes the probability of each class in each frame, given the labelling.

    Args:
        logits: Logits of any floating dtype, `[batch, time, classes]`; half precision is computed
            in float32. `-inf` excludes a class.
        logit_lengths: Number of frames of each sequence, `[batch]`.
        labels: Integer labels, `[batch, max_labels]`, with arbitrary padding.
        label_lengths: Number of labels of each sequence, `[batch]`.
        blank_id: Class of the blank.

    Returns:
        `[batch, time, classes]`; a frame sums to 1, or to 0 beyond the length and where the
        labelling has probability 0. It has no derivative.

    Raises:
        ValueError: An argument is invalid, as far as its value is known, or the result is
            differentiated; see `checked_logits` and `checked_labels`.
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
    counted = chain.mask & jnp.isfinite(value)[:, None]
    gradient = jnp.where(counted[..., None], softmax - posterior, 0)
    return value, jnp.where(jnp.isnan(value)[:, None, None], jnp.nan, gradient)


def _loss_backward(blank_id: int, gradient: Array, weight: Array) -> tuple[Any, ...]:
    del blank_id
    # A gradient that is 0 by definition stays 0 for any weight, also for an infinite one.
    return jnp.where(gradient == 0, 0, gradient * weight[:, None, None]), None, None, None


_loss.defvjp(_loss_forward, _loss_backward)
_compiled_loss = jax.jit(_loss, static_argnums=4)


@functools.partial(jax.jit, static_argnums=4)
def _forward_backward(
    logits: Array, frames: Array, labels: Array, counts: Array, blank_id: int
) -> tuple[Array, Array, "_Chain"]:
    """Computes negative log-likelihoods, posteriors `[batch, time, classes]` and the chains."""
    chain = _chain(logits, frames, labels, blank_id)
    total, paths = _forward(chain, counts)
    of_blanks, of_labels = _backward(chain, counts, total, paths)
    hot = jax.nn.one_hot(chain.labels, logits.shape[-1], dtype=logits.dtype)
    posterior = jnp.einsum("tnb,bnk->btk", of_labels, hot, precision="highest")
    posterior = posterior.at[:, :, blank_id].add(of_blanks.T)
    counted = chain.mask & ~wide.is_zero(total)[:, None]
    value = _negative_log(chain, total)
    posterior = jnp.where(counted[..., None], posterior, 0)
    return value, jnp.where(jnp.isnan(value)[:, None, None], jnp.nan, posterior), chain


class _Chain(NamedTuple):
    """The chains of a batch.

    Attributes:
        labels: Labels, `[batch, max_labels + 1]`, the last of which is unused.
        differs: Whether a label differs from the previous one, `[max_labels + 1, batch]`.
        blank: Emissions of the blank, `[time, 1, batch]`.
        label: Emissions of the labels, `[time, max_labels + 1, batch]`.
        peak: Largest logit of each frame, `[batch, time]`.
        rest: Logarithm of the sum of `exp(logit - peak)`, `[batch, time]`.
        broken: True where a frame has no distribution, `[batch]`.
        mask: True before the end of a sequence, `[batch, time]`.
    """

    labels: Array
    differs: Array
    blank: Wide
    label: Wide
    peak: Array
    rest: Array
    broken: Array
    mask: Array


def _chain(logits: Array, frames: Array, labels: Array, blank_id: int) -> _Chain:
    """Prepares the emissions of the positions of each chain."""
    logits = _without_derivative(logits)
    padded = jnp.pad(labels, ((0, 0), (0, 1)))
    # Softmax in parts, so that the many classes are read and not copied.
    peak = jnp.max(logits, axis=2)
    rest = jnp.log(jnp.sum(jnp.exp(logits - peak[..., None]), axis=2))
    mask = jnp.arange(logits.shape[1], dtype=frames.dtype)[None] < frames[:, None]
    label = jnp.take_along_axis(logits, padded[:, None], axis=2)
    label = (label - peak[..., None]) - rest[..., None]
    # Frames beyond the end of a sequence are certain blanks, which leave all sums unchanged.
    label = jnp.where(mask[..., None], label, -jnp.inf).transpose(1, 2, 0)
    blank = jnp.where(mask, (logits[..., blank_id] - peak) - rest, 0)
    return _Chain(
        labels=padded,
        differs=jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 1))).T[: padded.shape[1]],
        blank=wide.from_log(blank.T[:, None]),
        label=wide.from_log(label),
        peak=peak,
        rest=rest,
        # A NaN, or an infinite largest logit, makes all log-probabilities of its frame NaN.
        broken=jnp.any(jnp.isnan(blank), axis=1),
        mask=mask,
    )


def _forward(chain: _Chain, counts: Array) -> tuple[Wide, tuple[Wide, Wide]]:
    """Sums over the beginnings of paths: in total, and over those that enter each frame.

    The loops carry, and output, sums before the emission of a frame: a carried value only needs to
    be copied to the output, while the next carry would be computed once more for it.
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
    """Computes the posteriors of the blanks, summed `[time, batch]`, and of the labels."""
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
    """Returns the loss; NaN where a frame has no distribution, which the exponents would hide."""
    return jnp.where(chain.broken, jnp.nan, jnp.maximum(-wide.log(total), 0))


def _unit(chain: _Chain, place: Array) -> Wide:
    """Returns one at a given position of each chain, and zero elsewhere."""
    index = jnp.arange(chain.labels.shape[1], dtype=place.dtype)[:, None]
    return wide.constant(index == place[None], chain.peak.dtype)


def _moved(places: Wide, by: int) -> Wide:
    """Shifts positions by 1 or -1 along the chain; zero comes in at the end."""
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
    """Selects numbers elementwise, as `jnp.where`."""
    return Wide(*(jnp.where(condition, x, y) for x, y in zip(a, b, strict=True)))


@jax.custom_jvp
def _without_derivative(x: Array) -> Array:
    """Returns its argument, and raises an error when it is differentiated."""
    return x


@_without_derivative.defjvp
def _refuse_derivative(primals: Any, tangents: Any) -> Any:
    # Exponents are integers: differentiating through them would silently give zeros.
    raise ValueError("CTC posteriors, and so the gradient of the CTC loss, have no derivative")
