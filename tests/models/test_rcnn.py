"""RCNN as a model: shapes, presets, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.rcnn import (
    RCNN,
    depth_matched_cnn,
    rcnn,
    rcnn_without_dropout,
    recursive_rcnn,
    wcnn,
)

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 8, 8, 1)), jnp.float32)


def made(model, x=X):
    return jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)


@pytest.mark.parametrize("size", [(24, 24), (32, 20)])
@pytest.mark.parametrize("norm", ["lrn", "batch"])
def test_shapes(size, norm):
    model = RCNN(classes=5, features=8, norm=norm)
    x = jnp.zeros((2, *size, 3))
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    for arguments, shape in [
        ({}, (2, 5)),
        ({"steps": 5}, (2, 5)),
        ({"every_step": True}, (4, 2, 5)),
        ({"every_step": True, "steps": 0}, (1, 2, 5)),
    ]:
        call = functools.partial(model.apply, train=False, **arguments)
        logits = jax.eval_shape(call, variables, x)
        assert logits.shape == shape
        assert logits.dtype == jnp.float32


@pytest.mark.parametrize("strides", [(2, 2), (1, 2), (1, 1)])
def test_pools_can_be_left_out(strides):
    model = RCNN(classes=5, features=8, pool_strides=strides)
    call = functools.partial(model.init_with_output, train=False, capture_intermediates=True)
    _, variables = jax.eval_shape(call, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    sizes = [variables["intermediates"][name]["__call__"][0].shape[1] for name in ("rcl1", "rcl3")]
    assert sizes == [8 // strides[0], 8 // strides[0] // strides[1]]


def test_last_of_every_step_is_the_answer():
    model = RCNN(classes=3, features=8, steps=1)
    variables = made(model)
    apply = jax.jit(model.apply, static_argnames=("train", "steps", "every_step"))
    logits = apply(variables, X, train=False)
    every = apply(variables, X, train=False, every_step=True)
    np.testing.assert_allclose(every[-1], logits, rtol=1e-5, atol=1e-6)
    assert not np.allclose(every[0], logits, rtol=1e-2)


def test_presets():
    he = {"kernel_init": "he", "recurrent_init": "he"}
    for preset, attributes in [
        (rcnn, {}),
        (rcnn_without_dropout, {"dropout": 0.0}),
        (recursive_rcnn, {"gamma": 0.0, **he}),
        (depth_matched_cnn, {"gamma": 0.0, "tie_weights": False, **he}),
        (wcnn, {"features": 128, "steps": 0, **he}),
    ]:
        assert preset(classes=10) == RCNN(classes=10, **attributes)
        assert preset(classes=10, norm="batch", features=64).norm == "batch"
        assert preset(classes=10, kernel_init="orthogonal").kernel_init == "orthogonal"


def test_a_wcnn_with_iterations_is_refused():
    with pytest.raises(ValueError, match="WCNN has no iterations, got steps=3"):
        wcnn(classes=10, steps=3)


@pytest.mark.parametrize("preset", [recursive_rcnn, depth_matched_cnn])
def test_the_signal_outlives_17_rectified_layers(preset):
    """Kernels of variance 1 / fan-in would leave about 2^-8 of its amplitude to the classifier."""
    model = preset(classes=10, features=32, dropout=0.0)
    x = jax.random.normal(jax.random.key(1), (8, 16, 16, 3))
    _, captured = model.init_with_output(
        jax.random.key(0), x, train=False, capture_intermediates=True
    )
    seen = captured["intermediates"]
    first, last = (jnp.sqrt(jnp.mean(seen[name]["__call__"][0] ** 2)) for name in ("conv", "rcl4"))
    assert 0.1 < last / first < 10


def test_dropout_sits_behind_rcl_1_to_3_only():
    model = RCNN(classes=3, features=8, dropout=0.5)
    call = functools.partial(model.init_with_output, train=True, capture_intermediates=True)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    _, captured = jax.eval_shape(call, keys, X)
    seen = captured["intermediates"]
    assert sorted(name for name in seen if "dropout" in name) == [f"dropout{i}" for i in (1, 2, 3)]
    assert seen["dropout2"]["__call__"][0].shape == (8, 2, 2, 8)  # behind the pool


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"\[batch, height, width, channels\], got shape \(8, 8, 3\)"),
        ({"features": 12}, (1, 8, 8, 3), "multiple of 8, got 12"),
        ({"steps": -2}, (1, 8, 8, 3), "steps=-2"),
        ({"classes": 0}, (1, 8, 8, 3), "classes=0"),
        ({"pool_strides": (2,)}, (1, 8, 8, 3), r"pool_strides=\(2,\)"),
        ({"norm": "lrm"}, (1, 8, 8, 3), 'got "lrm"'),
        ({"dropout": 2.0}, (1, 8, 8, 3), r"\[0, 1\], got 2.0"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = RCNN(**({"classes": 3, "features": 8} | attributes))
    init = functools.partial(model.init, train=True)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init, keys, jnp.zeros(shape))


def test_negative_steps_in_a_call():
    model = RCNN(classes=3, features=8)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), X)
    with pytest.raises(ValueError, match="steps=-1"):
        jax.eval_shape(functools.partial(model.apply, train=False, steps=-1), variables, X)
