"""What any implementation of the RCNN paper must satisfy, and implementations to try it on.

Another implementation is checked by wrapping it in an `Implementation` and calling the functions
of `CHECKS` on it: each raises AssertionError, with its name as the verdict. All of it runs in
float64 (enable it before). `planted(bug)` is a correct implementation, written without this
package, into which one bug of those seen in public code can be planted.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from layers import oracles

K = 16
STEPS = 3


@dataclasses.dataclass(frozen=True)
class Implementation:
    """An implementation, seen through what the checks need.

    Attributes:
        load: (w_f `[3, 3, K, K]`, w_r `[3, 3, K, K]`, b `[K]`) -> trainable parameters of an RCL.
        states: (parameters, u `[batch, height, width, K]`, steps) -> what the layer says for
            t = 0..steps, `[steps + 1, batch, height, width, K]`.
        lrn: x `[..., features]` -> its normalization with the window for that many features.
        sides: side of a square image -> sides of the outputs of conv and RCL 1..4.
        relearned: u -> outputs (training, evaluation) of an RCL with batch norm, the latter with
            running statistics that were taken from this very batch.
    """

    load: Callable[..., Any]
    states: Callable[..., Any]
    lrn: Callable[..., Any]
    sides: Callable[[int], list[int]]
    relearned: Callable[..., Any]


def _case():
    rng = np.random.default_rng(1)
    u = 5 * rng.normal(size=(2, 6, 6, K))
    return (
        u,
        0.5 * rng.normal(size=(3, 3, K, K)),
        0.3 * rng.normal(size=(3, 3, K, K)),
        rng.normal(size=K),
    )


def _expected(u, w_f, w_r, b, steps):
    def activation(z, t):
        del t
        return oracles.lrn(oracles.relu(z + b), K // 8 + 1)

    return np.stack(oracles.rcl_states(u, w_f, w_r, activation, steps))


def check_weight_tying(candidate):
    """One recurrent kernel: 18 K^2 + K numbers, and a gradient that is the sum over the steps."""
    u, w_f, w_r, b = _case()
    params = candidate.load(w_f, w_r, b)
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(params)) == 18 * K**2 + K
    # Moving along the gradient by hand and through the layer changes the output alike.
    direction = np.random.default_rng(2).normal(size=w_r.shape)

    def total(w_r):
        return np.sum(_expected(u, w_f, w_r, b, STEPS)[-1])

    slope = oracles.finite_difference(total, w_r, direction, 1e-6)
    tangent = jax.tree.map(
        lambda plus, minus: jnp.asarray((plus - minus) / 2),
        candidate.load(w_f, w_r + direction, b),
        candidate.load(w_f, w_r - direction, b),
    )
    gradient = jax.grad(lambda p: jnp.sum(candidate.states(p, u, STEPS)[-1]))(params)
    along = sum(
        jnp.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (gradient, tangent)), strict=True)
    )
    np.testing.assert_allclose(along, slope, rtol=1e-5)


def check_first_step(candidate):
    """At t = 0 the recurrent kernel plays no part."""
    u, w_f, w_r, b = _case()
    one = candidate.states(candidate.load(w_f, w_r, b), u, STEPS)[0]
    other = candidate.states(candidate.load(w_f, 2 * w_r, b), u, STEPS)[0]
    np.testing.assert_array_equal(one, other)


def check_states(candidate):
    """All states are those of the equations: after rectification and normalization."""
    u, w_f, w_r, b = _case()
    states = candidate.states(candidate.load(w_f, w_r, b), u, STEPS)
    assert np.min(states) >= 0
    np.testing.assert_allclose(states, _expected(u, w_f, w_r, b, STEPS), rtol=1e-9)


def check_lrn_values(candidate):
    """Window, alpha over window size, and clipping at the ends, for the widths of the paper."""
    for features in (96, 128, 160, 192):
        x = 30 * np.random.default_rng(3).normal(size=(2, features))
        expected = oracles.lrn(x, features // 8 + 1)
        np.testing.assert_allclose(candidate.lrn(jnp.asarray(x)), expected, rtol=1e-9)


def check_lrn_gradient(candidate):
    """The denominator takes part in the gradient."""
    rng = np.random.default_rng(4)
    x, direction = 30 * rng.normal(size=(2, 4, 96))
    numeric = oracles.finite_difference(
        lambda x: np.sum(np.asarray(candidate.lrn(jnp.asarray(x)))), x, direction, 1e-4
    )
    gradient = jax.grad(lambda x: jnp.sum(candidate.lrn(x)))(jnp.asarray(x))
    np.testing.assert_allclose(np.sum(gradient * direction), numeric, rtol=1e-6)


def check_pool_positions(candidate):
    """Pools follow the convolution and RCL 2 only."""
    assert candidate.sides(32) == [32, 16, 16, 8, 8]
    assert candidate.sides(24) == [24, 12, 12, 6, 6]


def check_step_statistics(candidate):
    """With statistics per step, evaluation on the batch that gave them repeats training."""
    u, *_ = _case()
    training, evaluation = candidate.relearned(jnp.asarray(u))
    np.testing.assert_allclose(evaluation, training, rtol=1e-9, atol=1e-12)


def check_receptive_field(candidate):
    """Side (L_rec - 1) T + L_feed, here 2 T + 3, seen by the gradient of one output."""
    _, w_f, w_r, b = _case()
    params = candidate.load(abs(w_f), abs(w_r), b)  # positive: nothing is cut off
    u = jnp.ones((1, 21, 21, K))
    for steps in range(STEPS + 1):
        seen = jax.grad(lambda u, t=steps: jnp.sum(candidate.states(params, u, t)[-1][0, 10, 10]))(
            u
        )
        rows = np.flatnonzero(np.abs(seen[0]).sum((1, 2)))
        assert rows[-1] - rows[0] + 1 == 2 * steps + 3


CHECKS = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_weight_tying,
        check_first_step,
        check_states,
        check_lrn_values,
        check_lrn_gradient,
        check_pool_positions,
        check_step_statistics,
        check_receptive_field,
    )
}


BUGS = {
    "weights copied instead of tied": {"weight_tying"},
    "t = 0 uses the recurrent kernel": {"weight_tying", "first_step", "states", "receptive_field"},
    "alpha not divided by N": {"weight_tying", "states", "lrn_values"},
    "denominator detached from the gradient": {"weight_tying", "lrn_gradient"},
    "window off by one": {"weight_tying", "states", "lrn_values"},
    "pre-activation returned": {"weight_tying", "states"},
    "pooling after every RCL": {"pool_positions"},
    "batch norm shared between steps": {"step_statistics"},
}
"""Each bug, and the checks that catch it."""


def planted(bug):
    """A correct implementation (`bug` None), or one with a bug of `BUGS`."""
    assert bug is None or bug in BUGS

    def conv(x, kernel):
        return lax.conv_general_dilated(
            jnp.asarray(x), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def lrn(x):
        size = x.shape[-1] // 8 + (2 if bug == "window off by one" else 1)
        index = np.arange(x.shape[-1])
        offset = index[:, None] - index + size // 2
        band = jnp.asarray((offset >= 0) & (offset < size), x.dtype)
        alpha = 1e-3 if bug == "alpha not divided by N" else 1e-3 / size
        denominator = (1 + alpha * (x**2 @ band)) ** 0.75
        if bug == "denominator detached from the gradient":
            denominator = lax.stop_gradient(denominator)
        return x / denominator

    def load(w_f, w_r, b):
        copies = STEPS if bug == "weights copied instead of tied" else 1
        return {"w_f": w_f, "w_r": [np.array(w_r) for _ in range(copies)], "b": b}

    def states(params, u, steps):
        feedforward = conv(u, params["w_f"])
        bias = jnp.asarray(params["b"])[None, None, None]
        start = jax.nn.relu(feedforward)
        x, results = None, []
        for t in range(steps + 1):
            z = feedforward + bias
            if t > 0:
                z = z + conv(x, params["w_r"][(t - 1) % len(params["w_r"])])
            elif bug == "t = 0 uses the recurrent kernel":
                z = z + conv(start, params["w_r"][0])
            x = lrn(jax.nn.relu(z))
            results.append(z if bug == "pre-activation returned" else x)
        return jnp.stack(results)

    def sides(size):
        half, quarter = size // 2, size // 4
        if bug == "pooling after every RCL":
            return [size, half, quarter, quarter // 2, quarter // 4]
        return [size, half, half, quarter, quarter]

    def relearned(u):
        _, w_f, w_r, _ = _case()
        kept = {}

        def run(training):
            x, feedforward = None, conv(u, w_f)
            for t in range(STEPS + 1):
                z = feedforward if x is None else feedforward + conv(x, w_r)
                entry = 0 if bug == "batch norm shared between steps" else t
                if training:
                    kept[entry] = [of((0, 1, 2), keepdims=True) for of in (z.mean, z.var)]
                mean, variance = kept[entry]
                x = jax.nn.relu((z - mean) / jnp.sqrt(variance + 1e-5))
            return x

        return run(training=True), run(training=False)

    return Implementation(load, states, lrn, sides, relearned)
