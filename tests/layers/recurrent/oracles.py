"""Recurrent cells in NumPy by their definitions: one example and one time step at a time."""

import numpy as np

from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.simple_cells import Elman, Jordan

FEATURES = 3
HIDDEN = 4
CELLS = {
    "elman": Elman(HIDDEN),
    "elman_relu": Elman(HIDDEN, activation="relu"),
    "mesnil": Jordan(HIDDEN, outputs=3, activation="sigmoid", feedback="softmax"),
    "jordan": Jordan(HIDDEN, outputs=3, activation="tanh", feedback="sigmoid", decay=0.6),
    "lstm": LSTM(HIDDEN),
    "lstm_peepholes": LSTM(HIDDEN, peepholes=True, output_activation="identity"),
    "lstm_1997": LSTM(HIDDEN, forget_gate=False, peepholes=True, activation="sigmoid"),
    "gru": GRU(HIDDEN),
    "gru_reset_before": GRU(HIDDEN, reset_after=False),
}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": sigmoid,
    "identity": lambda z: z,
    "softmax": softmax,
}


def random_weights(cell, features=FEATURES, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: 0.7 * rng.normal(size=shape)
        for group in cell.weights(features)
        for name, (_, shape) in group.items()
    }


def random_carry(cell, batch, seed=1):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(batch, n)) for name, n in cell.carry_features().items()}


def elman(cell, w, carry, x):
    z = x @ w["kernel"] + carry["hidden"] @ w["recurrent_kernel"] + w["bias"]
    h = FUNCTIONS[cell.activation](z)
    return {"hidden": h}, h


def jordan(cell, w, carry, x):
    z = x @ w["kernel"] + carry["state"] @ w["recurrent_kernel"] + w["bias"]
    output = FUNCTIONS[cell.activation](z) @ w["output_kernel"] + w["output_bias"]
    fed_back = FUNCTIONS[cell.feedback](output)
    return {"state": cell.decay * carry["state"] + fed_back}, output


def lstm(cell, w, carry, x):
    n = cell.hidden
    z = x @ w["kernel"] + carry["hidden"] @ w["recurrent_kernel"] + w["bias"]
    names = "ifgo" if cell.forget_gate else "igo"
    z = {name: z[k * n : (k + 1) * n] for k, name in enumerate(names)}
    peep = {name: np.zeros(n) for name in "ifo"}
    if cell.peepholes:
        peep |= dict(zip([name for name in names if name != "g"], w["peephole"], strict=True))
    c = carry["memory"]
    i = sigmoid(z["i"] + peep["i"] * c)
    f = sigmoid(z["f"] + peep["f"] * c) if cell.forget_gate else 1.0
    c = f * c + i * FUNCTIONS[cell.activation](z["g"])
    o = sigmoid(z["o"] + peep["o"] * c)
    h = o * FUNCTIONS[cell.output_activation](c)
    return {"hidden": h, "memory": c}, h


def gru(cell, w, carry, x):
    n, h = cell.hidden, carry["hidden"]
    from_input = np.split(x @ w["kernel"] + w["bias"], 3)
    u = w["recurrent_kernel"]
    r = sigmoid(from_input[0] + h @ u[:, :n])
    z = sigmoid(from_input[1] + h @ u[:, n : 2 * n])
    if cell.reset_after:
        candidate = from_input[2] + r * (h @ u[:, 2 * n :] + w["recurrent_bias"])
    else:
        candidate = from_input[2] + (r * h) @ w["candidate_kernel"]
    h = (1 - z) * FUNCTIONS[cell.activation](candidate) + z * h
    return {"hidden": h}, h


STEPS = {Elman: elman, Jordan: jordan, LSTM: lstm, GRU: gru}


def run(cell, weights, x, carry, lengths=None, reverse=False):
    """Outputs `[batch, time, features]`, zero beyond the lengths, and the last carry."""
    batch, time, _ = x.shape
    outputs = np.zeros((batch, time, cell.output_features))
    last = {name: np.array(value) for name, value in carry.items()}
    for n in range(batch):
        steps = range(time if lengths is None else lengths[n])
        state = {name: value[n] for name, value in carry.items()}
        for t in reversed(steps) if reverse else steps:
            state, outputs[n, t] = STEPS[type(cell)](cell, weights, state, x[n, t])
        for name, value in state.items():
            last[name][n] = value
    return outputs, last
