"""How many random patterns a Hopfield network recalls, as a function of their number per unit.

Each network starts at one of its patterns and runs long enough to leave it. Up to about 0.138
patterns per unit most units keep their values; beyond that no stable state lies near the patterns
any more, and the transition is sharper for larger networks.

References:
    Hopfield, Neural networks and physical systems with emergent collective computational
    abilities, PNAS 1982;
    Amit, Gutfreund & Sompolinsky, Storing infinite numbers of patterns in a spin-glass model of
    neural networks, Physical Review Letters 1985 (capacity 0.138 N).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rcnn_jax.models.hopfield import CAPACITY, capacity_curve
from rcnn_jax.output.picture_style import COLOURS, MARKERS

RECALLED = 0.95
"""Smallest overlap between state and pattern at which the pattern counts as recalled: at most 2.5 %
of the units have the wrong value."""

LOADS = (0.04, 0.06, 0.08, 0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18, 0.2, 0.25, 0.3)


def measure(
    *,
    seed: int = 0,
    units: Sequence[int] = (100, 200, 500),
    loads: Sequence[float] = LOADS,
    networks: int = 20,
    starts: int = 20,
    sweeps: int = 10,
) -> dict[str, np.ndarray]:
    """Measures the share of patterns that are recalled by networks that start at them.

    Args:
        seed: Seed of patterns and update orders.
        units: Sizes N of the networks.
        loads: Patterns per unit; `round(load * N)` patterns are stored, at least 1.
        networks: Number of networks of each size and load.
        starts: Number of patterns at which each network starts; all if it stores fewer.
        sweeps: Number of asynchronous updates of each unit.

    Returns:
        `units` `[sizes]`; `patterns` `[sizes, loads]`, the number of stored patterns; and three
        measurements `[sizes, loads, networks]`: `recalled`, the share of a network's patterns whose
        final overlap `1/N sum_i p(i) s(i)` is at least `RECALLED`; `exactly`, the share of patterns
        in which every unit is right; and `overlap`, the mean final overlap.
    """
    keys = jax.random.split(jax.random.key(seed), len(units))
    curves = [
        capacity_curve(
            key, units=n, loads=loads, trials=networks, sweeps=sweeps, starts=starts,
            required=RECALLED,
        )
        for n, key in zip(units, keys, strict=True)
    ]  # fmt: skip
    names = ("patterns", "recalled", "exactly", "overlap")
    stacked = {name: np.stack([curve[name] for curve in curves]) for name in names}
    return {"units": np.array(units)} | stacked


def draw(axes: Any, measured: Mapping[str, np.ndarray]) -> None:
    """Draws recall over load for each size with the standard error, and the published capacity.

    Args:
        axes: Axes of a matplotlib figure.
        measured: Result of `measure`.
    """
    rows = zip(measured["units"], measured["patterns"], measured["recalled"], strict=True)
    for (units, patterns, recalled), colour, marker in zip(rows, COLOURS, MARKERS, strict=False):
        networks = recalled.shape[1]
        axes.errorbar(
            patterns / units,
            recalled.mean(axis=1),
            yerr=recalled.std(axis=1) / np.sqrt(networks),
            label=f"N = {units} units",
            color=colour,
            marker=marker,
            markersize=4,
            capsize=2,
        )
    axes.axvline(CAPACITY, color="black", linestyle="--", label=f"{CAPACITY} N, published")
    axes.set_xlim(left=0)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("stored patterns per unit, P / N")
    axes.set_ylabel(f"share of patterns recalled (overlap ≥ {RECALLED})")
    axes.set_title("Capacity of the Hopfield network")
    axes.legend()
