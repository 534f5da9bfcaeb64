"""Checks of the arguments of CTC functions, as far as their values are known."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.layers.masks import checked_lengths, is_known


def checked_logits(
    logits: ArrayLike, logit_lengths: ArrayLike, blank_id: int
) -> tuple[Float[Array, "batch time classes"], Int[Array, "batch"]]:
    """Returns the logits in float32 or wider, and their lengths.

    Args:
        logits: Logits of a floating dtype, `[batch, time, classes]`; half precision becomes
            float32.
        logit_lengths: Number of frames of each sequence, integers `[batch]` in 0..time.
        blank_id: Class of the blank, in 0..classes-1.

    Returns:
        The logits and `int32` lengths. Inside `jit` lengths cannot be checked: a negative one
        counts as 0, and one beyond `time` as `time`.

    Raises:
        ValueError: A rank, a shape, a dtype, `blank_id` or a known length is invalid.
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
    """Returns the labels, with some class in place of padding, and their lengths.

    Args:
        labels: Integers `[batch, max_labels]`, with arbitrary values beyond the length.
        label_lengths: Number of labels of each sequence, integers `[batch]` in 0..max_labels.
        batch: Number of sequences.
        classes: Number of classes, including the blank.
        blank_id: Class of the blank, which is not allowed as a label.

    Returns:
        `int32` labels in 0..classes-1, and `int32` lengths.

    Raises:
        ValueError: A rank, a shape or a dtype is invalid, or a known label within its length is the
            blank or not a class. Inside `jit` labels cannot be checked.
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
