"""Generates a sequence id by id: the most probable id at each step, or a random one.

A model is given as a function `step(ids, state) -> (logits, state)`: it reads the last id of each
row, `[rows]`, and returns the logits of the next one, `[rows, classes]`. The leaves of the state
are `[rows, ...]`. `rcnn_jax.decoding.beam` searches with such a function.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from rcnn_jax.data.text.vocabulary import PAD
from rcnn_jax.decoding import top_k as selection

Step = Callable[[Array, PyTree], tuple[Array, PyTree]]
Choose = Callable[[Array, Array], Array]


class Written(NamedTuple):
    """Generated sequences.

    Attributes:
        ids: Generated ids, `int32[rows, steps]`, including the end id, and `PAD` after it.
        lengths: Number of ids including the end id, `int32[rows]`.
        log_probs: Natural logarithm of the probability of all ids of a row, `[rows]`. It is NaN,
            and the row has no ids, where an id had no distribution: a logit was NaN or inf, or all
            were -inf.
    """

    ids: Int[Array, "rows steps"]
    lengths: Int[Array, "rows"]
    log_probs: Float[Array, "rows"]


def allowed_logits(logits: Array, banned: Sequence[int] = ()) -> tuple[Array, Array]:
    """Returns logits with -inf for banned ids, and the logarithm of the softmax's denominator.

    Their difference is the log-probability of each id. The probabilities of the allowed ids are
    those of the model: they are not renormalised. A row whose logits have no softmax gets the
    logarithm NaN.

    Args:
        logits: Logits of the next id, `[rows, classes]`.
        banned: Ids that must not be generated.

    Returns:
        The logits `[rows, classes]` and the logarithms `[rows]`, in float32 or wider.

    Raises:
        ValueError: A banned id is not a class, or all classes are banned.
    """
    classes = logits.shape[-1]
    wrong = [number for number in banned if not 0 <= number < classes]
    if wrong or len(set(banned)) == classes:
        raise ValueError(
            f"banned ids lie in 0..{classes - 1} and leave something to write, got {tuple(banned)}"
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    total = jax.nn.logsumexp(logits, axis=-1)
    # Not finite where a logit, be it of a banned id, is NaN or inf, or all are -inf.
    total = jnp.where(jnp.isfinite(total), total, jnp.nan)
    if banned:
        free = np.ones(classes, bool)
        free[list(banned)] = False
        logits = jnp.where(free[None], logits, -jnp.inf)
    return logits, total


def greedy(
    step: Step,
    state: PyTree,
    rows: int,
    *,
    steps: int,
    start_id: int,
    end_id: int,
    banned: Sequence[int] = (),
) -> Written:
    """Generates the most probable id at each step.

    Args:
        step: Function `step(ids, state) -> (logits, state)` of the model; see the module docstring.
        state: State of the model before the first step, with leaves `[rows, ...]`.
        rows: Number of sequences to generate.
        steps: Largest number of ids of a sequence, at least 1; a sequence that has not ended is
            cut.
        start_id: Id that the model reads at the first step.
        end_id: Id that ends a sequence.
        banned: Ids that are never generated.

    Returns:
        The generated sequences.

    Raises:
        ValueError: `steps` is not positive, or a banned id is not a class.

    Example:
        >>> import math
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.decoding.sampling import greedy
        >>> table = jnp.log(jnp.array([[0.1, 0.5, 0.4], [0.4, 0.3, 0.3], [0.9, 0.05, 0.05]]))
        >>> def step(ids, state):
        ...     return table[ids], state
        >>> written = greedy(step, (), 1, steps=4, start_id=0, end_id=0)
        >>> written.ids.tolist(), round(math.exp(written.log_probs[0]), 2)
        ([[1, 0, -1, -1]], 0.2)
    """

    def choose(log_probs: Array, number: Array) -> Array:
        del number
        return jnp.argmax(log_probs, axis=-1)

    return _write(step, state, rows, choose, steps, start_id, end_id, banned)


def sample(
    step: Step,
    state: PyTree,
    keys: Array,
    *,
    steps: int,
    start_id: int,
    end_id: int,
    temperature: float = 1.0,
    top_k: int = 0,
    banned: Sequence[int] = (),
) -> Written:
    """Samples each id from the probabilities of the model.

    Args:
        step: Function `step(ids, state) -> (logits, state)` of the model; see the module docstring.
        state: State of the model before the first step, with leaves `[rows, ...]`.
        keys: Random key of each row, `[rows]`, so that its sample does not depend on other rows.
        steps: Largest number of ids of a sequence, at least 1; a sequence that has not ended is
            cut.
        start_id: Id that the model reads at the first step.
        end_id: Id that ends a sequence.
        temperature: Positive divisor of log-probabilities: below 1, probable ids become more
            probable; above 1, less.
        top_k: Number of most probable ids to sample from; 0 samples from all.
        banned: Ids that are never generated.

    Returns:
        The generated sequences; `log_probs` are those of the model, whatever the temperature.

    Raises:
        ValueError: `steps` or `temperature` is not positive, `top_k` is negative, or a banned id is
            not a class.
    """
    if not temperature > 0 or top_k < 0:
        raise ValueError(
            f"temperature is positive and top_k at least 0, got {temperature} and {top_k}"
        )

    def choose(log_probs: Array, number: Array) -> Array:
        if top_k:
            least = selection.top_k(log_probs, min(top_k, log_probs.shape[-1]))[0][..., -1:]
            log_probs = jnp.where(log_probs >= least, log_probs, -jnp.inf)
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return jax.vmap(jax.random.categorical)(now, log_probs / temperature)

    return _write(step, state, keys.shape[0], choose, steps, start_id, end_id, banned)


def _write(
    step: Step,
    state: PyTree,
    rows: int,
    choose: Choose,
    steps: int,
    start_id: int,
    end_id: int,
    banned: Sequence[int],
) -> Written:
    """Generates sequences whose next id `choose(log_probs, step number)` selects."""
    if steps < 1:
        raise ValueError(f"at least 1 id is written, got steps={steps}")

    def running(carry: PyTree) -> Array:
        number, _, _, written = carry
        return (number < steps) & ~jnp.all(_over(written, end_id))

    def body(carry: PyTree) -> PyTree:
        number, last, state, written = carry
        logits, state = step(last, state)
        logits, total = allowed_logits(logits, banned)
        log_probs = logits - total[:, None]
        chosen = choose(log_probs, number).astype(jnp.int32)
        chosen_log_probs = jnp.take_along_axis(log_probs, chosen[:, None], axis=1)[:, 0]
        # Whatever was chosen: without a distribution no id is a choice.
        chosen_log_probs = jnp.where(jnp.isnan(log_probs).any(axis=1), jnp.nan, chosen_log_probs)
        mask = ~_over(written, end_id)
        shown = jnp.where(mask, chosen, PAD)
        return (
            number + 1,
            chosen,
            state,
            Written(
                written.ids.at[:, number].set(shown),
                written.lengths + mask,
                written.log_probs + jnp.where(mask, chosen_log_probs, 0),
            ),
        )

    start = jnp.full((rows,), start_id, jnp.int32)
    dtype = jnp.promote_types(jax.eval_shape(step, start, state)[0].dtype, jnp.float32)
    nothing = Written(
        jnp.full((rows, steps), PAD, jnp.int32),
        jnp.zeros((rows,), jnp.int32),
        jnp.zeros((rows,), dtype),
    )
    written = jax.lax.while_loop(running, body, (jnp.int32(0), start, state, nothing))[-1]
    broken = jnp.isnan(written.log_probs)
    return Written(
        jnp.where(broken[:, None], PAD, written.ids),
        jnp.where(broken, 0, written.lengths),
        written.log_probs,
    )


def _over(written: Written, end_id: int) -> Array:
    """Returns whether each row contains the end id or has an id without a distribution."""
    return jnp.any(written.ids == end_id, axis=1) | jnp.isnan(written.log_probs)
