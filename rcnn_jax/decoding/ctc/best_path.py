"""The labelling of the most probable path: the fastest decoder, and not always the best."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.decoding.ctc.arguments import checked_logits


def best_path(
    logits: ArrayLike, logit_lengths: ArrayLike, blank_id: int = 0
) -> tuple[Int[Array, "batch time"], Int[Array, "batch"], Float[Array, "batch"]]:
    """Takes the largest class of each frame, merges repeats and removes blanks.

    Args:
        logits: `[batch, time, classes]`.
        logit_lengths: `[batch]` number of frames.
        blank_id: class of the blank.

    Returns:
        Labels `[batch, time]`, padded with `blank_id`; their number `[batch]`; and the
        log-probability of the path `[batch]`, which is no more than that of its labelling.

    Raises:
        ValueError: see `checked_logits`.

    Reference:
        Graves et al., ICML 2006, section 3.2.
    """
    scores, frames = checked_logits(logits, logit_lengths, blank_id)
    live = jnp.arange(scores.shape[1], dtype=frames.dtype)[None] < frames[:, None]
    path = jnp.where(live, jnp.argmax(scores, axis=2).astype(jnp.int32), blank_id)
    peak = jnp.max(jax.nn.log_softmax(scores, axis=2), axis=2)
    return *collapse(path, blank_id), jnp.sum(jnp.where(live, peak, 0), axis=1)


def collapse(
    path: Int[Array, "batch time"], blank_id: int
) -> tuple[Int[Array, "batch time"], Int[Array, "batch"]]:
    """Merges repeated classes of a path and removes the blanks.

    Args:
        path: `[batch, time]` classes.
        blank_id: class of the blank.

    Returns:
        Labels `[batch, time]`, padded with `blank_id`, and their number `[batch]`.
    """
    before = jnp.pad(path, ((0, 0), (1, 0)), constant_values=blank_id)[:, :-1]
    kept = (path != before) & (path != blank_id)
    place = jnp.cumsum(kept, axis=1, dtype=jnp.int32)
    row = jnp.arange(path.shape[0], dtype=jnp.int32)[:, None]
    target = jnp.where(kept, place - 1, path.shape[1])
    labels = jnp.full_like(path, blank_id).at[row, target].set(path, mode="drop")
    return labels, jnp.sum(kept, axis=1, dtype=jnp.int32)
