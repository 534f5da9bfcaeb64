"""Hand-worked examples, parameter counts and initial values of the cells, and cells by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers.recurrent.oracles import CELLS, FEATURES, HIDDEN
from rcnn_jax.layers.recurrent.cell import cell_by_name
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.layer import Recurrent, run_cell, zero_carry
from rcnn_jax.layers.recurrent.simple_cells import Elman, Jordan

F, H, O = FEATURES, HIDDEN, 3  # noqa: E741
COUNTS = {
    "elman": F * H + H * H + H,
    "elman_relu": F * H + H * H + H,
    "mesnil": F * H + O * H + H + H * O + O,
    "jordan": F * H + O * H + H + H * O + O,
    "lstm": 4 * (F * H + H * H + H),
    "lstm_peepholes": 4 * (F * H + H * H + H) + 3 * H,
    "lstm_1997": 3 * (F * H + H * H + H) + 2 * H,
    "gru": 3 * (F * H + H * H + H) + H,
    "gru_reset_before": 3 * (F * H + H * H + H),
}


@pytest.mark.parametrize("learned", [False, True], ids=["zero", "learned"])
@pytest.mark.parametrize("name", CELLS)
def test_parameter_counts(name, learned):
    cell = CELLS[name]
    layer = Recurrent(cell, learned_carry=learned)
    variables = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((2, 5, FEATURES)))
    sizes = [leaf.size for leaf in jax.tree.leaves(variables)]
    assert sum(sizes) == COUNTS[name] + learned * sum(cell.carry_features().values())


def hand_worked(activation):
    """The outputs, and the memory before each step, of the LSTM worked by hand."""
    cell = LSTM(1, activation=activation, output_activation=activation)
    weights = {
        # Rows are inputs, columns the gates i, f, g, o.
        "kernel": jnp.array([[0, 0, 1, 0], [100, 100, 0, 0], [0, 0, 0, 100]], jnp.float32),
        "bias": jnp.array([-10, 10, 0, -10], jnp.float32),
        "recurrent_kernel": jnp.zeros((1, 4)),
    }
    rows = "1,0,0 3,1,0 2,0,0 4,1,0 2,0,0 1,0,1 3,-1,0 6,1,0 1,0,1"
    x = jnp.array([[float(v) for v in row.split(",")] for row in rows.split()])[None]
    step = jax.jit(functools.partial(run_cell, cell))
    carry, memories, outputs = zero_carry(cell, 1), [], []
    for t in range(x.shape[1]):
        memories.append(float(carry["memory"][0, 0]))
        output, carry = step(weights, x[:, t : t + 1], carry)
        outputs.append(float(output[0, 0, 0]))
    return outputs, memories


def test_the_hand_worked_lstm():
    # Published teaching example; a closed gate lets sigmoid(-10) = 4.5e-5 through.
    outputs, memories = hand_worked("identity")
    np.testing.assert_allclose(outputs, [0, 0, 0, 0, 0, 7, 0, 0, 6], atol=2e-3)
    np.testing.assert_allclose(memories, [0, 0, 3, 3, 7, 7, 7, 0, 6], atol=2e-3)
    assert hand_worked("tanh")[0][5] == pytest.approx(0.964, abs=5e-4)


@pytest.mark.parametrize("implementation", ["scan", "autodiff"])
def test_the_linear_elman_network(implementation):
    cell = Elman(2, activation="identity")
    weights = {"kernel": jnp.ones((2, 2)), "recurrent_kernel": jnp.ones((2, 2))}
    x = jnp.array([[[1.0, 1], [1, 1], [2, 2]]])
    hidden, _ = run_cell(
        cell,
        weights | {"bias": jnp.zeros(2)},
        x,
        zero_carry(cell, 1),
        implementation=implementation,
    )
    np.testing.assert_array_equal(hidden[0] @ jnp.ones((2, 2)), [[4, 4], [12, 12], [32, 32]])


def test_state_units_of_jordan_sum_past_outputs():
    """With a decay of 1 and linear outputs the state counts: s(t) = sum of all outputs so far."""
    cell = Jordan(1, outputs=1, activation="identity", feedback="identity", decay=1.0)
    one = jnp.ones((1, 1))
    weights = dict.fromkeys(("kernel", "recurrent_kernel", "output_kernel"), one)
    weights |= {"bias": jnp.zeros(1), "output_bias": jnp.zeros(1)}
    x = jnp.array([[[1.0], [0], [0], [0]]])
    outputs, carry = run_cell(cell, weights, x, zero_carry(cell, 1))
    np.testing.assert_array_equal(outputs[0, :, 0], [1, 1, 2, 4])
    assert carry["state"] == 8


def test_initial_weights():
    def drawn(cell):
        layer = Recurrent(cell, learned_carry=True)
        return jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 2, 200)))["params"]

    lstm = drawn(LSTM(50, forget_bias=1.5, peepholes=True))
    np.testing.assert_array_equal(
        lstm["bias"].reshape(4, 50), np.outer([0, 1.5, 0, 0], np.ones(50))
    )
    for gate in range(4):
        square = lstm["recurrent_kernel"][:, 50 * gate : 50 * (gate + 1)]
        np.testing.assert_allclose(square.T @ square, np.eye(50), atol=1e-5)
    # Variance 1 / fan-in, each gate drawn by itself.
    np.testing.assert_allclose(lstm["kernel"].std(), 200**-0.5, rtol=0.03)
    assert not np.allclose(lstm["kernel"][:, :50], lstm["kernel"][:, 50:100])
    assert not any(lstm[name].any() for name in ("peephole", "initial_hidden", "initial_memory"))
    irnn = drawn(Elman(5, activation="relu", recurrent_init="identity"))
    np.testing.assert_array_equal(irnn["recurrent_kernel"], np.eye(5))


def test_cells_by_name():
    assert cell_by_name("elman", 8, activation="relu") == Elman(8, activation="relu")
    assert cell_by_name("jordan", 8, outputs=3) == Jordan(8, outputs=3)
    assert cell_by_name("lstm", 8, peepholes=True) == LSTM(8, peepholes=True)
    assert cell_by_name("gru", 8, reset_after=False) == GRU(8, reset_after=False)
    fork = cell_by_name("layers.recurrent.test_scan:Leaky", 8)
    assert fork.hidden == 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rnn", {}, "elman, jordan, lstm, gru or an import path .*got cell='rnn'"),
        ("lstm", {"peephole": True}, "takes no argument 'peephole': did you mean 'peepholes'"),
        ("lstm", {"activation": "swish"}, "tanh, relu, sigmoid, identity, got 'swish'"),
        ("lstm", {"output_activation": "softmax"}, "LSTM.output_activation is one of"),
        ("gru", {"hidden": 0}, "GRU needs at least 1 hidden unit, got hidden=0"),
        ("gru", {"recurrent_init": "zeros"}, 'orthogonal, identity, got "zeros"'),
        ("elman", {"activation": "softmax"}, "Elman.activation is one of"),
        ("jordan", {"outputs": 0}, "at least 1 output unit, got outputs=0"),
        ("jordan", {"outputs": 2, "feedback": "argmax"}, "softmax, got 'argmax'"),
        ("jordan", {"outputs": 2, "decay": 1.5}, r"lie in \[0, 1\], got 1.5"),
        ("jordan", {}, "outputs"),
        ("collections:Counter", {}, "takes no argument|is no cell"),
    ],
)
def test_impossible_cells(name, options, message):
    with pytest.raises(ValueError, match=message):
        cell_by_name(name, **({"hidden": 4} | options))
