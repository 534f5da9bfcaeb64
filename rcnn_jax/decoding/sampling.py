"""Writing a sequence id by id: the most probable id at each step, or one drawn at random.

What writes is a function `step(ids, state) -> (logits, state)`: it reads the id that was written
last in each row, `[rows]`, and gives the logits of the next one, `[rows, classes]`. The leaves of
the state are `[rows, ...]`. `rcnn_jax.decoding.beam` searches with the same function.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from rcnn_jax.data.text.vocabulary import PAD

Step = Callable[[Array, PyTree], tuple[Array, PyTree]]
Choose = Callable[[Array, Array], Array]


class Written(NamedTuple):
    """Sequences that were written.

    Attributes:
        ids: int32 `[rows, steps]`, with the end id, and `PAD` behind it.
        lengths: int32 `[rows]`, the end id counted.
        log_probs: natural logarithm of the probability of all of a row's ids, `[rows]`.
    """

    ids: Int[Array, "rows steps"]
    lengths: Int[Array, "rows"]
    log_probs: Float[Array, "rows"]


def allowed_logits(logits: Array, banned: Sequence[int] = ()) -> tuple[Array, Array]:
    """Logits with -inf for what must not be written, and the logarithm of the softmax's divisor.

    Their difference are logarithms of probabilities. Those of the ids that may be written stay what
    the model says: they are not scaled up.

    Args:
        logits: `[rows, classes]`.
        banned: ids that must not be written.

    Returns:
        `[rows, classes]` and `[rows]`, in float32 or wider.

    Raises:
        ValueError: a banned id is none of the classes, or all are banned.
    """
    classes = logits.shape[-1]
    wrong = [number for number in banned if not 0 <= number < classes]
    if wrong or len(set(banned)) == classes:
        raise ValueError(
            f"banned ids lie in 0..{classes - 1} and leave something to write, got {tuple(banned)}"
        )
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    total = jax.nn.logsumexp(logits, axis=-1)
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
    """Writes the most probable id at each step.

    Args:
        step: what writes, see above.
        state: before the first step, leaves `[rows, ...]`.
        rows: how many sequences are written.
        steps: most ids of a sequence, at least 1; one that has not ended by then is cut.
        start_id: read at the first step.
        end_id: ends a sequence.
        banned: ids that are never written.

    Returns:
        What was written.

    Raises:
        ValueError: `steps` is not positive, or a banned id is impossible.
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
    """Draws each id from the probabilities that the model gives it.

    Args:
        step: what writes, see above.
        state: before the first step, leaves `[rows, ...]`.
        keys: a random key for each row, so that what it draws depends on no other row.
        steps: most ids of a sequence, at least 1.
        start_id: read at the first step.
        end_id: ends a sequence.
        temperature: logarithms of probabilities are divided by it: below 1 the probable becomes
            more probable, above 1 less; positive.
        top_k: draw from the most probable ids only, so many; 0: from all.
        banned: ids that are never written.

    Returns:
        What was written; its `log_probs` are the model's own, whatever the temperature.

    Raises:
        ValueError: `steps` or `temperature` is not positive, `top_k` is negative, or a banned id
            is impossible.
    """
    if not temperature > 0 or top_k < 0:
        raise ValueError(
            f"temperature is positive and top_k at least 0, got {temperature} and {top_k}"
        )

    def choose(log_probs: Array, number: Array) -> Array:
        if top_k:
            least = jax.lax.top_k(log_probs, min(top_k, log_probs.shape[-1]))[0][..., -1:]
            log_probs = jnp.where(log_probs >= least, log_probs, -jnp.inf)
        now = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return jax.vmap(jax.random.categorical)(now, log_probs / temperature)

    return _write(step, state, len(keys), choose, steps, start_id, end_id, banned)


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
    if steps < 1:
        raise ValueError(f"at least 1 id is written, got steps={steps}")

    def running(carry: PyTree) -> Array:
        number, _, _, written = carry
        return (number < steps) & ~jnp.all(_ended(written, end_id))

    def body(carry: PyTree) -> PyTree:
        number, last, state, written = carry
        logits, state = step(last, state)
        logits, total = allowed_logits(logits, banned)
        log_probs = logits - total[:, None]
        chosen = choose(log_probs, number).astype(jnp.int32)
        own = jnp.take_along_axis(log_probs, chosen[:, None], axis=1)[:, 0]
        live = ~_ended(written, end_id)
        shown = jnp.where(live, chosen, PAD)
        return (
            number + 1,
            chosen,
            state,
            Written(
                written.ids.at[:, number].set(shown),
                written.lengths + live,
                written.log_probs + jnp.where(live, own, 0),
            ),
        )

    start = jnp.full((rows,), start_id, jnp.int32)
    dtype = jnp.promote_types(jax.eval_shape(step, start, state)[0].dtype, jnp.float32)
    nothing = Written(
        jnp.full((rows, steps), PAD, jnp.int32),
        jnp.zeros((rows,), jnp.int32),
        jnp.zeros((rows,), dtype),
    )
    return jax.lax.while_loop(running, body, (jnp.int32(0), start, state, nothing))[-1]


def _ended(written: Written, end_id: int) -> Array:
    return jnp.any(written.ids == end_id, axis=1)
