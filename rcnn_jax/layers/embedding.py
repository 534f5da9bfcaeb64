"""Tables of vectors, read by index, and the neighbours of a word."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rows(
    table: Float[Array, "entries features"], ids: Int[Array, "*places"]
) -> Float[Array, "*places features"]:
    """The product of 1-of-N vectors with a table: the row of each id.

    Args:
        table: `[entries, features]`.
        ids: integers of any shape. A negative id is the vector of zeros, whose product is zero.

    Returns:
        `[*places, features]`. An id beyond the table has no row: its place is NaN, for another row
        would be a wrong word that nobody notices.
    """
    found = table.at[jnp.maximum(ids, 0)].get(mode="fill", fill_value=jnp.nan)
    return jnp.where((ids >= 0)[..., None], found, jnp.zeros((), table.dtype))


def neighbours(x: Array, window: int, outside: Array | int | float) -> list[Array]:
    """What stands at each place of a window around each time step.

    Args:
        x: `[batch, time, ...]`.
        window: number of places, odd; the middle one is the time step itself.
        outside: what stands before the first and behind the last step, `[...]`.

    Returns:
        `window` arrays like `x`, from the leftmost place to the rightmost.
    """
    reach = window // 2
    edge = jnp.broadcast_to(jnp.asarray(outside, x.dtype), (x.shape[0], reach, *x.shape[2:]))
    padded = jnp.concatenate([edge, x, edge], axis=1)
    return [padded[:, place : place + x.shape[1]] for place in range(window)]
