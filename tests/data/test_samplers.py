"""Orders of examples, as pure functions of (seed, step)."""

import hashlib

import numpy as np
import pytest

from rcnn_jax.data import samplers


@pytest.mark.parametrize(("size", "batch_size"), [(23, 5), (20, 5), (3, 8), (1, 4), (7, 7)])
def test_each_epoch_sees_each_example_once(size, batch_size):
    sampler = samplers.Shuffled(size, batch_size, seed=3)
    epochs = 4
    steps = -(-epochs * size // batch_size)
    order = np.concatenate([sampler.indices(step) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(order[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_a_batch_depends_on_seed_and_step_alone():
    sampler = samplers.Shuffled(100, 32, seed=5)
    forward = [sampler.indices(step) for step in range(20)]
    samplers.permutation.cache_clear()
    for step in (19, 3, 11, 0):
        np.testing.assert_array_equal(samplers.Shuffled(100, 32, 5).indices(step), forward[step])
    assert (samplers.Shuffled(100, 32, seed=6).indices(0) != forward[0]).any()
    assert forward[0].dtype == np.int64


def test_epochs_are_shuffled_differently_and_well():
    orders = np.stack([samplers.permutation(1000, 0, epoch) for epoch in range(50)])
    assert len({row.tobytes() for row in orders}) == 50
    # The mean of 50 ranks, each uniform on 0..999, has standard deviation 41.
    assert np.abs(orders.mean(axis=0) - 499.5).max() < 5 * 41


def test_the_order_is_frozen_for_good():
    """A job stopped under one NumPy goes on in the same order under another."""
    order = samplers.permutation(1000, seed=42, epoch=7)
    assert order[:8].tolist() == [473, 107, 420, 478, 647, 719, 769, 602]
    assert samplers.Shuffled(1000, 8, 42).indices(7 * 125).tolist() == order[:8].tolist()
    digest = hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()
    assert digest == "152b6daf8e27ad73cce0d136487fbed665c6f95293398bb9888d18457c23ba5a"


def test_nobody_can_change_a_cached_order():
    with pytest.raises(ValueError, match="read-only"):
        samplers.permutation(10, 0, 0)[0] = 3


def test_epochs_are_counted_as_fractions():
    sampler = samplers.Shuffled(50, 20, seed=0)
    assert (sampler.steps_per_epoch, sampler.epoch(0), sampler.epoch(5)) == (2.5, 0.0, 2.0)


def test_rows_tell_their_example_and_epoch():
    plain, own = samplers.Shuffled(10, 4, seed=3), samplers.ShuffledWithEpochs(10, 4, seed=3)
    assert samplers.columns(plain) == samplers.column_values(plain, 0) == {}
    seen = []
    for step in range(5):
        values = samplers.column_values(own, step)
        np.testing.assert_array_equal(values["index"], plain.indices(step))
        seen += zip(values["epoch"].tolist(), values["index"].tolist(), strict=True)
    assert [epoch for epoch, _ in seen] == [0] * 10 + [1] * 10
    assert set(seen) == {(epoch, index) for epoch in (0, 1) for index in range(10)}


def test_sequential_pads_the_last_batch():
    sampler = samplers.Sequential(10, 4)
    batches = [sampler.indices(step).tolist() for step in range(sampler.num_batches)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
    assert samplers.Sequential(8, 4).num_batches == 2
    with pytest.raises(ValueError, match="step must be 0 to 2, got 3"):
        sampler.indices(3)


@pytest.mark.parametrize(
    ("size", "batch_size", "seed", "says"),
    [
        (0, 4, 0, "at least one example, got size 0"),
        (4, 0, 0, "batch_size must be at least 1, got 0"),
        (4, 4, -1, "seed must be"),
        (4, 4, 2**64, "seed must be"),
    ],
)
def test_impossible_orders_are_refused(size, batch_size, seed, says):
    with pytest.raises(ValueError, match=says):
        samplers.Shuffled(size, batch_size, seed)


def test_both_orders_are_samplers():
    assert isinstance(samplers.Shuffled(4, 2, 0), samplers.Sampler)
    assert isinstance(samplers.Sequential(4, 2), samplers.Sampler)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        samplers.Shuffled(4, 2, 0).indices(-1)
