"""Cross-entropy and error of ids in sequences, counted by token."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from rcnn_jax.metrics.stray_labels import nan_where


def token_sums(
    logits: Float[jax.Array, "batch time classes"],
    ids: Int[jax.Array, "batch time"],
    live: Bool[jax.Array, "batch time"],
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Sums over the tokens of a batch.

    Args:
        logits: `[batch, time, classes]`.
        ids: What is right, from 0; an id behind the classes stands for what training has not.
        live: Which tokens count.

    Returns:
        `error`: (wrong tokens, tokens), where an id beyond the classes counts as an error; and
        `loss`: (cross-entropy in nats, tokens whose id is one of the classes).
    """
    known = live & (ids < logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, ids, 0))
    wrong = live & (jnp.argmax(logits, axis=-1) != ids)
    tokens, counted = (mask.sum().astype(logits.dtype) for mask in (live, known))
    return {
        "error": (wrong.sum().astype(logits.dtype), tokens),
        # A negative id, of which optax counts from the last class, is a fault of the data.
        "loss": (nan_where(live & (ids < 0), jnp.where(known, losses, 0.0).sum()), counted),
    }
