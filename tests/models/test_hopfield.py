"""The Hopfield network: storage, energy, recall, and where its capacity ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.hopfield import CAPACITY, capacity_curve, energy, recall, store

RNG = np.random.default_rng(0)
UNITS = 24
PATTERNS = RNG.choice([-1.0, 1.0], (3, UNITS))
STARTS = RNG.choice([-1.0, 1.0], (5, UNITS))
THRESHOLDS = 0.3 * RNG.normal(size=UNITS)


def energy_by_loops(weights, state, thresholds):
    pairs = sum(weights[i] @ state * state[i] for i in range(UNITS))
    return -0.5 * pairs + sum(thresholds * state)


def test_hebbian_storage_and_energy(x64):
    weights = np.asarray(store(jnp.asarray(PATTERNS)))
    expected = np.zeros((UNITS, UNITS))
    for pattern in PATTERNS:
        for i in range(UNITS):
            for j in range(UNITS):
                expected[i, j] += (i != j) * pattern[i] * pattern[j] / UNITS
    np.testing.assert_allclose(weights, expected, atol=1e-14)
    some = store(jnp.asarray(PATTERNS), jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(some, store(jnp.asarray(PATTERNS[::2])), atol=1e-14)
    for thresholds in (None, THRESHOLDS):
        values = energy(
            jnp.asarray(weights),
            jnp.asarray(STARTS),
            None if thresholds is None else jnp.asarray(thresholds),
        )
        shift = np.zeros(UNITS) if thresholds is None else thresholds
        for value, state in zip(values, STARTS, strict=True):
            np.testing.assert_allclose(value, energy_by_loops(weights, state, shift))


def test_no_update_of_a_unit_raises_the_energy(x64):
    """Each update repeated in NumPy, its energy from the definition."""
    weights = np.asarray(store(jnp.asarray(PATTERNS)))
    run = jax.jit(functools.partial(recall, sweeps=4))
    for thresholds in (np.zeros(UNITS), THRESHOLDS):
        found = run(weights, STARTS, jax.random.key(0), thresholds=thresholds)
        for n, start in enumerate(STARTS):
            state = start.copy()
            for update, unit in enumerate(np.asarray(found.order[:, n])):
                before = energy_by_loops(weights, state, thresholds)
                np.testing.assert_allclose(found.energies[update, n], before, atol=1e-10)
                field = weights[unit] @ state - thresholds[unit]
                state[unit] = np.sign(field) or state[unit]
                assert energy_by_loops(weights, state, thresholds) <= before + 1e-12
            np.testing.assert_array_equal(found.states[n], state)
        # The states that were reached are at rest, and at least one unit had to move.
        np.testing.assert_array_equal(found.changed[-1], 0)
        assert found.changed[0].all()
        assert found.energies.shape == (4 * UNITS + 1, 5)
        # A sweep updates every unit, in an order of its own for each example.
        orders = np.asarray(found.order).reshape(4, UNITS, len(STARTS))
        np.testing.assert_array_equal(np.sort(orders, axis=1)[1, :, 2], np.arange(UNITS))
        assert len({orders[s, :, n].tobytes() for s in range(4) for n in range(5)}) == 20
    # Units without a field keep their values.
    nothing = run(0 * weights, STARTS, jax.random.key(0), thresholds=0 * THRESHOLDS)
    np.testing.assert_array_equal(nothing.states, STARTS)


@pytest.mark.parametrize("synchronous", [False, True])
def test_stored_patterns_attract(synchronous):
    patterns = RNG.choice([-1.0, 1.0], (2, 60))
    damaged = patterns * np.where(np.arange(60) < 9, -1, 1)
    weights = store(jnp.asarray(patterns, jnp.float32))
    run = jax.jit(functools.partial(recall, sweeps=3, synchronous=synchronous))
    key = None if synchronous else jax.random.key(1)
    found = run(weights, jnp.asarray(damaged, jnp.float32), key)
    np.testing.assert_array_equal(found.states, patterns)
    np.testing.assert_allclose(found.energies[-1], energy(weights, found.states), rtol=1e-5)


def test_synchronous_updates_may_alternate_for_ever():
    """Two units that want to be equal, and are not: both turn, each time."""
    weights = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    start = jnp.array([[1.0, -1.0]])
    found = recall(weights, start, sweeps=3, synchronous=True)
    np.testing.assert_array_equal(found.states, -start)
    np.testing.assert_array_equal(found.changed[:, 0], [2, 2, 2])
    np.testing.assert_array_equal(found.energies[:, 0], [1, 1, 1, 1])


def test_recall_breaks_down_beyond_the_capacity():
    loads = (CAPACITY / 3, CAPACITY, 3 * CAPACITY)
    curve = capacity_curve(jax.random.key(0), units=80, loads=loads, trials=4, sweeps=6)
    np.testing.assert_array_equal(curve["patterns"], [4, 11, 33])
    overlap, recalled = curve["overlap"].mean(axis=1), curve["recalled"].mean(axis=1)
    assert curve["overlap"].shape == (3, 4)
    assert overlap[0] > 0.99
    assert recalled[0] > 0.9
    assert overlap[2] < 0.7
    assert recalled[2] < 0.1
    assert overlap[0] > overlap[1] > overlap[2]


def test_flipped_units_are_put_right_at_a_low_load():
    def curve(flipped):
        data = capacity_curve(
            jax.random.key(0), units=60, loads=(0.04,), trials=2, sweeps=3, flipped=flipped
        )
        return float(data["overlap"].mean())

    assert curve(0.1) == 1.0
    assert curve(1.0) == -1.0  # the negative of a pattern is as stable


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recall(jnp.zeros((2, 2)), jnp.ones((1, 2)), sweeps=1), "random key"),
        (lambda: recall(jnp.zeros((2, 2)), jnp.ones((1, 2)), sweeps=0), "sweeps=0"),
        (
            lambda: capacity_curve(jax.random.key(0), units=5, loads=(-1.0,), trials=1),
            r"loads=\(-1\.0,\)",
        ),
    ],
)
def test_impossible_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
