"""Alignment of labels with frames: the most probable path of a given labelling."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.decoding.ctc.arguments import checked_labels, checked_logits


class Alignment(NamedTuple):
    """The most probable path of each labelling.

    Where a labelling has probability 0, its path consists of blanks and its spans are empty.

    Attributes:
        path: Class of each frame, `[batch, time]`; the blank beyond the length.
        log_probabilities: Log-probability of the path, `[batch]`; `-inf` where there is none, NaN
            where a frame has no distribution.
        starts: First frame of each label, `[batch, max_labels]`; 0 for padding.
        ends: Frame after the last one of each label, `[batch, max_labels]`; 0 for padding.
        confidences: Mean probability of each label over its frames, `[batch, max_labels]`, in 0..1;
            0 for padding.
    """

    path: Int[Array, "batch time"]
    log_probabilities: Float[Array, "batch"]
    starts: Int[Array, "batch max_labels"]
    ends: Int[Array, "batch max_labels"]
    confidences: Float[Array, "batch max_labels"]


def forced_alignment(
    logits: ArrayLike,
    logit_lengths: ArrayLike,
    labels: ArrayLike,
    label_lengths: ArrayLike,
    blank_id: int = 0,
) -> Alignment:
    """Finds the most probable path of each labelling by dynamic programming.

    Among equally probable paths it prefers to stay at a position of the chain.

    Args:
        logits: Logits, `[batch, time, classes]`.
        logit_lengths: Number of frames of each sequence, `[batch]`.
        labels: Labels, `[batch, max_labels]`, with arbitrary padding.
        label_lengths: Number of labels of each sequence, `[batch]`.
        blank_id: Class of the blank.

    Returns:
        The alignment of each sequence. It has no useful derivative.

    Raises:
        ValueError: An argument is invalid; see `checked_logits` and `checked_labels`.
    """
    scores, frames = checked_logits(logits, logit_lengths, blank_id)
    batch, time, classes = scores.shape
    labels, counts = checked_labels(labels, label_lengths, batch, classes, blank_id)
    mask = jnp.arange(time, dtype=frames.dtype)[None] < frames[:, None]
    # The chain blank, label 0, blank, label 1, ..., blank.
    chain = jnp.full((batch, 2 * labels.shape[1] + 1), blank_id).at[:, 1::2].set(labels)
    scores = jax.nn.log_softmax(scores, axis=2)
    emissions = jnp.take_along_axis(scores, chain[:, None], axis=2)
    emissions = jnp.where(mask[..., None], emissions, 0).transpose(1, 0, 2)
    passes = jnp.pad(chain[:, 2:] != chain[:, :-2], ((0, 0), (2, 0)))
    last, moves = _best_moves(emissions, mask.T, passes[:, : chain.shape[1]])

    ends = jnp.stack([2 * counts, jnp.maximum(2 * counts - 1, 0)])
    values = jnp.take_along_axis(last, ends.T, axis=1)
    best = jnp.argmax(values, axis=1)
    value = jnp.take_along_axis(values, best[:, None], axis=1)[:, 0]
    possible = value > -jnp.inf
    positions = _follow(jnp.take_along_axis(ends.T, best[:, None], axis=1)[:, 0], moves)

    # Blanks, and all frames of a labelling without a path, get the label -1.
    aligned = (positions % 2 == 1) & mask & possible[:, None]
    label = jnp.where(aligned, positions // 2, -1)
    is_label = label[..., None] == jnp.arange(labels.shape[1], dtype=label.dtype)[None, None]
    lengths = jnp.sum(is_label, axis=1, dtype=jnp.int32)
    starts = jnp.argmax(is_label, axis=1).astype(jnp.int32) if time else lengths
    path = jnp.where(aligned, jnp.take_along_axis(chain, positions, axis=1), blank_id)
    seen = jnp.exp(jnp.take_along_axis(scores, path[..., None], axis=2))
    confidences = jnp.sum(jnp.where(is_label, seen, 0), axis=1) / jnp.maximum(lengths, 1)
    return Alignment(path, value, starts, starts + lengths, confidences)


def _best_moves(
    emissions: Float[Array, "time batch places"], mask: Array, passes: Array
) -> tuple[Array, Array]:
    """Computes the best value of each position after the last frame, and the moves that lead to it.

    A path stands at position 0 before the first frame, so that it enters at position 0 or 1.
    """
    batch, positions = passes.shape
    start = jnp.where(jnp.arange(positions) == 0, 0, jnp.full((), -jnp.inf, emissions.dtype))

    def step(values: Array, inputs: tuple[Array, Array]) -> Any:
        emission, counts = inputs
        far = jnp.pad(values, ((0, 0), (2, 0)), constant_values=-jnp.inf)
        reach = jnp.stack([values, far[:, 1:-1], jnp.where(passes, far[:, :-2], -jnp.inf)])
        move = jnp.where(counts[:, None], jnp.argmax(reach, axis=0), 0).astype(jnp.int8)
        moved = jnp.max(reach, axis=0) + emission
        return jnp.where(counts[:, None], moved, values), move

    return lax.scan(step, jnp.broadcast_to(start, (batch, positions)), (emissions, mask))


def _follow(end: Int[Array, "batch"], moves: Array) -> Int[Array, "batch time"]:
    """Returns the position of each frame, traced back from the last one."""

    def step(place: Array, move: Array) -> tuple[Array, Array]:
        taken = jnp.take_along_axis(move, place[:, None], axis=1)[:, 0]
        return place - taken, place

    return lax.scan(step, end, moves, reverse=True)[1].T
