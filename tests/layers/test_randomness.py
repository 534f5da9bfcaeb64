"""Masks belong to examples: they do not depend on devices, and their rate is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.dropout import Dropout, dropout
from rcnn_jax.layers.randomness import DATA_AXIS, data_axis_bound, example_keys, part_of_batch

KEY = jax.random.key(7)


def test_data_axis_is_bound_inside_pmap_only():
    seen = []

    def look(x):
        seen.append(data_axis_bound())
        return x

    jax.jit(look)(jnp.zeros(4))
    jax.pmap(look, axis_name=DATA_AXIS)(jnp.zeros((4, 1)))
    jax.pmap(look, axis_name="other")(jnp.zeros((4, 1)))
    assert seen == [False, True, False]


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(7)], ids=["new", "raw"])
def test_key_of_an_example_is_its_global_index_folded_in(key):
    keys = example_keys(key, 3)
    for index in range(3):
        expected = jax.random.fold_in(key, index)
        assert jnp.all(jax.random.bits(keys[index]) == jax.random.bits(expected))


def drawn(key, batch):
    return jax.vmap(jax.random.bits)(example_keys(key, batch))


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_part_of_a_batch_draws_as_its_rows_do_in_the_whole(groups):
    whole = np.asarray(drawn(KEY, 12)).reshape(groups, 2, -1)

    @jax.jit
    def parts(key):
        def one(number):
            with part_of_batch(number, 2, groups):
                return drawn(key, 6)

        return jnp.stack([one(0), one(1)]), jax.lax.map(one, jnp.arange(2))

    fixed, traced = parts(KEY)
    for number in range(2):
        np.testing.assert_array_equal(fixed[number], whole[:, number].reshape(-1))
        np.testing.assert_array_equal(traced[number], whole[:, number].reshape(-1))
    # Outside, nothing is left of it.
    np.testing.assert_array_equal(drawn(KEY, 12), whole.reshape(-1))


def test_parts_of_the_shards_of_devices():
    """A batch of 24 on 4 devices in 3 parts of 2 rows a device."""

    def one(rows):
        with part_of_batch(1, 3):
            return drawn(KEY, rows.shape[0])

    taken = jax.pmap(one, axis_name=DATA_AXIS)(jnp.zeros((4, 2)))
    np.testing.assert_array_equal(taken, np.asarray(drawn(KEY, 24)).reshape(4, 3, 2)[:, 1])


def test_rows_that_stand_for_one_example_stay_together():
    """A layer that sees 3 views an example, in its order, draws for each as in the whole."""
    whole = np.asarray(drawn(KEY, 8 * 3)).reshape(2, 2, 2, 3)
    with part_of_batch(1, 2, 2):
        np.testing.assert_array_equal(drawn(KEY, 4 * 3), whole[:, 1].reshape(-1))


def test_what_is_compiled_for_one_part_is_not_taken_for_another():
    compiled = jax.jit(drawn, static_argnums=1)
    seen = []
    for number in (0, 1, 0):
        with part_of_batch(number, 2):
            seen.append(np.asarray(compiled(KEY, 4)))
    np.testing.assert_array_equal(seen[0], seen[2])
    np.testing.assert_array_equal(np.concatenate(seen[:2]), drawn(KEY, 8))


def test_a_part_that_is_not_spread_evenly_is_an_error():
    with part_of_batch(0, 2, 3), pytest.raises(ValueError, match="3 blocks, got 4 examples"):
        example_keys(KEY, 4)


@pytest.mark.parametrize("broadcast_dims", [(), (1, 2), (-1,)])
def test_dropout_does_not_depend_on_the_spread_over_devices(broadcast_dims):
    x = jnp.ones((8, 3, 5, 7))
    module = Dropout(0.4, broadcast_dims)

    def apply(x, key):
        return module.apply({}, x, train=True, rngs={"dropout": key})

    whole = jax.jit(apply)(x, KEY)
    spread = jax.pmap(apply, axis_name=DATA_AXIS, in_axes=(0, None))(x.reshape(4, 2, 3, 5, 7), KEY)
    np.testing.assert_array_equal(spread.reshape(x.shape), whole)
    # The examples differ: a shard that forgot its offset would repeat them.
    assert len({whole[i].tobytes() for i in range(8)}) == 8


def test_rate_and_expectation():
    x = jnp.full((64, 1001), 3.0)
    y = dropout(x, KEY, rate=0.3)
    share = float(jnp.mean(y == 0))
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_allclose(y[y != 0], 3.0 / (1 - round(0.3 * 2**16) / 2**16), rtol=1e-6)


def test_both_halves_of_a_random_word_are_independent():
    keep = dropout(jnp.ones((256, 128)), KEY, rate=0.5) != 0
    even, odd = keep[:, ::2].astype(jnp.float32), keep[:, 1::2].astype(jnp.float32)
    correlation = jnp.corrcoef(even.ravel(), odd.ravel())[0, 1]
    assert abs(float(correlation)) < 4 / np.sqrt(even.size)


def test_shared_axes_draw_once():
    y = np.asarray(dropout(jnp.ones((4, 6, 6, 32)), KEY, rate=0.5, broadcast_dims=(1, 2)))
    assert (y == y[:, :1, :1]).all()
    assert 0 < (y[:, 0, 0] == 0).mean() < 1


def test_edges_of_the_rate():
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(dropout(x, KEY, rate=0.0), x)
    np.testing.assert_array_equal(dropout(x, KEY, rate=1.0), 0 * x)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_impossible_rate(rate):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        dropout(jnp.ones((2, 3)), KEY, rate=rate)


@pytest.mark.parametrize("axes", [(0,), (2,), (-2,)])
def test_impossible_axes(axes):
    with pytest.raises(ValueError, match=r"axes 1\.\.1"):
        dropout(jnp.ones((2, 3)), KEY, rate=0.5, broadcast_dims=axes)


def test_low_precision_keeps_its_dtype():
    assert dropout(jnp.ones((2, 3), jnp.bfloat16), KEY, rate=0.5).dtype == jnp.bfloat16
