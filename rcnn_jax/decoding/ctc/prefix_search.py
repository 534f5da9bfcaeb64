"""Prefix search for CTC: finds the most probable labelling exactly, best first, on the host."""

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from rcnn_jax.decoding.ctc.arguments import checked_logits


def prefix_search(
    logits: ArrayLike,
    logit_lengths: ArrayLike,
    blank_id: int = 0,
    max_prefixes: int = 100_000,
) -> tuple[Int[np.ndarray, "batch time"], Int[np.ndarray, "batch"], Float[np.ndarray, "batch"]]:
    """Extends the most promising prefix until none can lead to a better labelling.

    The search is exact: it does not cut the sequence at confident blanks. The number of prefixes
    grows exponentially with the frames in which no class stands out, so that it suits short or
    confident sequences; see `beam_search` for others. It computes in float64 and cannot run inside
    `jit`.

    Args:
        logits: Logits, `[batch, time, classes]`.
        logit_lengths: Number of frames of each sequence, `[batch]`.
        blank_id: Class of the blank.
        max_prefixes: Largest number of prefixes that may be extended for one sequence.

    Returns:
        Labels `[batch, time]`, padded with `blank_id`; their number `[batch]`; and the
        log-probability of the labelling `[batch]`, float64.

    Raises:
        ValueError: An argument is invalid (see `checked_logits`), a frame has no distribution, or
            `max_prefixes` does not suffice.

    References:
        Graves et al., ICML 2006, section 3.2.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.decoding import ctc
        >>> logits = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]]))
        >>> labels, lengths, log_probs = ctc.prefix_search(logits, np.array([2]))
        >>> labels.tolist(), lengths.tolist(), np.exp(log_probs).round(2).tolist()
        ([[1, 0]], [1], [0.64])
    """
    checked_logits(logits, logit_lengths, blank_id)
    scores = np.asarray(logits, np.float64)
    lengths = np.asarray(logit_lengths)
    labels = np.full(scores.shape[:2], blank_id, np.int32)
    counts = np.zeros(len(scores), np.int32)
    log_probs = np.zeros(len(scores))
    for row, length in enumerate(lengths):
        frames = scores[row, :length]
        with np.errstate(invalid="ignore"):
            frames = frames - frames.max(axis=1, keepdims=True)
            frames = frames - np.log(np.exp(frames).sum(axis=1, keepdims=True))
        if np.isnan(frames).any():
            raise ValueError(f"logits of sequence {row} have a frame without a distribution")
        labelling, log_probs[row] = _search(frames, blank_id, max_prefixes)
        counts[row] = len(labelling)
        labels[row, : len(labelling)] = labelling
    return labels, counts, log_probs


def _search(
    frames: Float[np.ndarray, "time classes"], blank_id: int, max_prefixes: int
) -> tuple[Sequence[int], float]:
    """Finds the most probable labelling of one sequence and its log-probability."""
    blank = frames[:, blank_id]
    # Log-probabilities that the first t frames are labelled with the prefix, ending in a blank or
    # in its last label.
    in_blank = np.concatenate([[0.0], np.cumsum(blank)])
    in_label = np.full(len(in_blank), -np.inf)
    best: tuple[int, ...] = ()
    best_value = float(in_blank[-1])
    # The heap holds (-log p(longer than the prefix), prefix, in_blank, in_label).
    heap: list[Any] = [(-_remainder(0.0, best_value), (), in_blank, in_label)]
    extended = 0
    while heap and -heap[0][0] > best_value:
        if extended == max_prefixes:
            raise ValueError(
                f"prefix search extended max_prefixes={max_prefixes} prefixes of a sequence of "
                f"{len(frames)} frames without an end: allow more, or use beam_search"
            )
        extended += 1
        _, prefix, in_blank, in_label = heapq.heappop(heap)
        blanks, labels, begun = _extend(frames, blank, prefix, in_blank, in_label)
        whole = np.logaddexp(blanks[-1], labels[-1])
        for label in range(frames.shape[1]):
            if label == blank_id or begun[label] <= best_value:
                continue
            longer = (*prefix, label)
            if whole[label] > best_value:
                best, best_value = longer, float(whole[label])
            rest = _remainder(begun[label], whole[label])
            if rest > best_value:
                heapq.heappush(heap, (-rest, longer, blanks[:, label], labels[:, label]))
    return best, best_value


def _extend(
    frames: np.ndarray,
    blank: np.ndarray,
    prefix: tuple[int, ...],
    in_blank: np.ndarray,
    in_label: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes the sums of `_search`, and probabilities of beginning so, for each longer prefix.

    The sums are `[time + 1, classes]`. The log-probabilities that a labelling begins with the
    longer prefix are `[classes]`.
    """
    time, classes = frames.shape
    before = np.repeat(np.logaddexp(in_blank, in_label)[:, None], classes, axis=1)
    if prefix:
        before[:, prefix[-1]] = in_blank  # a label again only after a blank
    entered = before[:-1] + frames
    blanks = np.full((time + 1, classes), -np.inf)
    labels = np.full((time + 1, classes), -np.inf)
    for t in range(time):
        labels[t + 1] = np.logaddexp(entered[t], labels[t] + frames[t])
        blanks[t + 1] = np.logaddexp(blanks[t], labels[t]) + blank[t]
    return blanks, labels, np.logaddexp.reduce(entered, axis=0)


def _remainder(log_whole: float, log_part: float) -> float:
    """Returns `log(exp(log_whole) - exp(log_part))`, -inf where the part is larger."""
    if log_part >= log_whole:
        return -np.inf
    return float(log_whole + np.log1p(-np.exp(log_part - log_whole)))
