"""EfficientNet-Lite: its totals, its structure against loops, left-out blocks, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from layers.test_depthwise import slow as slow_depthwise
from rcnn_jax.models.efficientnet_lite import EfficientNetLite, efficientnet_lite0

RNG = np.random.default_rng(0)
KEY = np.zeros(2, np.uint32)
TINY = {"stages": ((1, 3, 1, 1, 4), (2, 3, 2, 2, 4)), "stem": 4, "head": 6}


def drawn(model, x):
    """Variables of the right shapes, at random, without compiling what draws the initial ones."""
    shapes = jax.eval_shape(functools.partial(model.init, train=False), KEY, x)
    return jax.tree.map(lambda leaf: RNG.uniform(-1, 1, leaf.shape).astype(leaf.dtype), shapes)


def positive(variables):
    """The same with variances above 0."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.abs(leaf) + 0.2 if path[-1].key == "var" else leaf, variables
    )


def test_totals():
    def made(classes):
        call = functools.partial(efficientnet_lite0(classes).init_with_output, train=False)
        return jax.eval_shape(call, KEY, jnp.zeros((1, 224, 224, 3)))

    logits, whole = made(1000)
    described, cut = made(0)
    assert (logits.shape, described.shape) == ((1, 1000), (1, 1280))
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(tree))
        for tree in (whole["params"], cut["params"], whole["batch_stats"])
    ]
    # Scale and offset of each normalized map, and its mean and variance, are as many.
    assert counts == [4_652_008, 3_371_008, 42_016]


def test_the_net_is_its_definition(x64):
    net, cut = (EfficientNetLite(classes, **TINY, param_dtype="float64") for classes in (3, 0))
    x = RNG.normal(size=(2, 9, 8, 3))
    variables = positive(drawn(net, x))
    params, statistics = variables["params"], variables["batch_stats"]
    rectified = []

    def norm(name, x, relu):
        name = f"{name}_norm"
        y = oracles.batch_norm(x, **params[name], **statistics[name], epsilon=1e-3)
        rectified.append(y.max())
        return np.clip(y, 0, 6) if relu else y

    def conv(name, x, relu=True):
        return norm(name, oracles.conv(x, params[name]["kernel"]), relu)

    def each(name, x, stride):
        return norm(name, slow_depthwise(x, params[name]["kernel"], (stride, stride)), True)

    # At stride 2 TensorFlow pads an odd size before and behind, and an even one behind alone.
    padded = np.pad(x, [(0, 0), (1, 1), (0, 1), (0, 0)])
    kernel = params["stem"]["kernel"]
    stem = np.zeros((2, 5, 4, 4))
    for i, j in np.ndindex(5, 4):
        part = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        stem[:, i, j] = np.einsum("nabc,abcf->nf", part, kernel)
    y = norm("stem", stem, True)
    y = conv("block1_project", each("block1_depthwise", y, 1), relu=False) + y
    y = conv("block2_project", each("block2_depthwise", conv("block2_expand", y), 2), relu=False)
    inside = each("block3_depthwise", conv("block3_expand", y), 1)
    y = conv("block3_project", inside, relu=False) + y
    y = conv("last", y).mean((1, 2))
    assert max(rectified) > 6  # the bound was met
    logits = y @ params["head"]["kernel"] + params["head"]["bias"]
    whole, described = jax.jit(
        lambda v, x: (net.apply(v, x, train=False), cut.apply(v, x, train=False))
    )(variables, x)
    np.testing.assert_allclose(described, y, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole, logits, rtol=1e-9, atol=1e-12)


def test_blocks_are_left_out_by_example_and_their_input_stays(x64):
    """Shares rise in equal steps to that of the end: here 0 and 40 % for two blocks."""
    stages = ((2, 3, 1, 1, 4),)
    model = EfficientNetLite(
        0, stages, stem=4, head=4, dropout=0.0, drop_block=0.8, param_dtype="float64"
    )
    x = np.repeat(RNG.normal(size=(1, 6, 6, 3)), 64, axis=0)
    variables = drawn(model, x)

    @jax.jit
    def trained(variables, key, x):
        y, _ = model.apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
        return y

    rows = np.asarray(trained(variables, KEY, x))
    kinds, counts = np.unique(rows.round(9), axis=0, return_counts=True)
    assert len(kinds) == 2
    assert 10 < counts.min() < 40


def test_gradients_in_training_are_those_of_finite_differences(x64):
    """With statistics of the batch, dropout and left-out blocks; three directions."""
    stages = ((2, 3, 1, 2, 4),)
    model = EfficientNetLite(3, stages, stem=4, head=5, drop_block=0.6, param_dtype="float64")
    x, weight = jnp.asarray(RNG.normal(size=(4, 7, 6, 3))), RNG.normal(size=(4, 3))
    variables = drawn(model, x)

    @jax.jit
    @jax.value_and_grad
    def graded(params):
        held = {"params": params, "batch_stats": variables["batch_stats"]}
        y, _ = model.apply(held, x, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])
        return (y * weight).sum()

    params = variables["params"]
    _, gradient = graded(params)
    for _ in range(3):
        direction = jax.tree.map(lambda p: RNG.normal(size=p.shape), params)
        ahead, behind = (
            graded(jax.tree.map(lambda p, d, s=step: p + s * d, params, direction))[0]
            for step in (1e-7, -1e-7)
        )
        slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
        np.testing.assert_allclose((ahead - behind) / 2e-7, slope, rtol=1e-4)


def test_bfloat16_keeps_parameters_and_logits_wide():
    x = jnp.asarray(RNG.normal(size=(2, 8, 8, 3)), jnp.float32)
    exact, rounded = (EfficientNetLite(3, **TINY, dtype=dtype) for dtype in (None, "bfloat16"))
    variables = positive(drawn(rounded, x))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("f4")}
    y, z = jax.jit(lambda v, x: [m.apply(v, x, train=False) for m in (exact, rounded)])(
        variables, x
    )
    assert y.dtype == z.dtype == jnp.float32
    assert 0 < np.linalg.norm(y - z) / np.linalg.norm(y) < 0.1


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({"classes": -1}, (1, 8, 8, 3), "classes=-1"),
        ({"stages": ((1, 3, 1, 1),)}, (1, 8, 8, 3), r"stages=\(\(1, 3, 1, 1\),\)"),
        ({"stages": ((0, 3, 1, 1, 4),)}, (1, 8, 8, 3), "at least 1"),
        ({"head": 0}, (1, 8, 8, 3), "head=0"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = EfficientNetLite(**({"classes": 3} | TINY | attributes))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=False), KEY, jnp.zeros(shape))
