"""Muon for kernels of convolutions: which parameters it takes, and what an update is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.layers.rcl import RCL
from rcnn_jax.training.orthogonal import kernel_numbers, muon

RNG = np.random.default_rng(1)


def matrix(kernel):
    return np.asarray(kernel).reshape(-1, kernel.shape[-1])


def test_kernels_of_convolutions_are_matrices_and_all_else_is_not():
    layer = RCL(24, (3, 3), steps=2, norm="batch", tie_weights=False)
    variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((2, 6, 6, 16)))
    params = variables["params"] | {"conv": {"kernel": jax.ShapeDtypeStruct((5, 5, 3, 24), "f4")}}
    numbers = kernel_numbers(params)
    assert tuple(numbers["kernel"]) == ((0, 1, 2), 3)
    assert tuple(numbers["recurrent_kernel"]) == ((1, 2, 3), 4)
    assert numbers["conv"]["kernel"] is None
    assert numbers["norm"] == {"scale": None, "bias": None}


@pytest.mark.parametrize("steps", [None, 2])
def test_an_update_of_a_kernel_is_all_but_orthogonal(steps):
    shape = (3, 3, 16, 32) if steps is None else (steps, 3, 3, 16, 32)
    params = {"recurrent_kernel": jnp.zeros(shape), "bias": jnp.zeros(32)}
    gradient = jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=p.shape), p.dtype), params)
    optimiser = muon(0.5)
    updates, _ = optimiser.update(gradient, optimiser.init(params), params)
    kernels = updates["recurrent_kernel"] if steps else updates["recurrent_kernel"][None]
    for kernel in kernels:
        # Five steps bring all singular values close to one.
        singular = np.linalg.svd(matrix(kernel), compute_uv=False) / 0.5
        assert 0.6 < singular.min() < singular.max() < 1.3
    # The first update of Adam is the sign of the gradient, times its rate; Nesterov's form adds
    # 0.9 * 0.1 / (1 - 0.9**2) of it.
    size = 0.05 * (1 + 0.09 / 0.19)
    np.testing.assert_allclose(updates["bias"], -size * np.sign(gradient["bias"]), rtol=1e-3)


def test_a_rate_that_is_traced():
    params = {"kernel": jnp.ones((3, 3, 16, 16))}

    def update(rate):
        optimiser = muon(rate, weight_decay=0.1, consistent_rms=0.2)
        return optimiser.update(params, optimiser.init(params), params)[0]

    assert optax.tree.norm(jax.jit(update)(0.1)) > 0
