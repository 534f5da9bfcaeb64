"""Depthwise convolution: both ways to write it, against loops, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers import depthwise as lib
from rcnn_jax.layers.depthwise import DepthwiseConv, depthwise

RNG = np.random.default_rng(0)


def slow(x, kernel, strides):
    """TensorFlow's rule: ceil(n / s) places, the odd zero behind."""
    rows, columns = kernel.shape[:2]
    sizes = [-(-n // s) for n, s in zip(x.shape[1:3], strides, strict=True)]
    y = np.zeros((len(x), *sizes, x.shape[-1]))
    before = [
        max((o - 1) * s + w - n, 0) // 2
        for o, s, w, n in zip(sizes, strides, (rows, columns), x.shape[1:3], strict=True)
    ]
    for i, j, a, b in np.ndindex(*sizes, rows, columns):
        r, c = i * strides[0] + a - before[0], j * strides[1] + b - before[1]
        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
            y[:, i, j] += x[:, r, c] * kernel[a, b, 0]
    return y


@pytest.mark.parametrize(
    ("window", "strides"), [((3, 3), (1, 1)), ((5, 3), (2, 1)), ((4, 5), (2, 2))]
)
def test_both_ways_are_the_definition_and_have_its_gradient(window, strides, x64):
    x, kernel = RNG.normal(size=(2, 7, 6, 3)), RNG.normal(size=(*window, 1, 3))
    weight = RNG.normal(size=slow(x, kernel, strides).shape)

    def both(x, kernel):
        loss = {
            name: lambda x, k, f=f: (f(x, k, strides) * weight).sum()
            for name, f in (
                ("grouped", lib._grouped),
                ("shifted", lib._shifted),
                ("one", depthwise),
            )
        }
        gradients = {name: jax.grad(f, (0, 1))(x, kernel) for name, f in loss.items()}
        return [f(x, kernel, strides) for f in (lib._grouped, lib._shifted, depthwise)], gradients

    outputs, gradients = jax.jit(both)(x, kernel)
    for y in outputs:
        np.testing.assert_allclose(y, slow(x, kernel, strides), rtol=1e-10, atol=1e-12)
    # The definition is linear in each: its derivative along a direction is itself there.
    for towards_x, towards_kernel in gradients.values():
        dx, dk = RNG.normal(size=x.shape), RNG.normal(size=kernel.shape)
        np.testing.assert_allclose(
            np.vdot(towards_x, dx), np.vdot(weight, slow(dx, kernel, strides))
        )
        np.testing.assert_allclose(
            np.vdot(towards_kernel, dk), np.vdot(weight, slow(x, dk, strides))
        )


def test_the_layer_rounds_once_where_it_computes_narrow():
    x = jnp.asarray(RNG.normal(size=(1, 6, 6, 4)), jnp.float32)
    layer = DepthwiseConv((5, 5), dtype="bfloat16")
    y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    assert (kernel.shape, kernel.dtype, y.dtype) == ((5, 5, 1, 4), jnp.float32, jnp.bfloat16)
    rounded = (np.asarray(v.astype(jnp.bfloat16), np.float64) for v in (x, kernel))
    exact = slow(*rounded, (1, 1))
    # One rounding to 8 bits; 25 of them would add up to more.
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2**-8, atol=1e-6)


def test_the_multiply_adds_are_those_of_a_window_a_channel():
    from rcnn_jax.summary.multiply_adds import multiply_adds

    call = functools.partial(depthwise, strides=(2, 2))
    program = jax.make_jaxpr(call)(jnp.zeros((1, 8, 8, 5)), jnp.zeros((3, 3, 1, 5)))
    assert multiply_adds(program.jaxpr) == 4 * 4 * 5 * 9
