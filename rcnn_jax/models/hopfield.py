"""The Hopfield network: memories as the minima of an energy.

N units of value +1 or -1 with symmetric weights and no self-connection. Where units are updated
one at a time the energy never rises, so that the state comes to rest.

References:
    Hopfield, Neural networks and physical systems with emergent collective computational
    abilities, PNAS 1982 (there with values 0 and 1);
    Amit, Gutfreund & Sompolinsky, Storing infinite numbers of patterns in a spin-glass model of
    neural networks, Physical Review Letters 1985 (capacity 0.138 N).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from rcnn_jax.layers.randomness import example_keys

CAPACITY = 0.138
"""Patterns per unit up to which random patterns are recalled, for N to infinity; published."""


class Recall(NamedTuple):
    """What a recall did.

    Attributes:
        states: the last states `[batch, units]`.
        energies: the energy before the first and after each update, `[updates + 1, batch]`: an
            update is of one unit, or of all at once where they are synchronous.
        changed: number of units that changed in each sweep, `[sweeps, batch]`; zero says that
            the network has come to rest.
        order: the unit of each asynchronous update, `[updates, batch]`; None for synchronous ones.
    """

    states: Array
    energies: Array
    changed: Array
    order: Array | None


def store(
    patterns: Float[Array, "patterns units"], included: Float[Array, "patterns"] | None = None
) -> Float[Array, "units units"]:
    """Hebb's rule: `w(i, j) = 1/N sum over patterns of p(i) p(j)`, and `w(i, i) = 0`.

    Args:
        patterns: `[patterns, units]` of +1 and -1.
        included: 1 for a pattern to be stored and 0 for one to be left out; None: all.

    Returns:
        Symmetric weights `[units, units]`.
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
    """`-1/2 sum over i, j of w(i, j) s(i) s(j) + sum over i of threshold(i) s(i)`."""
    value = -0.5 * jnp.sum((states @ weights) * states, axis=1)
    return value if thresholds is None else value + states @ thresholds


def recall(
    weights: Float[Array, "units units"],
    states: Float[Array, "batch units"],
    key: Array | None = None,
    *,
    sweeps: int,
    synchronous: bool = False,
    thresholds: Float[Array, "units"] | None = None,
) -> Recall:
    """Lets the network run: a unit takes the sign of its field `sum_j w(i, j) s(j) - threshold(i)`.

    A unit whose field is zero keeps its value. A sweep updates every unit once: one at a time in
    an order drawn anew for each sweep and example, or all at once, where the energy may rise and
    two states may alternate for ever.

    Args:
        weights: symmetric, without a diagonal: see `store`.
        states: `[batch, units]` of +1 and -1.
        key: of the random orders; synchronous updates need none.
        sweeps: number of sweeps, at least 1.
        synchronous: update all units at once.
        thresholds: of the units; None: zero.

    Raises:
        ValueError: `sweeps` is not positive, or a key is missing.
    """
    if sweeps < 1:
        raise ValueError(f"a recall takes at least 1 sweep, got sweeps={sweeps}")
    shift = jnp.zeros(states.shape[1], states.dtype) if thresholds is None else thresholds
    if synchronous:
        return _recall_synchronous(weights, states, shift, sweeps)
    if key is None:
        raise ValueError("asynchronous recall needs a random key for the order of its updates")

    def one(state: Array, key: Array) -> Recall:
        return _recall_asynchronous(weights, state, shift, key, sweeps)

    # The batch is the first axis of the states, and the last of all others.
    axes = Recall._make((0, 1, 1, 1))
    return jax.vmap(one, out_axes=axes)(states, example_keys(key, states.shape[0]))


def _sign(field: Array, otherwise: Array) -> Array:
    return jnp.where(field == 0, otherwise, jnp.sign(field))


def _recall_synchronous(weights: Array, states: Array, thresholds: Array, sweeps: int) -> Recall:
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
    """The recall of one example `[units]`."""
    units = state.shape[0]

    def update(state: Array, unit: Int[Array, ""]) -> tuple[Array, tuple[Array, Array]]:
        field = jnp.dot(weights[unit], state) - thresholds[unit]
        new = _sign(field, state[unit])
        # What a change does to the energy of symmetric weights without a diagonal.
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
    """How well stored random patterns are recalled, by the number of patterns per unit.

    Each trial stores random patterns, starts at them with some units flipped, and lets the
    network run asynchronously. For many units the overlap falls from nearly 1 at a load of
    `CAPACITY`.

    Args:
        key: of patterns, flips and orders.
        units: number of units N.
        loads: patterns per unit; `round(load * units)` patterns are stored, at least 1.
        trials: networks for each load.
        sweeps: updates of each unit.
        flipped: share of the units that start with the wrong value, in [0, 1].
        starts: at how many of its patterns each network starts; None: at all of them.
        required: the overlap at which a pattern counts as recalled.

    Returns:
        By name, for each load: `load`, `patterns` (the number stored), and `[loads, trials]`, over
        the patterns that were started at: `overlap`, the mean of `1/N sum_i p(i) s(i)`;
        `recalled`, the share whose overlap is at least `required`; `exactly`, the share of which
        every unit is right.

    Raises:
        ValueError: a number is impossible.
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
    found = _trials(
        jax.random.split(key, len(grid)),
        grid,
        flipped,
        required,
        most=most,
        starts=min(starts or most, most),
        units=units,
        sweeps=sweeps,
    )
    of_trials = {name: values.reshape(len(loads), trials) for name, values in found.items()}
    return {"load": jnp.asarray(loads), "patterns": counts} | of_trials


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
    """What `capacity_curve` returns of one network for each key, `[trials]`."""

    def trial(inputs: tuple[Array, Array]) -> dict[str, Array]:
        # As many patterns are drawn for each load, so that one program serves all.
        key, count = inputs
        of_patterns, of_flips, of_recall = jax.random.split(key, 3)
        patterns = jax.random.rademacher(of_patterns, (most, units), jnp.float32)
        flips = jax.random.bernoulli(of_flips, flipped, (most, units))
        included = (jnp.arange(most) < count).astype(jnp.float32)
        start = jnp.where(flips, -patterns, patterns)[:starts]
        states = recall(store(patterns, included), start, of_recall, sweeps=sweeps).states
        # In units, for a sum of +1 and -1 is exact.
        agreement = jnp.sum(patterns[:starts] * states, axis=1)
        values = {
            "overlap": agreement / units,
            "recalled": agreement > required * units - 0.5,
            "exactly": agreement == units,
        }
        counted = included[:starts]
        return {name: (v * counted).sum() / counted.sum() for name, v in values.items()}

    return lax.map(trial, (keys, counts))
