"""ResNets: totals by depth, structure against loops, shortcuts, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.models.resnet import (
    ResNet,
    parameterless_shortcut,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 5, 6, 2)), jnp.float32)
KEY = jax.random.key(0)
TINY = {"classes": 3, "depth": 8, "width": 4}


def made(model, x=X):
    return jax.jit(functools.partial(model.init, train=False))(KEY, x)


@pytest.mark.parametrize(
    ("preset", "depth", "weights", "total"),
    [
        (resnet20, 20, 268_346, 269_722),
        (resnet32, 32, 461_882, 464_154),
        (resnet44, 44, 655_418, 658_586),
        (resnet56, 56, 848_954, 853_018),
        (resnet110, 110, 1_719_866, 1_727_962),
    ],
)
def test_published_totals(preset, depth, weights, total):
    model = preset(classes=10)
    assert model == ResNet(classes=10, depth=depth)
    call = functools.partial(model.init_with_output, train=False)
    logits, variables = jax.eval_shape(call, KEY, jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 10)
    params = variables["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == total
    convolutions = [name for name in params if "conv" in name]
    assert len(convolutions) == depth - 1
    assert sum(params[n]["kernel"].size for n in convolutions) + 64 * 10 + 10 == weights


def test_sizes_of_the_stages():
    call = functools.partial(ResNet(10).init_with_output, train=False, capture_intermediates=True)
    _, variables = jax.eval_shape(call, KEY, jnp.zeros((2, 32, 32, 3)))
    seen = variables["intermediates"]
    shapes = [seen[f"stage{s}_block3_norm2"]["__call__"][0].shape for s in (1, 2, 3)]
    assert shapes == [(2, 32, 32, 16), (2, 16, 16, 32), (2, 8, 8, 64)]


def test_shortcut_subsamples_and_pads_with_zero_maps():
    x = jnp.arange(2 * 5 * 4 * 3, dtype=jnp.float32).reshape(2, 5, 4, 3)
    y = parameterless_shortcut(x, 7, 2)
    assert y.shape == (2, 3, 2, 7)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert not y[..., 3:].any()
    np.testing.assert_array_equal(parameterless_shortcut(x, 3, 1), x)
    with pytest.raises(ValueError, match="cannot reduce 3 maps to 2"):
        parameterless_shortcut(x, 2, 1)


@pytest.mark.parametrize("train", [False, True])
def test_the_net_is_its_definition(train, x64):
    model = ResNet(**TINY, param_dtype="float64")
    x = np.asarray(X, np.float64)
    variables = made(model, jnp.asarray(x))
    variables = jax.tree.map(lambda v: v + 0.3 * RNG.uniform(size=v.shape), variables)
    params, stats = (jax.tree.map(np.asarray, variables[n]) for n in ("params", "batch_stats"))

    def conv(name, y, stride=1):
        # At stride 2 every second pixel of the same convolution, from the first on.
        return oracles.conv(y, params[name]["kernel"])[:, ::stride, ::stride]

    def norm(name, y):
        moments = {} if train else {"mean": stats[name]["mean"], "var": stats[name]["var"]}
        return oracles.batch_norm(y, params[name]["scale"], params[name]["bias"], **moments)

    y = oracles.relu(norm("norm", conv("conv", x)))
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        name = f"stage{stage}_block1"
        inner = oracles.relu(norm(f"{name}_norm1", conv(f"{name}_conv1", y, stride)))
        inner = norm(f"{name}_norm2", conv(f"{name}_conv2", inner))
        inner[..., : y.shape[-1]] += y[:, ::stride, ::stride]
        y = oracles.relu(inner)
    expected = y.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]
    apply = jax.jit(functools.partial(model.apply, train=train, mutable=["batch_stats"]))
    logits, _ = apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({"classes": 0}, (1, 8, 8, 3), "classes=0"),
        ({"width": 0}, (1, 8, 8, 3), "width=0"),
        ({"depth": 18}, (1, 8, 8, 3), r"6n \+ 2 .* depth=18"),
        ({"depth": 2}, (1, 8, 8, 3), "depth=2"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = ResNet(**(TINY | attributes))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=True), KEY, jnp.zeros(shape))
