"""Weights of torch's recurrent modules compute the same here, and come back unchanged."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import torch_oracles
from rcnn_jax.interop.torch_recurrent import describe, from_torch, to_torch
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.simple_cells import Elman
from rcnn_jax.layers.recurrent.stack import Stack

RNG = np.random.default_rng(0)
FEATURES, HIDDEN = 3, 5
KINDS = {"tanh": "elman", "relu": "elman", "gru": "gru", "lstm": "lstm"}
SHAPES = [(1, False), (1, True), (3, True)]
X = RNG.normal(size=(4, 6, FEATURES)).astype(np.float32)
LENGTHS = np.array([6, 4, 3, 1])


def ours(kind, state):
    """Outputs, and final hidden and memory in torch's layout `[layers * directions, batch, n]`."""
    layer = describe(state).stack(nonlinearity=kind if kind == "relu" else "tanh")
    variables = {"params": from_torch(state)}
    call = jax.jit(functools.partial(layer.apply, train=False))
    outputs, carries = call(variables, X, lengths=jnp.asarray(LENGTHS))
    flat = []
    for carry in carries:
        flat += [carry["forward"], carry["backward"]] if layer.bidirectional else [carry]
    return outputs, *(
        np.stack([carry[name] for carry in flat])
        for name in ("hidden", "memory")
        if name in flat[0]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
def test_the_equations_of_torch(kind, layers, bidirectional):
    state = torch_oracles.state_dict(kind, FEATURES, HIDDEN, layers, bidirectional)
    assert describe(state) == (KINDS[kind], FEATURES, HIDDEN, layers, bidirectional)
    expected = torch_oracles.run(kind, state, X, LENGTHS)
    for actual, wanted in zip(ours(kind, state), expected, strict=False):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
def test_the_modules_of_torch(kind, layers, bidirectional):
    """The same against torch itself, with packed sequences; and our weights in its modules."""
    torch = pytest.importorskip("torch")
    options = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": True}
    if kind in ("tanh", "relu"):
        module = torch.nn.RNN(FEATURES, HIDDEN, nonlinearity=kind, **options)
    else:
        module = getattr(torch.nn, kind.upper())(FEATURES, HIDDEN, **options)
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(X), torch.from_numpy(LENGTHS), batch_first=True
    )

    def by_torch():
        with torch.no_grad():
            outputs, final = module(packed)
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        final = final if kind == "lstm" else (final,)
        return [value.numpy() for value in (outputs, *final)]

    expected = by_torch()
    actual = ours(kind, state)
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    back = to_torch(from_torch(state))
    module.load_state_dict({name: torch.from_numpy(value) for name, value in back.items()})
    for one, other in zip(by_torch(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "cell", [Elman(HIDDEN), GRU(HIDDEN), LSTM(HIDDEN)], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_our_weights_come_back_unchanged(cell, bidirectional):
    layer = Stack((cell, cell), bidirectional=bidirectional)
    init = functools.partial(layer.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), X)["params"]
    params = jax.tree.map(lambda s: RNG.normal(size=s.shape).astype(np.float32), shapes)
    state = to_torch(params)
    assert describe(state).stack() == layer
    back = from_torch(state)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_modules_without_biases():
    state = torch_oracles.state_dict("gru", FEATURES, HIDDEN, 1, False, bias=False)
    expected, *_ = torch_oracles.run("gru", state, X, LENGTHS)
    np.testing.assert_allclose(ours("gru", state)[0], expected, atol=1e-5)


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


STATE = torch_oracles.state_dict("lstm", FEATURES, HIDDEN, 2, True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "count from 0"),
        (STATE | {"weight_hr_l0": np.ones((2, 5))}, "'weight_hr_l0' is no weight.*projections"),
        (without(STATE, "weight_ih_l1_reverse"), "lack 'weight_ih_l1_reverse'"),
        (without(STATE, "bias_hh_l0"), "lack 'bias_hh_l0'"),
        (
            {k.replace("l0", "l2"): v for k, v in STATE.items()},
            "count from 0",
        ),
        (STATE | {"weight_ih_l1": np.ones((20, 5))}, r"shape \(20, 10\), got \(20, 5\)"),
        (STATE | {"bias_ih_l0": np.ones((20, 1))}, r"axes than torch's: shape \(20, 1\)"),
        (STATE | {"weight_hh_l0": np.ones((10, 5))}, r"1, 3 or 4 times .*got shape \(10, 5\)"),
    ],
)
def test_other_state_dicts_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        from_torch(state)


def behind(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("prefix", ["lstm.", "module.encoder.rnn."])
def test_a_module_inside_another(prefix):
    """Its state dict alone, and with other arrays beside it if the prefix is named."""
    wanted = from_torch(STATE)
    others = {"fc.weight": np.ones((2, 5)), "weight_hr_l0": np.ones(3)}
    for state, options in (
        (behind(prefix, STATE), {}),
        (behind(prefix, STATE) | others, {"prefix": prefix}),
        (behind(prefix, STATE) | behind("decoder.", STATE), {"prefix": prefix}),
    ):
        assert describe(state, **options) == describe(STATE)
        found = from_torch(state, **options)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(
    ("state", "options", "message"),
    [
        (
            behind("lstm.", STATE) | {"fc.weight": np.ones(1), "fc.bias": np.ones(1)},
            {},
            "module behind 'lstm.' there is 'fc.weight' and 1 more: .* by prefix='lstm.'",
        ),
        (
            behind("encoder.", STATE) | behind("decoder.", STATE),
            {},
            "several recurrent modules, behind 'encoder.' and 'decoder.': .*prefix='encoder.'",
        ),
        (
            behind("lstm.", STATE),
            {"prefix": "gru."},
            r"no name begins with prefix='gru\.': there are (lstm\.\S+, ){4}\S+ and 11 more$",
        ),
        (
            behind("lstm.", STATE | {"weight_hr_l0": np.ones((2, 5))}),
            {},
            "'weight_hr_l0' is no weight .*projections are not supported",
        ),
        ({"weight_ih": np.ones((4, 3)), "weight_hh": np.eye(4)}, {}, "of a single cell .*'_l0'"),
        ({"fc.weight": np.ones((4, 3))}, {}, r"'fc\.weight' is no weight .*_l0' or [^(]*$"),
    ],
)
def test_what_stands_beside_a_recurrent_module_is_named(state, options, message):
    with pytest.raises(ValueError, match=message):
        from_torch(state, **options)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Stack((LSTM(4, peepholes=True),)), "layer0 holds .*'peephole'"),
        (Stack((GRU(4, reset_after=False),)), "layer0 holds .*'candidate_kernel'"),
        (Stack((LSTM(4, forget_gate=False),), bidirectional=True), "layer0 has 3 gates"),
        (Stack((Elman(4),), learned_carry=True), "layer0 holds .*zero state"),
        (Stack((Elman(4), GRU(4))), "'weight_ih_l1' must have shape"),
    ],
)
def test_weights_without_a_counterpart_are_refused(layer, message):
    init = functools.partial(layer.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), X)["params"]
    with pytest.raises(ValueError, match=message):
        to_torch(jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes))


def test_other_names_are_refused():
    with pytest.raises(ValueError, match=r"called layer0, layer1, .*got 'params'"):
        to_torch({"params": {}})
