"""The Hopfield network: memories as the minima of an energy.

The network has N units of value +1 or -1 with symmetric weights and no self-connection. If units
are updated one at a time the energy never rises, so that the state converges to a fixed point.

References:
    Hopfield, Neural networks and physical systems with emergent collective computational abilities,
    PNAS 1982 (there with values 0 and 1);
    Amit, Gutfreund & Sompolinsky, Storing infinite numbers of patterns in a spin-glass model of
    neural networks, Physical Review Letters 1985 (capacity 0.138 N).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rcnn_jax.layers.randomness import example_keys

CAPACITY = 0.138
"""Largest number of random patterns per unit that is recalled, for N to infinity; published."""


class Recall(NamedTuple):
    """Result of running the network.

    Attributes:
        states: Last states `[batch, units]`.
        energies: Energies before the first and after each update, `[updates + 1, batch]`. An update
            changes one unit, or all units at once in synchronous mode.
        changed: Number of units that changed in each sweep, `[sweeps, batch]`; 0 indicates a fixed
            point.
        order: Unit of each asynchronous update, `[updates, batch]`; None in synchronous mode.
    """

    states: Array
    energies: Array
    changed: Array
    order: Array | None


def store(
    patterns: Float[Array, "patterns units"], included: Float[Array, "patterns"] | None = None
) -> Float[Array, "units units"]:
    """Computes weights by Hebb's rule: `w(i, j) = 1/N sum_p p(i) p(j)`, and `w(i, i) = 0`.

    Args:
        patterns: Patterns p of +1 and -1, `[patterns, units]`.
        included: Array `[patterns]` that is 1 for a pattern to be stored and 0 for one to be left
            out. None stores all patterns.

    Returns:
        Symmetric weights `[units, units]`.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.models.hopfield import recall, store
        >>> pattern = jnp.array([[1.0, -1.0, 1.0, -1.0]])
        >>> start = jnp.array([[-1.0, -1.0, 1.0, -1.0]])
        >>> recall(store(pattern), start, sweeps=1, synchronous=True).states.tolist()
        [[1.0, -1.0, 1.0, -1.0]]
    """
    weighted = patterns if included is None else patterns * included[:, None]
    units = patterns.shape[1]
    weights = weighted.T @ patterns / units
    return weights * (1 - jnp.eye(units, dtype=patterns.dtype))


def energy(
    weights: Float[Array, "units units"],
    states: Float[Array, "batch units"],
    thresholds: Float[Array, "units"] | None = None,
) -> Float[Array, "batch"]:
    """Computes the energy `-1/2 sum_ij w(i, j) s(i) s(j) + sum_i threshold(i) s(i)`.

    Args:
        weights: Symmetric weights w without a diagonal, `[units, units]`.
        states: States s of +1 and -1, `[batch, units]`.
        thresholds: Threshold of each unit, `[units]`. None means zero.

    Returns:
        Energy of each state, `[batch]`.
    """
    value = -0.5 * jnp.sum((states @ weights) * states, axis=1)
    return value if thresholds is None else value + states @ thresholds


def recall(
    weights: Float[ArrayLike, "units units"],
    states: Float[ArrayLike, "batch units"],
    key: Array | None = None,
    *,
    sweeps: int,
    synchronous: bool = False,
    thresholds: Float[ArrayLike, "units"] | None = None,
) -> Recall:
    """Runs the network: a unit takes the sign of its field `sum_j w(i, j) s(j) - threshold(i)`.

    A unit whose field is zero keeps its value. A sweep updates every unit once: one at a time in a
    random order that is drawn for each sweep and example, or all at once. In synchronous mode the
    energy may rise and two states may alternate forever.

    Args:
        weights: Symmetric weights without a diagonal, `[units, units]`, as `store` returns them.
        states: Initial states of +1 and -1, `[batch, units]`.
        key: Random key of the update orders. None is allowed in synchronous mode.
        sweeps: Number of sweeps, at least 1.
        synchronous: Whether all units are updated at once.
        thresholds: Threshold of each unit, `[units]`. None means zero.

    Returns:
        Last states, energies, numbers of changes and the update order.

    Raises:
        ValueError: If `sweeps` is not positive, or an asynchronous recall has no key.
    """
    if sweeps < 1:
        raise ValueError(f"a recall takes at least 1 sweep, got sweeps={sweeps}")
    weights, states = jnp.asarray(weights), jnp.asarray(states)
    shift = jnp.zeros(states.shape[1], states.dtype) if thresholds is None else thresholds
    shift = jnp.asarray(shift)
    if synchronous:
        return _recall_synchronous(weights, states, shift, sweeps)
    if key is None:
        raise ValueError("asynchronous recall needs a random key for the order of its updates")

    def one(state: Array, key: Array) -> Recall:
        return _recall_asynchronous(weights, state, shift, key, sweeps)

    # The batch is the first axis of the states, and the last axis of the other fields.
    axes = Recall._make((0, 1, 1, 1))
    return jax.vmap(one, out_axes=axes)(states, example_keys(key, states.shape[0]))


def _sign(field: Array, otherwise: Array) -> Array:
    """Returns the sign of the field, or `otherwise` where the field is zero."""
    return jnp.where(field == 0, otherwise, jnp.sign(field))


def _recall_synchronous(weights: Array, states: Array, thresholds: Array, sweeps: int) -> Recall:
    """Runs the network with updates of all units at once."""

    def sweep(states: Array, _: None) -> tuple[Array, Any]:
        after = _sign(states @ weights - thresholds[None], states)
        changed = jnp.sum(after != states, axis=1)
        return after, (energy(weights, after, thresholds), changed)

    first = energy(weights, states, thresholds)
    states, (energies, changed) = lax.scan(sweep, states, None, length=sweeps)
    return Recall(states, jnp.concatenate([first[None], energies]), changed, None)


def _recall_asynchronous(
    weights: Array, state: Array, thresholds: Array, key: Array, sweeps: int
) -> Recall:
    """Runs the network from one state `[units]` with updates of one unit at a time."""
    units = state.shape[0]

    def update(state: Array, unit: Int[Array, ""]) -> tuple[Array, tuple[Array, Array]]:
        field = jnp.dot(weights[unit], state) - thresholds[unit]
        new = _sign(field, state[unit])
        # The decrease of the energy, for symmetric weights without a diagonal.
        fall = (new - state[unit]) * field
        return state.at[unit].set(new), (fall, new != state[unit])

    def sweep(state: Array, order: Array) -> tuple[Array, tuple[Array, Array]]:
        state, (falls, changed) = lax.scan(update, state, order)
        return state, (falls, jnp.sum(changed))

    first = energy(weights, state[None], thresholds)
    keys = jax.random.split(key, sweeps)
    order = jax.vmap(lambda one: jax.random.permutation(one, units))(keys)
    state, (falls, changed) = lax.scan(sweep, state, order)
    energies = jnp.concatenate([first, first - jnp.cumsum(falls.reshape(-1))])
    return Recall(state, energies, changed, order.reshape(-1))


def capacity_curve(
    key: Array,
    *,
    units: int,
    loads: Sequence[float],
    trials: int,
    sweeps: int = 10,
    flipped: float = 0.0,
    starts: int | None = None,
    required: float = 1.0,
) -> dict[str, Array]:
    """Measures the recall of stored random patterns as a function of the patterns per unit.

    Each trial stores random patterns, starts at them with some units flipped, and runs the network
    asynchronously. For many units the overlap falls from nearly 1 at a load of `CAPACITY`.

    Args:
        key: Random key of patterns, flips and update orders.
        units: Number of units N.
        loads: Numbers of patterns per unit; `round(load * units)` patterns are stored, at least 1.
        trials: Number of networks for each load.
        sweeps: Number of updates of each unit.
        flipped: Probability that a unit starts with the wrong value, in [0, 1].
        starts: Number of stored patterns at which each network starts. None starts at all of them.
        required: Overlap in (0, 1] from which a pattern counts as recalled.

    Returns:
        A dict of arrays. `load` and `patterns` (the number stored) are `[loads]`. The others are
        `[loads, trials]` and refer to the patterns at which the network started: `overlap`, the
        mean of `1/N sum_i p(i) s(i)`; `recalled`, the fraction whose overlap is at least
        `required`; `exactly`, the fraction with every unit correct.

    Raises:
        ValueError: If a number is out of range.
    """
    impossible = units < 1 or trials < 1 or not len(loads) or min(loads) <= 0
    if impossible or not 0 <= flipped <= 1 or not 0 < required <= 1 or (starts or 1) < 1:
        raise ValueError(
            "a capacity curve needs at least 1 unit, trial and start, positive loads, a flipped "
            f"share in [0, 1] and a required overlap in (0, 1], got units={units}, "
            f"trials={trials}, starts={starts}, loads={tuple(loads)}, flipped={flipped}, "
            f"required={required}"
        )
    counts = jnp.asarray([max(1, round(load * units)) for load in loads])
    grid = jnp.repeat(counts, trials)
    most = int(counts.max())
    results = _trials(
        jax.random.split(key, len(grid)),
        grid,
        flipped,
        required,
        most=most,
        starts=min(starts or most, most),
        units=units,
        sweeps=sweeps,
    )
    curves = {name: values.reshape(len(loads), trials) for name, values in results.items()}
    return {"load": jnp.asarray(loads), "patterns": counts} | curves


@functools.partial(jax.jit, static_argnames=("most", "starts", "units", "sweeps"))
def _trials(
    keys: Array,
    counts: Array,
    flipped: float | Array,
    required: float | Array,
    *,
    most: int,
    starts: int,
    units: int,
    sweeps: int,
) -> dict[str, Array]:
    """Computes the measures of `capacity_curve` of one network for each key, `[trials]`."""

    def trial(inputs: tuple[Array, Array]) -> dict[str, Array]:
        # The same number of patterns is drawn for every load, so that one program serves all.
        key, count = inputs
        pattern_key, flip_key, recall_key = jax.random.split(key, 3)
        patterns = jax.random.rademacher(pattern_key, (most, units), jnp.float32)
        flips = jax.random.bernoulli(flip_key, flipped, (most, units))
        included = (jnp.arange(most) < count).astype(jnp.float32)
        start = jnp.where(flips, -patterns, patterns)[:starts]
        states = recall(store(patterns, included), start, recall_key, sweeps=sweeps).states
        # Counted in units, since a sum of +1 and -1 is exact.
        agreement = jnp.sum(patterns[:starts] * states, axis=1)
        values = {
            "overlap": agreement / units,
            "recalled": agreement > required * units - 0.5,
            "exactly": agreement == units,
        }
        counted = included[:starts]
        return {name: (v * counted).sum() / counted.sum() for name, v in values.items()}

    return lax.map(trial, (keys, counts))
