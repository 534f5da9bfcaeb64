"""Chunks counted inside jit: sums over batches and devices that give what `conlleval` gives."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from rcnn_jax.metrics.chunks import chunks


@dataclasses.dataclass(frozen=True)
class TagKinds:
    """Tags taken apart.

    Attributes:
        kinds: the types of chunks in alphabetical order; `""` is that of a tag without one.
        kind: of each tag, int32 `[tags]`; the number of kinds for `O`.
        inside: of each tag, whether it is an I, bool `[tags]`.
    """

    kinds: tuple[str, ...]
    kind: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, tags: Sequence[str]) -> "TagKinds":
        """Takes tags apart.

        Raises:
            ValueError: one is neither `O` nor a B or an I, see `rcnn_jax.metrics.chunks.chunks`.
        """
        # The chunk that a tag makes by itself has its type; O makes none.
        found = [next((kind for _, _, kind in chunks([tag])), None) for tag in tags]
        kinds = tuple(sorted({kind for kind in found if kind is not None}))
        numbers = [len(kinds) if kind is None else kinds.index(kind) for kind in found]
        inside = np.array([tag.startswith("I") for tag in tags], bool)
        return cls(kinds, np.array(numbers, np.int32), inside)


def chunk_counts(
    gold: Int[Array, "batch time"],
    predicted: Int[Array, "batch time"],
    live: Bool[Array, "batch time"],
    tags: TagKinds,
) -> dict[str, Float[Array, "kinds"]]:
    """Counts chunks by type, as `rcnn_jax.metrics.chunks.conlleval` does.

    Args:
        gold: ids of tags `[batch, time]`.
        predicted: likewise.
        live: the tokens that count; what is not live ends a sentence.
        tags: what the ids mean.

    Returns:
        `gold`, `predicted` and `correct`, float32 `[kinds]`.
    """
    true, guess = (_spans(ids, live, tags) for ids in (gold, predicted))
    starts, ends, kinds = zip(true, guess, strict=True)
    correct = starts[0] & starts[1] & (kinds[0] == kinds[1]) & (ends[0] == ends[1])

    def sums(counted: Array, kind: Array) -> Array:
        # The number of kinds, that of O, has no column and counts nowhere.
        columns = jax.nn.one_hot(kind, len(tags.kinds), dtype=jnp.float32)
        return jnp.sum(jnp.where(counted[..., None], columns, 0.0), axis=(0, 1))

    return {
        "gold": sums(starts[0], kinds[0]),
        "predicted": sums(starts[1], kinds[1]),
        "correct": sums(correct, kinds[0]),
    }


def _spans(ids: Array, live: Array, tags: TagKinds) -> tuple[Array, Array, Array]:
    """Whether a chunk begins at each token, where the one that holds it ends, and its kind."""
    outside = len(tags.kinds)
    kind = jnp.where(live, jnp.asarray(tags.kind)[ids], outside)
    before = jnp.pad(kind[:, :-1], ((0, 0), (1, 0)), constant_values=outside)
    # An I goes on where the token before is of its type, whatever that one is.
    goes_on = jnp.asarray(tags.inside)[ids] & (kind == before) & (kind != outside)
    begins = (kind != outside) & ~goes_on
    last = ~jnp.pad(goes_on[:, 1:], ((0, 0), (0, 1)))
    place = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    end = lax.cummin(jnp.where(last, place, ids.shape[1]), axis=1, reverse=True)
    return begins, end, kind
