"""Iteration over time: loops, chunks and recomputation give the same, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.rcl import rcl
from rcnn_jax.layers.time_scan import scan_steps

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 9])
@pytest.mark.parametrize("all_states", [False, True])
def test_chunks_are_the_plain_loop(steps, all_states, x64):
    first = jnp.asarray(RNG.normal(size=3))
    inputs = {"a": jnp.asarray(RNG.normal(size=(steps, 3))), "b": jnp.arange(steps)}

    def step(state, x, in_loop):
        assert in_loop
        state = jnp.tanh(state * x["a"] + 0.1 * x["b"])
        return state, {"sum": state.sum()}

    def run(first, inputs, remat):
        states, reports = scan_steps(
            step, first, inputs, steps=steps, unroll=False, remat=remat, all_states=all_states
        )
        return jnp.sum(states**2) + jnp.sum(reports["sum"] ** 3), (states, reports)

    def everything(remat):
        value = jax.value_and_grad(run, allow_int=True, argnums=(0, 1), has_aux=True)
        (total, out), (d_first, d_inputs) = jax.jit(functools.partial(value, remat=remat))(
            first, inputs
        )
        return total, out, d_first, d_inputs["a"]

    expected = everything(False)
    assert expected[1][1]["sum"].shape == (steps,)
    for remat in (True, "chunks"):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-12), everything(remat), expected
        )


@pytest.mark.parametrize(("steps", "loops"), [(1, 0), (2, 0), (8, 0), (9, 1)])
def test_few_steps_leave_no_loop(steps, loops):
    """Inside a loop a kernel's gradient is slow; a loop of one step is one, too."""
    kernel, u = jnp.zeros((3, 3, 2, 2)), jnp.zeros((1, 4, 4, 2))
    gradient = jax.grad(lambda kernel: rcl(u, kernel, steps=steps)[0].sum())
    lowered = jax.jit(gradient).lower(kernel).as_text()
    assert min(lowered.count("stablehlo.while"), 1) == loops


def test_recomputation_saves_memory():
    """Temporary memory of the gradient, as the compiler states it, at T = 36."""
    kernel = jnp.zeros((3, 3, 8, 8))
    u = jnp.zeros((2, 16, 16, 8))

    def activation(z, entries):
        del entries
        # Several intermediate values a step, as a normalisation has.
        return jnp.tanh(jnp.sin(z) * jnp.exp(-z * z)), None

    def temporary(remat):
        def loss(kernel):
            return rcl(u, kernel, activation, steps=36, unroll=False, remat=remat)[0].sum()

        compiled = jax.jit(jax.grad(loss)).lower(kernel).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept, states, chunks = (temporary(remat) for remat in (False, True, "chunks"))
    assert states < 0.5 * kept
    # 6 chunks of 6 steps: about 12 states and what one step needs, instead of 36 states.
    assert chunks < 0.6 * states


def test_impossible_recomputation():
    run = functools.partial(
        scan_steps, lambda s, x, in_loop: (s, None), jnp.zeros(2), None, steps=2, all_states=False
    )
    with pytest.raises(ValueError, match="got 'steps'"):
        run(unroll=None, remat="steps")
    with pytest.raises(ValueError, match="cannot be unrolled"):
        run(unroll=True, remat="chunks")
