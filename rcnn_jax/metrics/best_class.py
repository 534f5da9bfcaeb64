"""The most probable class of each place, which does not exist where a score is NaN."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NO_ANSWER = -2
"""Answer where a score is NaN. It equals no class and no label, and differs from -1, which marks
places behind the end of a sequence."""


def best_class(scores: Float[Array, "*places classes"]) -> Int[Array, "*places"]:
    """Returns the class with the largest score, or `NO_ANSWER` where one of the scores is NaN.

    `jnp.argmax` alone returns the position of the NaN, a class like any other, which would count as
    right where the label happens to be that class.

    Args:
        scores: Logits or probabilities, `[*places, classes]`.

    Returns:
        Classes `int32[*places]`, the first of equal scores.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.metrics.best_class import best_class
        >>> best_class(jnp.array([[0.1, 0.9], [jnp.nan, 0.9]])).tolist()
        [1, -2]
    """
    best = jax.lax.argmax(scores, scores.ndim - 1, jnp.int32)
    return jnp.where(jnp.isnan(scores).any(axis=-1), NO_ANSWER, best)
