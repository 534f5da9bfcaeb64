"""Maxout: values and gradients against NumPy, draws that belong to examples, norm constraint."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers.oracles import finite_difference
from rcnn_jax.layers.maxout import Maxout, expected_maxout, max_norm, maxout, sampled_maxout
from rcnn_jax.layers.randomness import DATA_AXIS

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
KEY = jax.random.key(3)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_maxout_passes_the_gradient_to_the_largest_piece(x64):
    z = RNG.normal(size=(4, 3, 5))
    weights = RNG.normal(size=(4, 3))
    np.testing.assert_array_equal(maxout(jnp.asarray(z)), z.max(-1))
    gradient = jax.grad(lambda z: jnp.sum(maxout(z) * weights))(jnp.asarray(z))
    expected = weights[..., None] * (np.arange(5) == z.argmax(-1)[..., None])
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_expected_maxout(scale, x64):
    z, direction = RNG.normal(size=(2, 4, 3, 5))
    expected = (softmax(scale * z) * z).sum(-1)
    mean = functools.partial(expected_maxout, inverse_temperature=scale)
    np.testing.assert_allclose(mean(jnp.asarray(z)), expected, rtol=1e-12)
    slope = jnp.vdot(jax.grad(lambda z: jnp.sum(mean(z) ** 2))(jnp.asarray(z)), direction)

    def oracle(z):
        return ((softmax(scale * z) * z).sum(-1) ** 2).sum()

    np.testing.assert_allclose(slope, finite_difference(oracle, z, direction), rtol=1e-7)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_pieces_are_drawn_with_their_probabilities(scale):
    z = np.array([0.3, -1.0, 0.9, 0.0], np.float32)
    many = jnp.broadcast_to(z, (8, 2500, 4))
    drawn = np.asarray(sampled_maxout(many, KEY, inverse_temperature=scale))
    p = softmax(scale * z)
    shares = np.array([(drawn == value).mean() for value in z])
    assert shares.sum() == 1
    np.testing.assert_array_less(np.abs(shares - p), 4 * np.sqrt(p * (1 - p) / drawn.size))
    mean = expected_maxout(many[:1, :1], inverse_temperature=scale)[0, 0]
    assert abs(drawn.mean() - mean) < 4 * z.std() / np.sqrt(drawn.size) + 1e-3


def test_a_large_lambda_draws_the_largest_piece():
    z = jnp.asarray(RNG.normal(size=(4, 100, 3)), jnp.float32)
    drawn = sampled_maxout(z, KEY, inverse_temperature=1e5)
    np.testing.assert_array_equal(drawn, maxout(z))
    np.testing.assert_allclose(expected_maxout(z, inverse_temperature=1e5), drawn, rtol=1e-6)


def test_the_gradient_of_a_draw_is_that_of_the_piece_drawn():
    z = jnp.asarray(RNG.normal(size=(4, 7, 3)), jnp.float32)
    weights = jnp.asarray(RNG.normal(size=(4, 7)), jnp.float32)
    value, pull_back = jax.vjp(lambda z: sampled_maxout(z, KEY), z)
    expected = weights[..., None] * (z == value[..., None])
    np.testing.assert_array_equal(pull_back(weights)[0], expected)


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(3)], ids=["new", "raw"])
def test_draws_do_not_depend_on_the_spread_over_devices(key):
    z = jnp.broadcast_to(jnp.asarray([0.1, 0.2, 0.3]), (8, 6, 5, 3))
    whole = jax.jit(sampled_maxout)(z, key)
    spread = jax.pmap(sampled_maxout, axis_name=DATA_AXIS, in_axes=(0, None))(
        z.reshape(4, 2, 6, 5, 3), key
    )
    np.testing.assert_array_equal(spread.reshape(whole.shape), whole)
    assert len({np.asarray(whole[i]).tobytes() for i in range(8)}) == 8


def test_max_norm():
    kernel = RNG.normal(size=(3, 3, 2, 6)).astype(np.float32)
    kernel[..., 0] = 0
    kernel[..., 1] *= 0.01
    projected = np.asarray(max_norm(jnp.asarray(kernel), 1.5))
    norms = np.sqrt((kernel**2).sum((0, 1, 2)))
    np.testing.assert_array_equal(projected[..., :2], kernel[..., :2])
    np.testing.assert_allclose(projected, kernel * np.minimum(1, 1.5 / np.maximum(norms, 1e-9)),
                               rtol=1e-6)  # fmt: skip
    again = max_norm(jnp.asarray(projected), 1.5)
    np.testing.assert_allclose(again, projected, rtol=1e-6)
    assert max_norm(jnp.asarray(kernel, jnp.bfloat16), 1.5).dtype == jnp.bfloat16


def test_dense_layer_is_its_definition():
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    layer = Maxout(3, pieces=4)
    variables = layer.init(KEY, jnp.asarray(x), train=False)
    kernel, bias = (np.asarray(variables["params"][n]) for n in ("kernel", "bias"))
    bias = bias + RNG.normal(size=bias.shape).astype(np.float32)
    variables = {"params": {"kernel": kernel, "bias": bias}}
    y = layer.apply(variables, jnp.asarray(x), train=False)
    assert y.shape == (4, 3)
    for unit in range(3):
        pieces = slice(4 * unit, 4 * unit + 4)
        expected = (x @ kernel[:, pieces] + bias[pieces]).max(-1)
        np.testing.assert_allclose(y[:, unit], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("window", "padding"), [((3, 3), 0), ((2, 4), 3), ((1, 1), 0)])
def test_convolutional_layer_is_the_dense_one_at_each_position(window, padding):
    x = RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)
    layer = Maxout(4, pieces=2, kernel_size=window, padding=padding)
    variables = layer.init(KEY, jnp.asarray(x), train=False)
    y = layer.apply(variables, jnp.asarray(x), train=False)
    rows, columns = (n + 2 * padding - w + 1 for n, w in zip((5, 6), window, strict=True))
    assert y.shape == (2, rows, columns, 4)
    kernel = np.asarray(variables["params"]["kernel"]).reshape(-1, 8)
    dense = Maxout(4, pieces=2)
    padded = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    patches = np.stack(
        [
            padded[:, i : i + window[0], j : j + window[1]].reshape(2, -1)
            for i in range(rows)
            for j in range(columns)
        ],
        axis=1,
    ).reshape(2 * rows * columns, -1)
    variables = {"params": {"kernel": kernel, "bias": variables["params"]["bias"]}}
    expected = dense.apply(variables, jnp.asarray(patches), train=False)
    np.testing.assert_allclose(y.reshape(-1, 4), expected, rtol=1e-4, atol=1e-5)


def test_a_probabilistic_layer_draws_in_training_and_takes_the_mean_at_test():
    x = jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)
    layer = Maxout(50, pieces=3, probabilistic=True, inverse_temperature=2.0)
    variables = layer.init({"params": KEY}, x, train=False)
    z = (x @ variables["params"]["kernel"]).reshape(4, 50, 3)
    mean = layer.apply(variables, x, train=False)
    np.testing.assert_allclose(mean, expected_maxout(z, inverse_temperature=2.0), rtol=1e-5)
    for arguments in ({"train": True, "rngs": {"dropout": KEY}}, {"train": False, "key": KEY}):
        drawn = layer.apply(variables, x, **arguments)
        np.testing.assert_allclose(jnp.min(jnp.abs(z - drawn[..., None]), -1), 0, atol=1e-6)
        assert 0 < (np.asarray(drawn) == np.asarray(maxout(z))).mean() < 1


def test_uniform_initial_weights_and_types():
    x = jnp.zeros((1, 40), jnp.float32)
    layer = Maxout(10, init_range=0.005, dtype="bfloat16", probabilistic=True)
    variables = layer.init(KEY, x, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    kernel = np.asarray(variables["params"]["kernel"])
    assert 0.0045 < np.abs(kernel).max() <= 0.005
    for arguments in ({"train": False}, {"train": True, "rngs": {"dropout": KEY}}):
        assert layer.apply(variables, x, **arguments).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({"features": 0}, (1, 4), "features=0"),
        ({"pieces": 0}, (1, 4), "pieces=0"),
        ({}, (1, 4, 4, 1), r"takes an input of 2 axes, got shape \(1, 4, 4, 1\)"),
        ({"kernel_size": (3, 3)}, (1, 4), "takes an input of 4 axes"),
        ({"kernel_size": (9, 3), "padding": 2}, (1, 4, 4, 1), r"window \(9, 3\) does not fit"),
        ({"kernel_size": (3, 3), "padding": -1}, (1, 9, 9, 1), "padding=-1"),
        ({"probabilistic": True, "inverse_temperature": -1.0}, (1, 4), "at least 0, got -1.0"),
    ],
)
def test_impossible_layers(attributes, shape, message):
    layer = Maxout(**({"features": 3} | attributes))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(layer.init, train=False), KEY, jnp.zeros(shape))


def test_one_unit_of_one_piece_is_a_dense_unit():
    layer = Maxout(features=1, pieces=1)
    x = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
    y, variables = layer.init_with_output(KEY, x, train=False)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    np.testing.assert_allclose(y, np.asarray(x) @ kernel + bias, rtol=1e-5)


def test_impossible_limit():
    with pytest.raises(ValueError, match="limit above 0, got 0"):
        max_norm(jnp.ones((2, 2)), 0.0)
