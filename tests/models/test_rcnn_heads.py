"""RCNN's classifiers: one for all iterations, or one each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.rcnn import RCNN

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 8, 8, 3)), jnp.float32)
MODEL = RCNN(classes=5, features=8, steps=2, norm="none", heads="per_step")


@pytest.fixture(scope="module")
def variables():
    made = jax.jit(functools.partial(MODEL.init, train=False))(jax.random.key(0), X)
    made["params"]["head_bias"] = jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32)
    return made


def with_head(variables, step):
    params = variables["params"]
    own = {name: params[name][step] for name in ("head_kernel", "head_bias")}
    return {"params": params | own}


@pytest.mark.parametrize("steps", [None, 0, 1, 4])
def test_each_answer_has_the_head_of_its_step(variables, steps):
    apply = jax.jit(MODEL.apply, static_argnames=("train", "steps", "every_step"))
    every = apply(variables, X, train=False, steps=steps, every_step=True)
    last = apply(variables, X, train=False, steps=steps)
    np.testing.assert_allclose(every[-1], last, rtol=1e-5, atol=1e-6)
    shared = MODEL.clone(heads="shared")
    apply = jax.jit(shared.apply, static_argnames=("train", "steps", "every_step"))
    for t, answer in enumerate(every):
        own = with_head(variables, min(t, 2))  # beyond the trained iterations: that of the last
        expected = apply(own, X, train=False, steps=steps, every_step=True)[t]
        np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6)


def test_heads_are_drawn_independently_with_the_spread_of_one():
    model = MODEL.clone(features=64, classes=50)
    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), X)["params"]
    kernel = np.asarray(params["head_kernel"])
    assert kernel.shape == (3, 64, 50)
    np.testing.assert_allclose(kernel.std((1, 2)), 64**-0.5, rtol=0.05)
    assert abs(np.corrcoef(kernel[0].ravel(), kernel[1].ravel())[0, 1]) < 0.1


def test_unknown_heads():
    with pytest.raises(ValueError, match='shared or per_step, got "own"'):
        MODEL.clone(heads="own").init(jax.random.key(0), X, train=False)
