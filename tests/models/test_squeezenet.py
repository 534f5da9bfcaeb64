"""SqueezeNet: its totals, its structure against loops, and what is impossible."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.models import squeezenet
from rcnn_jax.models.squeezenet import SqueezeNet

RNG = np.random.default_rng(0)
KEY = np.zeros(2, np.uint32)


@pytest.mark.parametrize(
    ("make", "whole", "cut", "sides"),
    [
        (squeezenet.squeezenet, 1_248_424, 735_424, {"conv1": 111, "fire4": 55, "fire9": 13}),
        (squeezenet.squeezenet_1_1, 1_235_496, 722_496, {"conv1": 113, "fire4": 28, "fire9": 14}),
    ],
)
def test_totals_and_sizes(make, whole, cut, sides):
    def made(classes):
        call = functools.partial(
            make(classes=classes).init_with_output, train=False, capture_intermediates=True
        )
        y, variables = jax.eval_shape(call, KEY, jnp.zeros((1, 227, 227, 3)))
        assert y.shape == (1, classes or 512)
        return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), variables

    total, variables = made(1000)
    assert (total, made(0)[0]) == (whole, cut)
    seen = variables["intermediates"]
    for name, side in sides.items():
        layer = name if name == "conv1" else f"{name}_squeeze"
        assert seen[layer]["__call__"][0].shape[1:3] == (side, side)


def strided(x, kernel, stride, padding):
    """Cross-correlation at every `stride`-th place."""
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    side = kernel.shape[0]
    sizes = [(n - side) // stride + 1 for n in x.shape[1:3]]
    y = np.zeros((len(x), *sizes, kernel.shape[-1]))
    for i, j in np.ndindex(*sizes):
        part = x[:, i * stride : i * stride + side, j * stride : j * stride + side]
        y[:, i, j] = np.einsum("nabc,abcf->nf", part, kernel)
    return y


@pytest.mark.parametrize("head_padding", [0, 1])
def test_the_net_is_its_definition(head_padding, x64):
    shape = {"squeezes": (2, 3), "pools_behind": (1, 2), "stem_features": 5, "stem_window": 5}
    net, cut = (
        SqueezeNet(
            classes, **shape, stem_padding=1, head_padding=head_padding, param_dtype="float64"
        )
        for classes in (4, 0)
    )
    x = RNG.normal(size=(2, 19, 16, 3))
    shapes = jax.eval_shape(functools.partial(net.init, train=False), KEY, x)["params"]
    params = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape) / 3, shapes)

    def layer(name, x, stride=1, padding=0):
        y = strided(x, params[name]["kernel"], stride, padding) + params[name]["bias"]
        return oracles.relu(y)

    def pool(x):
        pads = [(0, (n - 3) % 2) for n in x.shape[1:3]]
        return oracles.max_pool(x, (3, 3), (2, 2), pads)[0]

    y = pool(layer("conv1", x, 2, 1))
    for number in (2, 3):
        narrow = layer(f"fire{number}_squeeze", y)
        wide = [layer(f"fire{number}_expand{s}x{s}", narrow, 1, s // 2) for s in (1, 3)]
        y = np.concatenate(wide, -1)
        y = pool(y) if number == 2 else y
    whole, described = jax.jit(
        lambda v, x: (net.apply(v, x, train=False), cut.apply(v, x, train=False))
    )({"params": params}, x)
    np.testing.assert_allclose(described, y.mean((1, 2)), rtol=1e-9, atol=1e-12)
    logits = layer("conv10", y, 1, head_padding).mean((1, 2))
    np.testing.assert_allclose(whole, logits, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({}, (1, 6, 9, 3), "window of SqueezeNet is 7 wide.*6x9 pixels with stem_padding=0"),
        ({"classes": -1}, (1, 8, 8, 3), "classes=-1"),
        ({"squeezes": ()}, (1, 8, 8, 3), r"squeezes=\(\)"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = SqueezeNet(**({"classes": 3} | attributes))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=False), KEY, jnp.zeros(shape))
