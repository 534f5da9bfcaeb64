"""Chunks counted by arrays against the count over lists."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.metrics.chunk_counts import TagKinds, chunk_counts
from rcnn_jax.metrics.chunks import conlleval

# Types that begin alike, one with a hyphen, and none at all; not in the order of the alphabet.
TAGS = ("O", "I-b", "B-a", "I-a", "B-b", "B-a-x", "I-a-x", "B", "I", "I-only")


def test_tags_taken_apart():
    found = TagKinds.of(TAGS)
    assert found.kinds == ("", "a", "a-x", "b", "only")
    assert found.kind.tolist() == [5, 3, 1, 1, 3, 2, 2, 0, 0, 4]
    assert [tag for tag, inside in zip(TAGS, found.inside, strict=True) if inside] == [
        tag for tag in TAGS if tag.startswith("I")
    ]
    assert TagKinds.of(("O", "B-0", "B", "I-0", "B-1")).kind.tolist() == [2, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="got 'X-a'"):
        TagKinds.of(("O", "X-a"))


@pytest.mark.parametrize("tags", [TAGS, TAGS[:4]], ids=["many", "few"])
def test_counts_are_those_of_conlleval(tags):
    """Sentences of all lengths, tagged consistently or not, and padding that holds tags too."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, len(tags), (400, 7))
    # Mostly equal, so that chunks are found; the rest at random.
    predicted = np.where(rng.random(gold.shape) < 0.8, gold, rng.integers(0, len(tags), gold.shape))
    lengths = rng.integers(0, 8, len(gold))
    mask = np.arange(7)[None] < lengths[:, None]
    kinds = TagKinds.of(tags)
    count = jax.jit(functools.partial(chunk_counts, tags=kinds))
    found = count(jnp.asarray(gold), jnp.asarray(predicted), jnp.asarray(mask))
    named = [
        [[tags[i] for i in row[:length]] for row, length in zip(ids, lengths, strict=True)]
        for ids in (gold, predicted)
    ]
    types = conlleval(*named)["types"]
    assert set(types) == set(kinds.kinds)
    for name, values in found.items():
        expected = [types[kind][name] for kind in kinds.kinds]
        np.testing.assert_array_equal(values, expected, name)
        assert min(expected) > 0


def test_without_tokens_or_types():
    @jax.jit
    def count(empty, outside):
        tokens = chunk_counts(empty, empty, empty == 0, TagKinds.of(TAGS))
        return tokens, chunk_counts(outside, outside, outside == 0, TagKinds.of(("O",)))

    tokens, types = count(jnp.zeros((2, 0), jnp.int32), jnp.zeros((2, 3), jnp.int32))
    for name in ("gold", "predicted", "correct"):
        np.testing.assert_array_equal(tokens[name], np.zeros(5))
        assert types[name].shape == (0,)
