"""Cross-entropy and error of sequences of ids, counted by token."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from rcnn_jax.metrics.best_class import best_class
from rcnn_jax.metrics.stray_labels import nan_where


def token_sums(
    logits: Float[jax.Array, "batch time classes"],
    ids: Int[jax.Array, "batch time"],
    mask: Bool[jax.Array, "batch time"],
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Sums errors and cross-entropy over the tokens of a batch.

    Args:
        logits: Logits, `[batch, time, classes]`.
        ids: True ids from 0, `[batch, time]`; an id beyond the classes is a token that does not
            occur in the training split.
        mask: True for the tokens that count, `[batch, time]`.

    Returns:
        `error`, (wrong tokens, tokens), where a token counts as an error if its id is beyond the
        classes or its logits have NaN; and `loss`, (cross-entropy in nats, tokens whose id is one
        of the classes). The loss is NaN where an id is negative.
    """
    known = mask & (ids < logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, ids, 0))
    wrong = mask & (best_class(logits) != ids)
    tokens, counted = (each.sum().astype(logits.dtype) for each in (mask, known))
    return {
        "error": (wrong.sum().astype(logits.dtype), tokens),
        # A negative id is a fault of the data; optax would count it from the last class.
        "loss": (nan_where(mask & (ids < 0), jnp.where(known, losses, 0.0).sum()), counted),
    }
