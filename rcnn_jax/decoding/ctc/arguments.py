"""What the functions of this folder accept, checked as far as the values are known."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.layers.masks import checked_lengths, is_known


def checked_logits(
    logits: ArrayLike, logit_lengths: ArrayLike, blank_id: int
) -> tuple[Float[Array, "batch time classes"], Int[Array, "batch"]]:
    """The logits in float32 at least, and their lengths.

    Args:
        logits: `[batch, time, classes]` of a floating dtype; half precision becomes float32.
        logit_lengths: `[batch]` integers in 0..time.
        blank_id: class of the blank, in 0..classes-1.

    Returns:
        Logits and `int32` lengths. Inside `jit` the lengths stay unchecked: a negative one counts
        as 0, one beyond `time` as `time`.

    Raises:
        ValueError: a rank, a shape, a dtype, `blank_id` or a known length is impossible.
    """
    scores = logits if isinstance(logits, jax.Array) else np.asarray(logits)
    if scores.ndim != 3 or not jnp.issubdtype(scores.dtype, jnp.floating):
        raise ValueError(
            "logits must be floating-point numbers [batch, time, classes], got "
            f"{scores.dtype} of shape {scores.shape}"
        )
    batch, time, classes = scores.shape
    if not 0 <= blank_id < classes:
        raise ValueError(f"blank_id must lie in 0..{classes - 1}, the classes, got {blank_id}")
    narrow = jnp.finfo(scores.dtype).bits < 32
    lengths = checked_lengths(logit_lengths, batch, time, name="logit_lengths", counted="frames")
    return jnp.asarray(scores, jnp.float32 if narrow else None), lengths


def checked_labels(
    labels: ArrayLike, label_lengths: ArrayLike, batch: int, classes: int, blank_id: int
) -> tuple[Int[Array, "batch labels"], Int[Array, "batch"]]:
    """The labels, with any class in place of padding, and their lengths.

    Args:
        labels: `[batch, max_labels]` integers; those beyond the length may be anything.
        label_lengths: `[batch]` integers in 0..max_labels.
        batch: number of sequences.
        classes: number of classes, the blank among them.
        blank_id: class of the blank, which is no label.

    Returns:
        `int32` labels in 0..classes-1, and `int32` lengths.

    Raises:
        ValueError: a rank, a shape or a dtype is impossible, or a known label within its length
            is the blank or no class. Inside `jit` labels stay unchecked.
    """
    values = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    integers = jnp.issubdtype(values.dtype, jnp.integer)
    if values.ndim != 2 or values.shape[0] != batch or not integers:
        raise ValueError(
            f"labels must be integers [batch, max_labels] with batch {batch}, got {values.dtype} "
            f"of shape {values.shape}"
        )
    lengths = checked_lengths(
        label_lengths, batch, values.shape[1], name="label_lengths", counted="labels"
    )
    if is_known(values) and is_known(lengths):
        host = np.asarray(values)
        counted = np.arange(host.shape[1]) < np.asarray(lengths)[:, None]
        wrong = host[counted & ((host < 0) | (host >= classes) | (host == blank_id))]
        if wrong.size:
            raise ValueError(
                f"labels must lie in 0..{classes - 1} and differ from the blank {blank_id}, got "
                f"{wrong[0]}"
            )
    return jnp.clip(jnp.asarray(values), 0, classes - 1).astype(jnp.int32), lengths
