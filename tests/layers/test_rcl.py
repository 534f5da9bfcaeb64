"""The RCL against loops in float64, over its whole control grid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from layers import oracles
from rcnn_jax.layers.convolution import convolve
from rcnn_jax.layers.rcl import RCL, extend_steps, rcl
from rcnn_jax.layers.step_norm import NORMS

RNG = np.random.default_rng(0)
K = 8
U2 = RNG.normal(size=(2, 4, 3, 3))
U1 = RNG.normal(size=(2, 7, 3))


def filled(module, u, scale=0.3):
    """Variables of the module with random numbers everywhere, variances positive."""
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.asarray(u))
    flat = traverse_util.flatten_dict(variables)
    for path, value in flat.items():
        new = scale * RNG.normal(size=value.shape)
        if path[-1] in ("scale", "var"):
            new = 1 + np.abs(new)
        flat[path] = jnp.asarray(new)
    return traverse_util.unflatten_dict(flat)


def oracle(module, variables, u, train, steps, statistics=None):
    """x(0)..x(steps) of an ungated RCL; appends each step's batch moments to `statistics`."""
    params = jax.tree.map(np.asarray, variables["params"])
    running = jax.tree.map(np.asarray, variables.get("batch_stats", {}))

    def of_step(value, t):
        return value if value.ndim == 1 else value[min(t, len(value) - 1)]

    def activation(z, t):
        entries = {k: of_step(v, t) for k, v in params["norm"].items()}
        if module.norm in ("lrn", "none"):
            x = oracles.relu(z + entries["bias"])
            return oracles.lrn(x, K // 8 + 1) if module.norm == "lrn" else x
        affine = entries["scale"], entries["bias"]
        if module.norm in ("layer", "group"):
            groups = module.groups if module.norm == "group" else 1
            return oracles.relu(oracles.group_norm(z, *affine, groups))
        moments = (None, None)
        if train and statistics is not None:
            statistics.append((z.mean((0, 1, 2)), z.var((0, 1, 2))))
        if not train:
            moments = tuple(of_step(running["norm"][k], t) for k in ("mean", "var"))
        return oracles.relu(oracles.batch_norm(z, *affine, *moments))

    recurrent = params.get("recurrent_kernel")
    if recurrent is not None and not module.tie_weights:
        recurrent = list(recurrent)
    return oracles.rcl_states(u, params["kernel"], recurrent, activation, steps, module.gamma)


def run(module, variables, u, *, train=False, steps=None):
    """All states, and the running statistics afterwards."""
    call = functools.partial(
        module.apply, train=train, steps=steps, all_states=True, mutable=["batch_stats"]
    )
    return jax.jit(call)(variables, jnp.asarray(u))


def double(**attributes):
    return RCL(features=K, groups=4, param_dtype="float64", **attributes)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_norm(norm, train, x64):
    module = double(norm=norm, steps=2)
    variables = filled(module, U2)
    states, _ = run(module, variables, U2, train=train, steps=3)
    expected = oracle(module, variables, U2, train, 3)  # step 3 uses what step 2 has
    np.testing.assert_allclose(states, np.stack(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1])
def test_fewer_steps_than_trained_are_the_first_ones(steps, x64):
    module = double(norm="batch", steps=2)
    variables = filled(module, U2)
    states, _ = run(module, variables, U2, train=False, steps=steps)
    expected = oracle(module, variables, U2, False, steps)
    np.testing.assert_allclose(states, np.stack(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("tie_weights", [True, False], ids=["tied", "untied"])
def test_gamma_and_tying(gamma, tie_weights, x64):
    module = double(gamma=gamma, tie_weights=tie_weights, steps=3)
    variables = filled(module, U2)
    states, _ = run(module, variables, U2, steps=5)
    expected = oracle(module, variables, U2, False, 5)
    np.testing.assert_allclose(states, np.stack(expected), rtol=1e-9, atol=1e-12)


def test_the_last_state_is_that_of_the_trained_steps(x64):
    variables = filled(double(steps=2), U2)
    last = jax.jit(double(steps=2).apply)(variables, jnp.asarray(U2))
    states, _ = run(double(steps=2), variables, U2)
    assert len(states) == 3
    np.testing.assert_allclose(last, states[-1], rtol=1e-12)


def test_one_spatial_axis_and_unequal_windows(x64):
    module = double(kernel_size=(5,), recurrent_kernel_size=(3,), steps=2)
    variables = filled(module, U1)
    assert variables["params"]["kernel"].shape == (5, 3, K)
    assert variables["params"]["recurrent_kernel"].shape == (3, K, K)
    expected = oracle(module, variables, U1, False, 2)
    np.testing.assert_allclose(run(module, variables, U1)[0], np.stack(expected), rtol=1e-9)


def test_untied_without_input_is_a_feedforward_net(x64):
    module = double(gamma=0.0, tie_weights=False, norm="none", steps=3)
    variables = filled(module, U2)
    params = variables["params"]
    x = U2
    for kernel in (params["kernel"], *params["recurrent_kernel"]):
        x = oracles.relu(oracles.conv(x, np.asarray(kernel)) + np.asarray(params["norm"]["bias"]))
    np.testing.assert_allclose(run(module, variables, U2)[0][-1], x, rtol=1e-9)


@pytest.mark.parametrize("norm", ["batch", "batch_split", "batch_shared"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_running_statistics(norm, steps, x64):
    module = double(norm=norm, steps=2, momentum=0.75)
    variables = filled(module, U2)
    used = []
    oracle(module, variables, U2, True, steps, used)
    before = variables["batch_stats"]["norm"]
    _, updated = run(module, variables, U2, train=True, steps=steps)
    for number, name in enumerate(("mean", "var")):
        expected = np.array(before[name])
        for t, moments in enumerate(used):
            if norm == "batch_shared":
                expected = 0.75 * expected + 0.25 * moments[number]
            elif t <= 2:  # what runs beyond the trained steps is not recorded
                expected[t] = 0.75 * expected[t] + 0.25 * moments[number]
        np.testing.assert_allclose(updated["batch_stats"]["norm"][name], expected, rtol=1e-9)


def test_initialization_records_no_statistics():
    module = RCL(features=8, norm="batch", steps=1)
    init = jax.jit(functools.partial(module.init, train=True))
    variables = init(jax.random.key(0), jnp.ones((2, 4, 4, 3)))
    assert not variables["batch_stats"]["norm"]["mean"].any()


@pytest.mark.parametrize("norm", ["lrn", "batch", "none"])
@pytest.mark.parametrize("gamma", [1.0, 0.0])
def test_gated(norm, gamma, x64):
    module = double(gated=True, norm=norm, steps=2, gamma=gamma)
    variables = filled(module, U2)
    p = jax.tree.map(np.asarray, variables["params"])
    running = jax.tree.map(np.asarray, variables.get("batch_stats", {}))

    def n(place, z, call):
        entries = p.get(f"norm_{place}")
        if entries is None:
            return z
        if norm != "batch":
            return z + entries["bias"]
        moments = running[f"norm_{place}"]
        call = min(call, len(entries["bias"]) - 1)
        return oracles.batch_norm(
            z,
            entries["scale"][call],
            entries["bias"][call],
            moments["mean"][call],
            moments["var"][call],
        )

    def activate(z):
        return oracles.lrn(oracles.relu(z), 2) if norm == "lrn" else oracles.relu(z)

    conv = oracles.conv
    f, g = conv(U2, p["kernel"]), conv(U2, p["gate_kernel"])
    states = [activate(n("feedforward", f, 0))]
    for t in (1, 2, 3):
        x = states[-1]
        gate = n("gate_feedforward", g, t - 1) + n(
            "gate_recurrent", conv(x, p["recurrent_gate_kernel"]), t - 1
        )
        recurrent = n("recurrent", conv(x, p["recurrent_kernel"]), t - 1)
        gated = n("product", recurrent / (1 + np.exp(-gate)), t - 1)
        states.append(activate(gamma * n("feedforward", f, t) + gated))
    for steps in (0, 3):
        actual, _ = run(module, variables, U2, steps=steps)
        np.testing.assert_allclose(actual, np.stack(states[: steps + 1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gated", [False, True])
def test_loop_unrolled_and_rematerialized_agree(gated, x64):
    base = functools.partial(double, steps=2, gated=gated, norm="batch", tie_weights=gated)
    variables = filled(base(), U2)
    weights = jnp.asarray(RNG.normal(size=(*U2.shape[:-1], K)))

    def gradients(module):
        def loss(params, u):
            y, updated = module.apply(
                variables | {"params": params}, u, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(weights * y), updated

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
            variables["params"], jnp.asarray(U2)
        )

    expected = gradients(base(unroll=True))
    for module in (
        base(unroll=False),
        base(unroll=True, remat=True),
        base(unroll=False, remat=True),
        base(remat="chunks"),
    ):
        for one, other in zip(
            jax.tree.leaves(expected), jax.tree.leaves(gradients(module)), strict=True
        ):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norm", ["lrn", "batch", "group"])
def test_gradient_against_finite_differences(norm, x64):
    module = double(norm=norm, steps=2)
    variables = filled(module, U2)
    params = variables["params"]
    weights = jnp.asarray(RNG.normal(size=(*U2.shape[:-1], K)))

    @jax.jit
    def loss(params):
        y, _ = module.apply(
            variables | {"params": params}, jnp.asarray(U2), train=True, mutable=["batch_stats"]
        )
        return jnp.sum(weights * y)

    gradient = jax.jit(jax.grad(loss))(params)
    for path, value in traverse_util.flatten_dict(params).items():
        direction = jnp.asarray(RNG.normal(size=value.shape))

        def along(step, path=path, direction=direction):
            flat = traverse_util.flatten_dict(params)
            return loss(traverse_util.unflatten_dict(flat | {path: flat[path] + step * direction}))

        slope = (along(1e-6) - along(-1e-6)) / 2e-6
        expected = jnp.sum(traverse_util.flatten_dict(gradient)[path] * direction)
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [(3, 3), (2, 3), (5,), (4,)])
def test_convolution_in_a_loop_has_the_gradients_of_the_plain_one(window, x64):
    x = jnp.asarray(RNG.normal(size=(2, 6, 5, 3) if len(window) == 2 else (2, 6, 3)))
    kernel = jnp.asarray(RNG.normal(size=(*window, 3, 4)))
    y, plain = jax.vjp(convolve, x, kernel)
    y_loop, in_loop = jax.vjp(functools.partial(convolve, in_loop=True), x, kernel)
    np.testing.assert_array_equal(y, y_loop)
    g = jnp.asarray(RNG.normal(size=y.shape))
    for one, other in zip(plain(g), in_loop(g), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_variables_of_numpy_may_be_closed_over_by_jit(norm, tie_weights):
    layer = RCL(8, steps=2, norm=norm, tie_weights=tie_weights)
    u = jnp.zeros((2, 4, 4, 3))
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), u, train=False))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    states = jax.eval_shape(lambda: layer.apply(variables, u, train=False, steps=3))
    assert states.shape == (2, 4, 4, 8)
    statistics = [name for name in variables if name != "params"]
    _, after = jax.eval_shape(lambda: layer.apply(variables, u, train=True, mutable=statistics))
    assert jax.tree.map(np.shape, after) == {k: jax.tree.map(np.shape, variables[k]) for k in after}


def test_array_function_needs_no_module(x64):
    kernel, recurrent = 0.3 * RNG.normal(size=(3, 3, 3, K)), 0.3 * RNG.normal(size=(3, 3, K, K))
    feedforward = convolve(jnp.asarray(U2), jnp.asarray(kernel))
    last, reports = rcl(feedforward, jnp.asarray(recurrent), steps=3)
    expected = oracles.rcl_states(U2, kernel, recurrent, lambda z, t: oracles.relu(z), 3)
    np.testing.assert_allclose(last, expected[-1], rtol=1e-9)
    assert reports is None


def test_bfloat16_computes_low_and_keeps_parameters_wide():
    low, full = (RCL(features=8, norm="batch", steps=2, dtype=d) for d in ("bfloat16", None))
    u = jnp.asarray(U2, jnp.float32)
    variables = jax.jit(low.init)(jax.random.key(0), u)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    y, updated = run(low, variables, u, train=True)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    expected, _ = run(full, variables, u, train=True)
    error = jnp.linalg.norm(y.astype(jnp.float32) - expected) / jnp.linalg.norm(expected)
    assert error < 0.02


def test_identity_initialization_copies():
    module = RCL(features=8, gamma=0.0, norm="none", recurrent_init="identity", steps=4)
    u = jnp.asarray(U2, jnp.float32)
    states, _ = run(module, jax.jit(module.init)(jax.random.key(0), u), u)
    np.testing.assert_allclose(states, jnp.broadcast_to(states[:1], states.shape), rtol=1e-6)


@pytest.mark.parametrize(("name", "variance"), [("he", 2.0), ("lecun", 1.0)])
@pytest.mark.parametrize("tie_weights", [True, False])
def test_initial_variance_is_that_of_one_kernel(name, variance, tie_weights):
    module = RCL(features=32, recurrent_init=name, tie_weights=tie_weights, steps=2)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    kernel = variables["params"]["recurrent_kernel"]
    np.testing.assert_allclose(jnp.var(kernel) * 9 * 32, variance, rtol=0.05)
    if not tie_weights:
        assert not jnp.array_equal(kernel[0], kernel[1])


@pytest.mark.parametrize(
    "options",
    [{"norm": "batch"}, {"tie_weights": False}, {"gated": True, "norm": "batch"}],
    ids=str,
)
def test_extended_steps_follow_the_rule(options, x64):
    short, long = double(steps=2, **options), double(steps=4, **options)
    variables = filled(short, U2)
    shapes = jax.eval_shape(long.init, jax.random.key(0), jnp.asarray(U2))
    longer = extend_steps(variables, shapes)
    np.testing.assert_allclose(
        long.apply(longer, jnp.asarray(U2)),
        short.apply(variables, jnp.asarray(U2), steps=4),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="cannot extend"):
        extend_steps(variables, jax.tree.map(lambda a: a[None], variables))


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({"steps": -1}, (1, 4, 4, 3), "steps=-1"),
        ({"norm": "instance"}, (1, 4, 4, 3), 'lrn, batch, .*got "instance"'),
        ({"recurrent_init": "zeros"}, (1, 4, 4, 3), 'he, lecun, .*got "zeros"'),
        ({"features": 12}, (1, 4, 4, 3), "multiple of 8, got 12"),
        ({"norm": "group", "groups": 3}, (1, 4, 4, 3), "divides the 8 channels, got 3"),
        ({}, (4, 4, 3), r"2 spatial axes, channels\], got shape \(4, 4, 3\)"),
        ({"recurrent_kernel_size": (3,)}, (1, 4, 4, 3), "as many axes"),
        ({"features": 0}, (1, 4, 4, 3), "features=0"),
        ({"kernel_size": (0, 3)}, (1, 4, 4, 3), r"kernel_size .* got \(0, 3\)"),
        ({"recurrent_kernel_size": (3, 0)}, (1, 4, 4, 3), r"recurrent_kernel_size .* \(3, 0\)"),
        ({"lrn_size": 0}, (1, 4, 4, 3), "lrn_size .* got 0"),
        ({"momentum": 2.0}, (1, 4, 4, 3), "momentum .* got 2.0"),
        ({"epsilon": -1.0}, (1, 4, 4, 3), "epsilon must not be negative"),
        ({"lrn_beta": -1.0}, (1, 4, 4, 3), "lrn_beta must not be negative"),
    ],
)
def test_impossible_layers(attributes, shape, message):
    module = RCL(**({"features": K} | attributes))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("trained", "steps", "message"), [(2, -1, "steps=-1"), (0, 1, "runs 0 steps, got steps=1")]
)
def test_impossible_calls(trained, steps, message):
    module = RCL(features=8, steps=trained)
    u = jnp.zeros((1, 4, 4, 3))
    variables = filled(module, u)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(module.apply, steps=steps), variables, u)
