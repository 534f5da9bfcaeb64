"""Fractional max-pooling nets: totals, fields, draws and their average."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.fractional_pooling import draw_regions, fractional_max_pool
from rcnn_jax.models.fractional_max_pooling import (
    FractionalMaxPoolingNet,
    field_sizes,
    fmp_cifar10,
    fmp_mnist,
)

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 6, 5, 2)), jnp.float32)
KEY = jax.random.key(0)
TINY = {"classes": 3, "features": 6, "layers": 2, "ratio": 1.5}  # fields 7, 4, 2
KINDS = [(g, o) for g in ("pseudorandom", "random") for o in (True, False)]


def made(model, x=X):
    return jax.jit(functools.partial(model.init, train=False))(KEY, x)


def test_published_total_and_maps():
    model = fmp_cifar10(classes=10)
    call = functools.partial(model.init_with_output, train=False, capture_intermediates=True)
    logits, variables = jax.eval_shape(call, KEY, jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 10)
    params = variables["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 79_247_530
    assert sum(layer["kernel"].size for layer in params.values()) == 79_230_720
    shapes = [variables["intermediates"][f"conv{n}"]["__call__"][0].shape for n in range(1, 15)]
    assert [shape[-1] for shape in shapes] == [160 * n for n in range(1, 15)]
    fields = [94, 74, 58, 45, 35, 27, 21, 16, 12, 9, 6, 4, 2]
    assert field_sizes(12, 2 ** (1 / 3)) == fields
    assert [shape[1] for shape in shapes] == [n - 1 for n in fields] + [1]


def test_presets():
    assert fmp_cifar10(classes=10) == FractionalMaxPoolingNet(classes=10)
    small = fmp_mnist(classes=10, generator="random")
    assert (small.features, small.layers, small.dropout, small.generator) == (32, 6, 0.0, "random")
    assert field_sizes(small.layers, small.ratio) == [36, 25, 17, 11, 7, 4, 2]


@pytest.mark.parametrize(("layers", "ratio"), [(1, 1.01), (12, 1.9), (0, 1.5), (3, 2**0.5)])
def test_every_field_can_be_pooled_by_every_generator(layers, ratio):
    sizes = field_sizes(layers, ratio)
    assert len(sizes) == layers + 1
    assert sizes[-1] == 2
    for generator, overlapping in KINDS:
        for size, pooled in itertools.pairwise(sizes):
            draw = functools.partial(draw_regions, generator=generator, overlapping=overlapping)
            draw = functools.partial(draw, size=size - 1, pooled=pooled)
            assert jax.eval_shape(draw, KEY).shape[0] == pooled


def test_dropout_rises_in_equal_steps():
    model = FractionalMaxPoolingNet(**TINY, dropout=0.6)
    call = functools.partial(model.init_with_output, train=True, capture_intermediates=True)
    _, variables = jax.jit(call)({"params": KEY, "dropout": KEY}, jnp.ones((400, 6, 5, 2)))
    seen = variables["intermediates"]
    for number, rate in ((1, 0.0), (2, 0.2), (3, 0.4), (4, 0.6)):
        maps = np.asarray(seen[f"dropout{number}"]["__call__"][0])
        dropped = (maps == 0).all((1, 2))
        if number == 1:  # the image, amid zeros
            assert not dropped.any()
            continue
        # Whole maps of an example, each with its own draw.
        assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / dropped.size)


def test_the_image_stands_in_the_middle_of_zeros():
    model = FractionalMaxPoolingNet(**TINY)
    call = functools.partial(model.init_with_output, train=False, capture_intermediates=True)
    _, variables = jax.jit(call)(KEY, X)
    field = np.asarray(variables["intermediates"]["dropout1"]["__call__"][0])
    assert field.shape == (8, 7, 7, 2)
    np.testing.assert_array_equal(field[:, 0:6, 1:6], X)
    assert np.count_nonzero(field) == X.size


def by_hand(params, draw):
    """The probabilities of one evaluation, from the layers' definitions."""
    key = jax.random.fold_in(jax.random.key(0), draw)
    y = np.pad(np.asarray(X), ((0, 0), (0, 1), (1, 1), (0, 0)))
    for number, pooled in ((1, 4), (2, 2), (3, None), (4, None)):
        kernel, bias = (np.asarray(params[f"conv{number}"][n]) for n in ("kernel", "bias"))
        side = kernel.shape[0]
        rows, columns = y.shape[1] - side + 1, y.shape[2] - side + 1
        y = bias + sum(
            y[:, a : a + rows, b : b + columns] @ kernel[a, b]
            for a in range(side)
            for b in range(side)
        )
        y = np.where(y > 0, y, 0.333 * y)
        if pooled:
            own = jax.random.fold_in(key, number)
            y = np.asarray(fractional_max_pool(jnp.asarray(y), (pooled, pooled), own))
    assert y.shape == (8, 1, 1, 24)
    return jax.nn.softmax(y[:, 0, 0] @ np.asarray(params["head"]["kernel"]))


def test_an_evaluation_is_the_mean_of_its_draws_by_hand():
    model = FractionalMaxPoolingNet(**TINY)
    variables = made(model)
    single = np.stack([by_hand(variables["params"], draw) for draw in range(3)])
    assert np.abs(single[0] - single[1]).max() > 1e-3
    apply = jax.jit(model.apply, static_argnames=("train", "tests"))
    one = apply(variables, X, train=False)
    np.testing.assert_allclose(jax.nn.softmax(one), single[0], rtol=1e-4)
    averaged = apply(variables, X, train=False, tests=3)
    np.testing.assert_allclose(jnp.exp(averaged), single.mean(0), rtol=1e-4)
    attribute = jax.eval_shape(functools.partial(model.clone(tests=3).apply, train=False),
                               variables, X)  # fmt: skip
    assert attribute.shape == averaged.shape


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({"classes": 0}, (1, 7, 7, 3), "classes=0"),
        ({"features": 0}, (1, 7, 7, 3), "features=0"),
        ({"ratio": 2.0}, (1, 8, 8, 3), "ratio=2.0"),
        ({"layers": -1}, (1, 8, 8, 3), "layers=-1"),
        ({"generator": "any"}, (1, 7, 7, 3), 'got "any"'),
        ({}, (1, 7, 8, 3), "7x8 pixels do not fit the 7x7 field"),
        ({"tests": 0}, (1, 7, 7, 3), "tests=0"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = FractionalMaxPoolingNet(**(TINY | attributes))
    keys = {"params": KEY, "dropout": KEY}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=True), keys, jnp.zeros(shape))
