"""The facts of Liang & Hu 2015: ours agrees, and every known bug of public code is caught."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import pytest

from conformance.rcl_checks import BUGS, CHECKS, STEPS, Implementation, K, planted
from rcnn_jax.layers.convolution import direct_convolutions
from rcnn_jax.layers.local_response import local_response_norm, lrn_window
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.models.rcnn import RCNN, depth_matched_cnn, recursive_rcnn, wcnn
from rcnn_jax.summary.multiply_adds import multiply_adds


def ours():
    """This package, as the checks want to see it."""
    layer = RCL(features=K, steps=STEPS, param_dtype="float64")

    def load(w_f, w_r, b):
        params = {"kernel": w_f, "recurrent_kernel": w_r, "norm": {"bias": b}}
        return jax.tree.map(jnp.asarray, params)

    @functools.partial(jax.jit, static_argnums=2)
    def states(params, u, steps):
        return layer.apply({"params": params}, jnp.asarray(u), steps=steps, all_states=True)

    @jax.jit
    def lrn(x):
        return local_response_norm(x, size=lrn_window(x.shape[-1]))

    def sides(size):
        model = RCNN(classes=10, features=8)

        def run(key, x):
            return model.init_with_output(key, x, train=False, capture_intermediates=True)

        _, variables = jax.eval_shape(run, jax.random.key(0), jnp.zeros((1, size, size, 3)))
        names = ("conv", "rcl1", "rcl2", "rcl3", "rcl4")
        return [variables["intermediates"][name]["__call__"][0].shape[1] for name in names]

    return Implementation(load, states, lrn, sides, _relearned)


def _relearned(u):
    layer = RCL(features=K, steps=STEPS, norm="batch", momentum=0.0, param_dtype="float64")
    train = functools.partial(layer.apply, train=True, mutable=["batch_stats"])
    variables = jax.jit(layer.init)(jax.random.key(0), u)
    training, updated = jax.jit(train)(variables, u)
    return training, jax.jit(layer.apply)(variables | updated, u)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("implementation", [ours(), planted(None)], ids=["ours", "independent"])
def test_a_correct_implementation_passes(implementation, check, x64):
    CHECKS[check](implementation)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, x64):
    caught = set()
    for name, check in CHECKS.items():
        try:
            check(planted(bug))
        except AssertionError:
            caught.add(name)
    assert caught == BUGS[bug]


def test_the_table_of_bugs_is_up_to_date():
    text = (pathlib.Path(__file__).parent / "README.md").read_text()
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    table = {bug.strip(): set(seen.strip().split(", ")) for bug, seen in rows[1:]}
    assert table == BUGS


def parameters(model, channels):
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 24, 24, channels)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("features", "classes", "channels", "total"),
    [
        (96, 10, 3, 672_202),
        (128, 10, 3, 1_191_178),
        (160, 10, 3, 1_857_610),
        (192, 10, 3, 2_671_498),
        (96, 100, 3, 680_932),
        (128, 100, 3, 1_202_788),
        (160, 100, 3, 1_872_100),
        (32, 10, 1, 75_018),
        (64, 10, 1, 297_482),
        (96, 10, 1, 667_402),
    ],
)
def test_parameter_totals(features, classes, channels, total):
    assert parameters(RCNN(classes=classes, features=features), channels) == total


def test_parameter_totals_of_the_controls():
    assert parameters(wcnn(classes=10), 3) == 601_354
    assert parameters(recursive_rcnn(classes=10), 3) == 672_202
    assert parameters(RCNN(classes=10, steps=7), 3) == 672_202
    k, t = 96, 3
    expected = 76 * k + 4 * (9 * (t + 1) * k**2 + k) + 10 * k + 10
    assert parameters(depth_matched_cnn(classes=10), 3) == expected


@pytest.mark.parametrize(("side", "millions"), [(32, 219.7), (24, 123.6)])
def test_multiply_adds_with_the_feedforward_convolution_done_once(side, millions):
    model = RCNN(classes=10)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    with direct_convolutions():
        jaxpr = jax.make_jaxpr(functools.partial(model.apply, train=False))(variables, x)
    assert round(multiply_adds(jaxpr.jaxpr) / 1e6, 1) == millions
