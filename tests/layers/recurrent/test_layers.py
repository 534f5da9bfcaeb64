"""Padding, directions, stacks, chunks, precision and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers.recurrent.oracles import CELLS, FEATURES, random_carry, random_weights, run
from rcnn_jax.layers.masks import checked_lengths, reverse_within
from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.layer import Bidirectional, Recurrent
from rcnn_jax.layers.recurrent.simple_cells import Elman
from rcnn_jax.layers.recurrent.stack import Stack, in_chunks

RNG = np.random.default_rng(0)
BATCH, TIME = 4, 6
X = RNG.normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
LENGTHS = np.array([6, 1, 0, 4])
MIXED = Stack((LSTM(4), GRU(3)), bidirectional=True, dropout=0.4, learned_carry=True)


def filled(layer, x=X, **call):
    """Parameters of the layer with random numbers everywhere, in the dtype of `x`."""
    shapes = jax.eval_shape(functools.partial(layer.init, **call), jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(0.5 * RNG.normal(size=s.shape), x.dtype), shapes)


def close(actual, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), actual, expected)


def weighted(values):
    """A sum over all leaves, each element with a weight of its own."""
    leaves = jax.tree.leaves(values)
    return sum(jnp.sum(jnp.sin(jnp.arange(v.size, dtype=v.dtype) + 1) * v.ravel()) for v in leaves)


def test_padding_changes_nothing():
    """Neither values nor gradients, with dropout, both directions and two kinds of cells."""
    variables = filled(MIXED, train=False)
    beyond = np.arange(TIME)[None] >= LENGTHS[:, None]
    garbage = np.where(beyond[..., None], 1e3 * RNG.normal(size=X.shape), X).astype(np.float32)
    poison = np.where(beyond[..., None], np.nan, X).astype(np.float32)
    longer = np.concatenate([X, np.full((BATCH, 3, FEATURES), 7, np.float32)], axis=1)

    def values(variables, x):
        key = {"dropout": jax.random.key(2)}
        outputs, carry = MIXED.apply(variables, x, train=True, lengths=LENGTHS, rngs=key)
        return outputs[:, :TIME], carry

    def loss(variables, x):
        found = values(variables, x)
        return weighted(found), found

    @jax.jit
    def both(variables, x):
        gradients, found = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, x)
        return found, *gradients

    expected, of_weights, of_x = both(variables, X)
    assert not expected[0][beyond].any()
    assert expected[0][~beyond].all()
    assert not of_x[beyond].any()
    assert of_x[~beyond].all()
    for other in (garbage, poison):
        close(both(variables, other), (expected, of_weights, of_x), rtol=1e-6, atol=1e-6)
    close(jax.jit(values)(variables, longer), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_bidirectional_is_two_runs_by_hand(merge, x64):
    cell, x = CELLS["lstm"], X.astype(np.float64)
    weights = {name: random_weights(cell, seed=k) for k, name in enumerate(("forward", "backward"))}
    start = {name: random_carry(cell, BATCH, seed=k) for k, name in enumerate(weights)}
    layer = Bidirectional(cell, merge=merge)
    apply = jax.jit(layer.apply)
    outputs, carry = apply({"params": weights}, x, lengths=LENGTHS, initial_carry=start)
    runs = {
        name: run(cell, weights[name], x, start[name], LENGTHS, reverse=name == "backward")
        for name in weights
    }
    merged = [runs["forward"][0], runs["backward"][0]]
    expected = sum(merged) if merge == "sum" else np.concatenate(merged, axis=-1)
    close(outputs, expected, rtol=1e-10, atol=1e-12)
    close(carry, {name: last for name, (_, last) in runs.items()}, rtol=1e-10, atol=1e-12)
    # Backwards is forwards over each sequence turned within its length.
    turned = reverse_within(jnp.asarray(x), jnp.asarray(LENGTHS))
    again, _ = run(cell, weights["backward"], np.asarray(turned), start["backward"], LENGTHS)
    close(reverse_within(jnp.asarray(again), jnp.asarray(LENGTHS)), merged[1], rtol=1e-12)


def test_a_stack_is_its_layers(x64):
    layer = Stack((LSTM(4), GRU(3)), learned_carry=True)
    x = X.astype(np.float64)
    variables = filled(layer, x, train=False)
    outputs, carries = jax.jit(functools.partial(layer.apply, train=False))(variables, x)
    expected, last = x, []
    for number, cell in enumerate(layer.cells):
        weights = {k: np.asarray(v) for k, v in variables["params"][f"layer{number}"].items()}
        start = {k: np.tile(weights[f"initial_{k}"], (BATCH, 1)) for k in cell.carry_features()}
        expected, carry = run(cell, weights, expected, start)
        last.append(carry)
    close(outputs, expected, rtol=1e-10)
    close(carries, tuple(last), rtol=1e-10)


def test_dropout_acts_between_layers_only():
    """Dropping everything, the second layer sees zeros, and its own output is not touched."""
    layer = Stack((Elman(4), Elman(3)), dropout=1.0)
    variables = filled(layer, train=False)
    # No key is needed for a rate of 1, but the collection is asked for one.
    x = jnp.asarray(X)
    outputs, _ = layer.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)})
    blind = Recurrent(Elman(3))
    zeros = jnp.zeros((BATCH, TIME, 4))
    expected, _ = blind.apply({"params": variables["params"]["layer1"]}, zeros)
    close(outputs, expected, rtol=1e-6)
    assert outputs.any()
    whole, _ = layer.apply(variables, x, train=False)
    assert not np.allclose(whole, outputs)


def test_chunks_are_the_whole_and_truncate_the_gradient(x64):
    layer, chunk = Stack((LSTM(3), GRU(3)), learned_carry=True), 4
    x = jnp.asarray(X, jnp.float64)
    variables = filled(layer, x, train=False)

    def call(variables, x, **options):
        return layer.apply(variables, x, train=False, **options)

    def chunked(variables, truncate):
        apply = functools.partial(call, variables)
        return in_chunks(apply, x, chunk=chunk, lengths=LENGTHS, truncate=truncate)

    def by_hand(variables):
        """A loss of each chunk by itself, as a training loop takes them."""
        first, carry = call(variables, x[:, :4], lengths=np.minimum(LENGTHS, 4))
        carry = jax.tree.map(jax.lax.stop_gradient, carry)
        left = np.maximum(LENGTHS - 4, 0)
        last, carry = call(variables, x[:, 4:], lengths=left, initial_carry=carry)
        return jnp.concatenate([first, last], axis=1), carry

    @jax.jit
    def everything(variables):
        def of(function):
            return jax.grad(lambda v: weighted(function(v)))(variables)

        whole = functools.partial(call, x=x, lengths=LENGTHS)
        values = [whole(variables), chunked(variables, True)]
        cut = [of(lambda v: chunked(v, True)), of(by_hand)]
        return values, [of(whole), of(lambda v: chunked(v, False))], cut

    values, exact, cut = everything(variables)
    for expected, actual in (values, exact, cut):
        close(actual, expected, rtol=1e-9, atol=1e-12)
    of_kernel = [g["params"]["layer0"]["recurrent_kernel"] for g in (exact[0], cut[0])]
    assert np.abs(of_kernel[0] - of_kernel[1]).max() > 1e-3


def test_four_devices_draw_and_compute_what_one_does():
    layer = Stack((LSTM(4), GRU(3)), dropout=0.4, learned_carry=True)
    variables = filled(layer, train=False)
    x = np.concatenate([X, 2 * X])
    lengths = jnp.asarray(np.concatenate([LENGTHS, LENGTHS[::-1]]))

    def gradient(variables, x, lengths):
        def loss(variables):
            key = {"dropout": jax.random.key(3)}
            outputs, _ = layer.apply(variables, x, train=True, lengths=lengths, rngs=key)
            return jnp.sum(outputs**2), outputs

        (_, outputs), of_variables = jax.value_and_grad(loss, has_aux=True)(variables)
        return outputs, of_variables

    def on_device(*arguments):
        outputs, of_variables = gradient(*arguments)
        return outputs, jax.lax.psum(of_variables, DATA_AXIS)

    whole = jax.jit(gradient)
    expected, of_variables = whole(variables, x, lengths)
    spread = jax.pmap(on_device, axis_name=DATA_AXIS, in_axes=(None, 0, 0))
    outputs, of_spread = spread(variables, x.reshape(4, 2, *x.shape[1:]), lengths.reshape(4, 2))
    close(outputs.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    close(jax.tree.map(lambda g: g[0], of_spread), of_variables, rtol=1e-4, atol=1e-5)
    # Two halves that hold the same sequences: only the masks differ.
    again, _ = whole(variables, np.concatenate([X, X]), jnp.tile(lengths[:BATCH], 2))
    assert not np.allclose(again[:BATCH], again[BATCH:])


def test_bfloat16_keeps_parameters_wide():
    layer = Stack((LSTM(4, peepholes=True), GRU(4)), dtype="bfloat16", learned_carry=True)
    init = functools.partial(layer.init, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), X))} == {
        jnp.dtype("float32")
    }
    variables = filled(layer, train=False)

    @jax.jit
    def both(variables):
        def loss(variables, dtype):
            call = functools.partial(layer.clone(dtype=dtype).apply, train=False)
            outputs, carry = call(variables, jnp.asarray(X), lengths=LENGTHS)
            return jnp.sum(outputs.astype(jnp.float32) ** 2), (outputs, carry)

        grad = jax.grad(loss, has_aux=True)
        return grad(variables, "bfloat16"), grad(variables, "float32")

    (narrow, values), (wide, expected) = both(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(values)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {jnp.dtype("float32")}
    close(jax.tree.map(lambda v: v.astype(jnp.float32), values), expected, atol=0.05)
    flat = [jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)]) for g in (narrow, wide)]
    assert jnp.linalg.norm(flat[0] - flat[1]) < 0.05 * jnp.linalg.norm(flat[1])


def test_no_steps_and_no_lengths_are_allowed():
    layer = Recurrent(GRU(4))
    variables = filled(layer)
    start = {"hidden": jnp.ones((BATCH, 4))}
    apply = jax.jit(layer.apply)
    nothing = jnp.asarray(X[:, :0])
    gradient = jax.jit(jax.grad(lambda v: weighted(layer.apply(v, nothing))))(variables)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))
    outputs, carry = apply(variables, nothing, initial_carry=start)
    assert outputs.shape == (BATCH, 0, 4)
    np.testing.assert_array_equal(carry["hidden"], start["hidden"])
    outputs, carry = apply(variables, X, lengths=np.zeros(BATCH, int), initial_carry=start)
    assert not outputs.any()
    np.testing.assert_array_equal(carry["hidden"], start["hidden"])
    call = functools.partial(layer.apply, variables)
    outputs, carry = in_chunks(call, nothing, chunk=3, initial_carry=start)
    assert outputs.shape == (BATCH, 0, 4)
    np.testing.assert_array_equal(carry["hidden"], start["hidden"])


def test_lengths_of_an_argument_are_clipped():
    clipped = jax.jit(lambda lengths: checked_lengths(lengths, BATCH, TIME))
    np.testing.assert_array_equal(clipped(jnp.array([9, -3, 2, 6])), [6, 0, 2, 6])
    with pytest.raises(ValueError, match="got 9"):
        checked_lengths(jnp.array([9, -3, 2, 6]), BATCH, TIME)


@pytest.mark.parametrize("cell", [Elman(4, activation="relu"), LSTM(4), GRU(4)])
def test_what_is_added_is_as_if_more_had_been_read(cell):
    """Added to the first two steps: further features of the input that are zero afterwards."""
    layer = Recurrent(cell)
    variables = filled(layer)
    width = variables["params"]["bias"].shape[0]
    kernel = jnp.asarray(RNG.normal(size=(2, width)), X.dtype)
    further = RNG.normal(size=(BATCH, 2, 2)).astype(np.float32)
    rest = np.zeros((BATCH, TIME - 2, 2), np.float32)
    wider = jnp.asarray(np.concatenate([X, np.concatenate([further, rest], axis=1)], axis=2))
    whole = dict(variables["params"])
    whole["kernel"] = jnp.concatenate([whole["kernel"], kernel])

    @jax.jit
    def both(further):
        wanted = layer.apply({"params": whole}, wider, lengths=LENGTHS)
        return layer.apply(
            variables, jnp.asarray(X), lengths=LENGTHS, added=further @ kernel
        ), wanted

    close(*both(further), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape", "arguments", "message"),
    [
        (Recurrent(GRU(4)), (2, 3), {}, r"\[batch, time, features\], got shape \(2, 3\)"),
        (Recurrent(GRU(4)), (2, 5, 3), {"lengths": [-1, 5]}, r"lie in 0\.\.5, .*got -1"),
        (Recurrent(GRU(4)), (2, 5, 3), {"lengths": np.array([2, 6])}, r"0\.\.5, .*got 6"),
        (Recurrent(GRU(4)), (2, 5, 3), {"lengths": [5, 5, 5]}, r"be 2 integers.*shape \(3,\)"),
        (Recurrent(GRU(4)), (2, 5, 3), {"lengths": [5.0, 2.0]}, "2 integers.*float64"),
        (Recurrent(GRU(4), implementation="loop"), (2, 5, 3), {}, "cudnn, got 'loop'"),
        (
            Recurrent(LSTM(4)),
            (2, 5, 3),
            {"initial_carry": {"hidden": np.zeros((2, 4), np.float32)}},
            "must have the shapes .*memory",
        ),
        (
            Recurrent(GRU(4)),
            (2, 5, 3),
            {"initial_carry": {"hidden": np.zeros((1, 4), np.float32)}},
            r"\(2, 4\).*got .*\(1, 4\)",
        ),
        (Bidirectional(GRU(4), merge="mean"), (2, 5, 3), {}, "concat, sum, got 'mean'"),
        (
            Bidirectional(GRU(4)),
            (2, 5, 3),
            {"initial_carry": {"hidden": np.zeros((2, 4), np.float32)}},
            "forward and backward, got .*hidden",
        ),
        (Stack(()), (2, 5, 3), {"train": False}, "at least one cell"),
        (Stack((GRU(4),)), (2, 5, 3), {"train": False, "initial_carry": ()}, "1 layers.*got 0"),
    ],
)
def test_impossible_calls(layer, shape, arguments, message):
    call = functools.partial(layer.init, **arguments)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(BATCH, TIME + 1, 4), (BATCH, 1, 5)])
def test_what_cannot_be_added(shape):
    layer = Recurrent(Elman(4))
    with pytest.raises(ValueError, match=r"\[batch, steps, width\]"):
        layer.apply(filled(layer), jnp.asarray(X), added=jnp.zeros(shape))


def test_impossible_chunks():
    layer = Stack((GRU(4),), bidirectional=True)
    call = functools.partial(layer.apply, filled(layer, train=False), train=False)
    with pytest.raises(ValueError, match="chunk=0"):
        in_chunks(call, jnp.asarray(X), chunk=0)
    with pytest.raises(ValueError, match="bidirectional layer cannot read in chunks"):
        in_chunks(call, jnp.asarray(X), chunk=3)
