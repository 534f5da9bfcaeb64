"""The compiled iterations of an RCL against float64, on one device and on several."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rcnn_jax.kernels import library
from rcnn_jax.layers.normalization import real_rows
from rcnn_jax.layers.rcl import RCL

pytestmark = pytest.mark.skipif(bool(library.problem()), reason=library.problem())

CHANNELS = 32


def layer(**options):
    return RCL(CHANNELS, (3, 3), **{"steps": 2, "gamma": 0.7, **options})


def variables_of(rcl, u, dtype):
    """Variables whose numbers do not depend on the dtype, with variances of at least one half."""
    rng = np.random.default_rng(5)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape) * (0.06 if leaf.ndim > 3 else 1.0)
        return jnp.asarray(np.float32(abs(values) + 0.5 if "var" in str(path) else values), dtype)

    shapes = jax.eval_shape(rcl.init, jax.random.key(0), jnp.asarray(u))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def images(shape=(5, 7, 6, CHANNELS), dtype=np.float32):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32).astype(dtype)


def everything(rcl, variables, u, **call):
    """Output, statistics, and the gradients of a loss that weights every output differently."""

    def loss(params, u):
        given = {**variables, "params": params}
        y, changed = rcl.apply(given, u, mutable=["batch_stats"], **call)
        weights = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
        return jnp.sum(y * weights), (y, changed)

    value = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (y, changed)), gradients = value(variables["params"], u)
    return {"y": y, "changed": changed, "gradients": gradients}


def exact(rcl, u, **call):
    with jax.enable_x64(True):
        wide = jnp.asarray(u, jnp.float64)
        run = functools.partial(everything, rcl, variables_of(rcl, u, jnp.float64), **call)
        return jax.tree.map(np.asarray, jax.jit(run)(wide))


def assert_close(found, expected, bound=3e-6):
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        error = np.linalg.norm(np.asarray(ours, np.float64) - theirs)
        assert error <= bound * np.linalg.norm(theirs), jax.tree_util.keystr(path)


def calls_of(function, *arguments):
    text = jax.jit(function).lower(*arguments).as_text()
    return {name for name in ("RcnnStepNormal", "RcnnStepResponse") if name in text}


@pytest.mark.parametrize("all_states", [False, True])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize(
    ("norm", "train"),
    [
        ("batch", True),
        ("batch_split", True),
        ("batch_shared", True),
        ("batch", False),
        ("lrn", True),
    ],
)
def test_values_statistics_and_gradients(norm, train, tie_weights, all_states):
    rcl = layer(norm=norm, tie_weights=tie_weights)
    u, call = images(), {"train": train, "all_states": all_states}
    run = functools.partial(everything, rcl, variables_of(rcl, u, jnp.float32), **call)
    assert calls_of(run, u) == {"RcnnStepResponse" if norm == "lrn" else "RcnnStepNormal"}
    assert_close(jax.jit(run)(u), exact(rcl, u, **call))


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(("norm", "train"), [("batch", True), ("batch", False), ("lrn", False)])
def test_fewer_and_more_steps_than_trained(norm, train, steps):
    rcl = layer(norm=norm, tie_weights=False)
    u, call = images((3, 5, 5, CHANNELS)), {"train": train, "steps": steps}
    run = functools.partial(everything, rcl, variables_of(rcl, u, jnp.float32), **call)
    assert_close(jax.jit(run)(u), exact(rcl, u, **call))


@pytest.mark.parametrize("options", [{"lrn_size": 1}, {"lrn_size": 40}, {"lrn_beta": 1.0}])
def test_any_window_of_local_response_normalization(options):
    rcl, u = layer(norm="lrn", lrn_alpha=0.3, **options), images((3, 5, 5, CHANNELS))
    run = functools.partial(everything, rcl, variables_of(rcl, u, jnp.float32))
    assert calls_of(run, u)
    assert_close(jax.jit(run)(u), exact(rcl, u))


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.0}, {"norm": "group"}, {"norm": "none"}, {"remat": True}, {"unroll": False},
        {"lrn_beta": 0.3}, {"dtype": "bfloat16"}, {"recurrent_kernel_size": (1, 1)},
    ],
)  # fmt: skip
def test_other_layers_take_the_form_of_xla(options):
    rcl, u = layer(**options), images((2, 8, 8, CHANNELS))
    variables = variables_of(rcl, u, jnp.float32)
    assert not calls_of(functools.partial(rcl.apply, variables), u)


def test_masks_of_padding_take_the_form_of_xla():
    rcl, u = layer(norm="batch"), images((4, 8, 8, CHANNELS))
    variables = variables_of(rcl, u, jnp.float32)
    run = functools.partial(rcl.apply, variables, train=True, mutable=["batch_stats"])
    assert calls_of(run, u)
    assert not calls_of(lambda u: run(u, mask=jnp.ones((4, 8, 8), bool)), u)

    def padded(u):
        with real_rows(jnp.array([1.0, 1.0, 1.0, 0.0])):
            return run(u)

    assert not calls_of(padded, u)


def test_an_image_of_large_values_loses_no_precision():
    # The variance comes from centred values: a mean of 1,000 costs a thousandth of its digits.
    rcl = layer(norm="batch", gamma=1.0)
    u = images((6, 6, 6, CHANNELS)) + np.float32(1000)
    variables = variables_of(rcl, u, jnp.float32)
    _, changed = jax.jit(functools.partial(rcl.apply, train=True, mutable=["batch_stats"]))(
        variables, u
    )
    expected = exact(rcl, u, train=True)["changed"]
    assert_close(changed, expected, bound=3e-4)


@pytest.mark.parametrize("norm", ["batch", "lrn"])
@pytest.mark.parametrize("parallelism", ["jit", "pmap", "shard_map"])
def test_several_devices_agree_with_float64(norm, parallelism):
    rcl, u = layer(norm=norm), images((8, 6, 6, CHANNELS))
    variables = variables_of(rcl, u, jnp.float32)
    expected = exact(rcl, u, train=True)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    weights = np.random.default_rng(2).normal(size=(8, 6, 6, CHANNELS)).astype(np.float32)

    def local(variables, u, weights):
        def loss(params, u):
            y, changed = rcl.apply(
                {**variables, "params": params}, u, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(y * weights), (y, changed)

        value = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (_, (y, changed)), gradients = value(variables["params"], u)
        if parallelism == "jit":
            return y, changed, gradients
        return y, changed, (jax.lax.psum(gradients[0], "data"), gradients[1])

    rows, whole = PartitionSpec("data"), PartitionSpec()
    if parallelism == "jit":
        spread = [jax.device_put(a, NamedSharding(mesh, rows)) for a in (u, weights)]
        program = (
            jax.jit(local)
            .lower(jax.device_put(variables, NamedSharding(mesh, whole)), *spread)
            .compile()
        )
        assert "all-gather" not in program.as_text()
        y, changed, gradients = program(
            jax.device_put(variables, NamedSharding(mesh, whole)), *spread
        )
    elif parallelism == "shard_map":
        y, changed, gradients = jax.jit(
            jax.shard_map(
                local, mesh=mesh, in_specs=(whole, rows, rows),
                out_specs=(rows, whole, (whole, rows)), check_vma=False,
            )
        )(variables, u, weights)  # fmt: skip
    else:
        cut = [a.reshape(4, 2, *a.shape[1:]) for a in (u, weights)]
        y, changed, gradients = jax.pmap(local, "data", in_axes=(None, 0, 0))(variables, *cut)
        changed = jax.tree.map(lambda a: a[0], changed)
        gradients = (
            jax.tree.map(lambda a: a[0], gradients[0]),
            gradients[1].reshape(u.shape),
        )
        y = y.reshape(u.shape)
    assert_close({"y": y, "changed": changed, "gradients": gradients}, expected)


def test_not_a_number_reaches_state_and_gradient():
    rcl, u = layer(norm="batch"), images((2, 6, 6, CHANNELS))
    u[0, 0, 0, 0] = np.nan
    found = everything(rcl, variables_of(rcl, u, jnp.float32), u, train=True)
    assert np.isnan(found["y"]).any()
    assert np.isnan(found["gradients"][0]["recurrent_kernel"]).any()


def test_parts_of_a_batch_one_after_the_other_and_several_at_once():
    """What `config.accumulate` and maps over examples do with a layer."""
    rcl, u = layer(norm="lrn"), images((6, 5, 5, CHANNELS))
    variables = variables_of(rcl, u, jnp.float32)

    def loss(params, part):
        return jnp.sum(jnp.square(rcl.apply({"params": params}, part)))

    gradient = jax.grad(loss)
    whole = jax.jit(gradient)(variables["params"], u)
    parts = jnp.asarray(u.reshape(3, 2, *u.shape[1:]))

    def in_turn(params):
        zero = jax.tree.map(jnp.zeros_like, params)
        add = functools.partial(jax.tree.map, jnp.add)
        return jax.lax.scan(lambda sum, x: (add(sum, gradient(params, x)), None), zero, parts)[0]

    def at_once(params):
        each = jax.vmap(gradient, in_axes=(None, 0))(params, parts)
        return jax.tree.map(lambda leaf: leaf.sum(0), each)

    for way in (in_turn, at_once):
        found = jax.jit(way)(variables["params"])
        assert_close(found, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), whole))
