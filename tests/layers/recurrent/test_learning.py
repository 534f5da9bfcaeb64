"""Backpropagation through time against algorithms that compute the same without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers.recurrent.oracles import CELLS, FEATURES, random_carry, random_weights, run
from rcnn_jax.layers.recurrent.layer import run_cell
from rcnn_jax.layers.recurrent.learning import gradient_through_time, rtrl, truncated_bptt

RNG = np.random.default_rng(0)
BATCH, TIME = 2, 4
X = RNG.normal(size=(BATCH, TIME, FEATURES))


def squared(output, target):
    return jnp.sum((output - target) ** 2)


def problem(name):
    cell = CELLS[name]
    targets = RNG.normal(size=(BATCH, TIME, cell.output_features))
    arguments = (random_weights(cell), random_carry(cell, BATCH), X, targets)
    return cell, jax.tree.map(jnp.asarray, arguments)


def assert_same(actual, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), actual, expected)


@pytest.mark.parametrize("name", ["elman", "mesnil", "lstm", "gru_reset_before"])
def test_real_time_recurrent_learning_is_backpropagation_through_time(name, x64):
    cell, arguments = problem(name)

    @jax.jit
    def both(weights, carry, x, targets):
        losses, forward = rtrl(cell, weights, carry, x, targets, squared)

        def loss(weights):
            return squared(run_cell(cell, weights, x, carry)[0], targets)

        value, backward = jax.value_and_grad(loss)(weights)
        return (losses.sum(), jax.tree.map(lambda g: g.sum(axis=0), forward)), (value, backward)

    assert_same(*both(*arguments), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, TIME])
def test_truncated_backpropagation_unfolds_that_many_steps(steps, x64):
    """Against differences: weights moved for the last steps only, states before them kept."""
    cell, arguments = problem("elman")
    algorithm = jax.jit(functools.partial(truncated_bptt, cell, loss=squared, steps=steps))
    losses, gradients = algorithm(*arguments)
    weights, carry, x, targets = jax.tree.map(np.asarray, arguments)
    direction = {name: RNG.normal(size=value.shape) for name, value in weights.items()}
    for now in range(TIME):
        first = max(0, now - steps + 1)
        _, start = run(cell, weights, x[:, :first], carry)

        def loss(size, first=first, now=now, start=start):
            moved = {name: weights[name] + size * direction[name] for name in weights}
            outputs, _ = run(cell, moved, x[:, first : now + 1], start)
            return ((outputs[:, -1] - targets[:, now]) ** 2).sum()

        slope = sum((gradients[name][now] * direction[name]).sum() for name in weights)
        np.testing.assert_allclose(losses[now], loss(0), rtol=1e-10)
        np.testing.assert_allclose(slope, (loss(1e-6) - loss(-1e-6)) / 2e-6, rtol=1e-6)
    if steps == TIME:
        _, exact = jax.jit(functools.partial(rtrl, cell, loss=squared))(*arguments)
        assert_same(gradients, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru"])
def test_gradient_through_time(name, x64):
    """Norms of what the carry of each moment gets of the last loss, by restarting there."""
    cell, (weights, carry, x, _) = problem(name)

    @jax.jit
    def both(weights, carry, x):
        expected, start = [], carry
        for t in range(TIME):

            def loss(start, t=t):
                return jnp.sum(run_cell(cell, weights, x[:, t:], start)[0][:, -1] ** 2)

            gradient = jax.grad(loss)(start)
            expected.append({k: jnp.sqrt((g**2).sum(axis=1)) for k, g in gradient.items()})
            _, start = run_cell(cell, weights, x[:, t : t + 1], start)
        norms = gradient_through_time(cell, weights, carry, x, lambda y: jnp.sum(y**2))
        return norms, jax.tree.map(lambda *steps: jnp.stack(steps), *expected)

    norms, expected = both(weights, carry, x)
    assert_same(norms, expected, rtol=1e-10)
    assert {value.shape for value in norms.values()} == {(TIME, BATCH)}


def test_a_linear_network_shows_its_eigenvalue(x64):
    """h(t) = 0.5 h(t-1): the gradient halves at each step back."""
    cell = CELLS["elman"].__class__(1, activation="identity")
    weights = {"kernel": jnp.ones((1, 1)), "recurrent_kernel": jnp.full((1, 1), 0.5)}
    norms = gradient_through_time(
        cell,
        weights | {"bias": jnp.zeros(1)},
        {"hidden": jnp.zeros((1, 1))},
        jnp.ones((1, 5, 1)),
        jnp.sum,
    )
    np.testing.assert_allclose(norms["hidden"][:, 0], 0.5 ** np.arange(5, 0, -1))


def test_no_steps_cannot_be_unfolded():
    cell, arguments = problem("elman")
    with pytest.raises(ValueError, match="steps=0"):
        truncated_bptt(cell, *arguments, squared, steps=0)
