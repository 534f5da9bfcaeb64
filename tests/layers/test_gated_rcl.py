"""The gated layer in training, by its equations: one axis, untied weights, every batch norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rcnn_jax.layers.rcl import RCL

RNG = np.random.default_rng(0)
U = RNG.normal(size=(3, 7, 4))
T, GAMMA = 3, 0.5


def conv(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )


@pytest.mark.parametrize("norm", ["batch", "batch_split", "batch_shared"])
@pytest.mark.parametrize("tie_weights", [True, False])
def test_states_and_statistics_of_training(norm, tie_weights, x64):
    layer = RCL(
        8, kernel_size=(3,), steps=T, gated=True, gamma=GAMMA, tie_weights=tie_weights,
        norm=norm, momentum=0.25, param_dtype="float64",
    )  # fmt: skip
    u = jnp.asarray(U)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), u)
    variables = jax.tree.map(lambda s: jnp.asarray(RNG.normal(size=s.shape)), shapes)
    p, before = variables["params"], variables["batch_stats"]
    used = {}

    def normalized(place, z, call):
        mean, variance = z.mean((0, 1), keepdims=True), z.var((0, 1), keepdims=True)
        used.setdefault(place, []).append((mean.ravel(), variance.ravel()))
        own = p[f"norm_{place}"]
        scale, bias = (own[n][call] if own[n].ndim == 2 else own[n] for n in ("scale", "bias"))
        return (z - mean) / jnp.sqrt(variance + 1e-5) * scale[None, None] + bias[None, None]

    def kernel(name, t):
        return p[name] if tie_weights else p[name][t - 1]

    f, g = conv(u, p["kernel"]), conv(u, p["gate_kernel"])
    states = [jax.nn.relu(normalized("feedforward", f, 0))]
    for t in range(1, T + 1):
        x, call = states[-1], t - 1
        gate = jax.nn.sigmoid(
            normalized("gate_feedforward", g, call)
            + normalized("gate_recurrent", conv(x, kernel("recurrent_gate_kernel", t)), call)
        )
        recurrent = normalized("recurrent", conv(x, kernel("recurrent_kernel", t)), call)
        product = normalized("product", recurrent * gate, call)
        states.append(jax.nn.relu(GAMMA * normalized("feedforward", f, t) + product))

    run = jax.jit(lambda v: layer.apply(v, u, train=True, all_states=True, mutable=["batch_stats"]))
    actual, updated = run(variables)
    np.testing.assert_allclose(actual, jnp.stack(states), rtol=1e-9, atol=1e-12)
    assert set(used) == {name.removeprefix("norm_") for name in before}
    for place, moments in used.items():
        old, new = (tree[f"norm_{place}"] for tree in (before, updated["batch_stats"]))
        for name, values in zip(("mean", "var"), zip(*moments, strict=True), strict=True):
            if norm == "batch_shared":
                expected = old[name]
                for value in values:
                    expected = 0.25 * expected + 0.75 * value
            else:
                expected = 0.25 * old[name] + 0.75 * jnp.stack(values)
            np.testing.assert_allclose(new[name], expected, rtol=1e-9, atol=1e-12)
