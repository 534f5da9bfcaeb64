"""Best path decoding of CTC: the labelling of the most probable path.

It is the fastest decoder, but its labelling is not always the most probable one.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.decoding.ctc.arguments import checked_logits


def best_path(
    logits: ArrayLike, logit_lengths: ArrayLike, blank_id: int = 0
) -> tuple[Int[Array, "batch time"], Int[Array, "batch"], Float[Array, "batch"]]:
    """Decodes by taking the largest class of each frame, merging repeats and removing blanks.

    Args:
        logits: Logits, `[batch, time, classes]`.
        logit_lengths: Number of frames of each sequence, `[batch]`.
        blank_id: Class of the blank.

    Returns:
        Labels `[batch, time]`, padded with `blank_id`; their number `[batch]`; and the
        log-probability of the path `[batch]`, which does not exceed that of its labelling. Where
        a frame has no distribution there are no labels, and the log-probability is NaN.

    Raises:
        ValueError: An argument is invalid; see `checked_logits`.

    References:
        Graves et al., ICML 2006, section 3.2.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.decoding import ctc
        >>> logits = np.log(np.array([[[0.3, 0.7], [0.2, 0.8], [0.9, 0.1], [0.4, 0.6]]]))
        >>> labels, lengths, log_probs = ctc.best_path(logits, np.array([4]))
        >>> labels.tolist(), lengths.tolist()
        ([[1, 1, 0, 0]], [2])
    """
    scores, frames = checked_logits(logits, logit_lengths, blank_id)
    mask = jnp.arange(scores.shape[1], dtype=frames.dtype)[None] < frames[:, None]
    peak = jnp.max(jax.nn.log_softmax(scores, axis=2), axis=2)
    value = jnp.sum(jnp.where(mask, peak, 0), axis=1)
    seen = mask & ~jnp.isnan(value)[:, None]
    path = jnp.where(seen, jnp.argmax(scores, axis=2).astype(jnp.int32), blank_id)
    return *collapse(path, blank_id), value


def collapse(
    path: Int[Array, "batch time"], blank_id: int
) -> tuple[Int[Array, "batch time"], Int[Array, "batch"]]:
    """Merges repeated classes of a path and removes the blanks.

    Args:
        path: Class of each frame, `[batch, time]`.
        blank_id: Class of the blank.

    Returns:
        Labels `[batch, time]`, padded with `blank_id`, and their number `[batch]`.
    """
    before = jnp.pad(path, ((0, 0), (1, 0)), constant_values=blank_id)[:, :-1]
    kept = (path != before) & (path != blank_id)
    position = jnp.cumsum(kept, axis=1, dtype=jnp.int32)
    row = jnp.arange(path.shape[0], dtype=jnp.int32)[:, None]
    target = jnp.where(kept, position - 1, path.shape[1])
    labels = jnp.full_like(path, blank_id).at[row, target].set(path, mode="drop")
    return labels, jnp.sum(kept, axis=1, dtype=jnp.int32)
