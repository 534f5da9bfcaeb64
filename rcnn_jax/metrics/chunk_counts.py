"""Counts of chunks inside jit: sums over batches and devices that equal those of `conlleval`."""

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
    """Chunk types of a list of tags, as arrays for compiled code.

    Attributes:
        kinds: Types of chunks in alphabetical order; `""` is the type of a tag without one.
        kind: Index of each tag's type, `int32[tags]`; the number of kinds for `O`.
        inside: Whether each tag is an I, `bool[tags]`.
    """

    kinds: tuple[str, ...]
    kind: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, tags: Sequence[str]) -> "TagKinds":
        """Parses tags.

        Args:
            tags: Tags by id, such as `"O"`, `"B-city"` and `"I-city"`.

        Returns:
            Their chunk types.

        Raises:
            ValueError: A tag is neither `O` nor a B or an I; see `rcnn_jax.metrics.chunks.chunks`.
        """
        # A tag by itself makes a chunk of its type; O makes none.
        chunk_types = [next((kind for _, _, kind in chunks([tag])), None) for tag in tags]
        kinds = tuple(sorted({kind for kind in chunk_types if kind is not None}))
        numbers = [len(kinds) if kind is None else kinds.index(kind) for kind in chunk_types]
        inside = np.array([tag.startswith("I") for tag in tags], bool)
        return cls(kinds, np.array(numbers, np.int32), inside)


def chunk_counts(
    gold: Int[Array, "batch time"],
    predicted: Int[Array, "batch time"],
    mask: Bool[Array, "batch time"],
    tags: TagKinds,
) -> dict[str, Float[Array, "kinds"]]:
    """Counts chunks by type, as `rcnn_jax.metrics.chunks.conlleval` does.

    Args:
        gold: Ids of the true tags, `[batch, time]`.
        predicted: Ids of the predicted tags, `[batch, time]`; a token with a negative id has no
            answer and so belongs to no chunk.
        mask: True for the tokens that count, `[batch, time]`; a sentence ends where it is false.
        tags: Chunk types of the ids.

    Returns:
        Numbers of `gold`, `predicted` and `correct` chunks, `float32[kinds]` each.
    """
    true, guess = (_spans(ids, mask, tags) for ids in (gold, predicted))
    starts, ends, kinds = zip(true, guess, strict=True)
    correct = starts[0] & starts[1] & (kinds[0] == kinds[1]) & (ends[0] == ends[1])

    def sums(counted: Array, kind: Array) -> Array:
        # O has the index len(kinds), which has no column, so that it is not counted.
        columns = jax.nn.one_hot(kind, len(tags.kinds), dtype=jnp.float32)
        return jnp.sum(jnp.where(counted[..., None], columns, 0.0), axis=(0, 1))

    return {
        "gold": sums(starts[0], kinds[0]),
        "predicted": sums(starts[1], kinds[1]),
        "correct": sums(correct, kinds[0]),
    }


def _spans(ids: Array, mask: Array, tags: TagKinds) -> tuple[Array, Array, Array]:
    """Returns whether a chunk begins at each token, where its chunk ends, and its type's index."""
    outside = len(tags.kinds)
    kind = jnp.where(mask & (ids >= 0), jnp.asarray(tags.kind)[ids], outside)
    before = jnp.pad(kind[:, :-1], ((0, 0), (1, 0)), constant_values=outside)
    # An I continues a chunk where the previous token has the same type, be it B or I.
    goes_on = jnp.asarray(tags.inside)[ids] & (kind == before) & (kind != outside)
    begins = (kind != outside) & ~goes_on
    last = ~jnp.pad(goes_on[:, 1:], ((0, 0), (0, 1)))
    place = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    end = lax.cummin(jnp.where(last, place, ids.shape[1]), axis=1, reverse=True)
    return begins, end, kind
