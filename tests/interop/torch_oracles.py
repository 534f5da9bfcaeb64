"""What torch's recurrent modules compute, in NumPy by the equations of their documentation."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def state_dict(kind, features, hidden, layers, bidirectional, seed=0, bias=True):
    """Random weights by torch's names."""
    rng = np.random.default_rng(seed)
    gates = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}[kind]
    state = {}
    for layer in range(layers):
        inputs = hidden * (1 + bidirectional) if layer else features
        for end in ("", "_reverse")[: 1 + bidirectional]:
            shapes = {"weight_ih": (gates * hidden, inputs), "weight_hh": (gates * hidden, hidden)}
            if bias:
                shapes |= {"bias_ih": (gates * hidden,), "bias_hh": (gates * hidden,)}
            for name, shape in shapes.items():
                value = rng.uniform(-0.6, 0.6, shape).astype(np.float32)
                state[f"{name}_l{layer}{end}"] = value
    return state


def step(kind, weights, h, c, x):
    w_ih, w_hh, b_ih, b_hh = weights
    from_input, from_hidden = w_ih @ x + b_ih, w_hh @ h + b_hh
    if kind == "gru":
        i_r, i_z, i_n = np.split(from_input, 3)
        h_r, h_z, h_n = np.split(from_hidden, 3)
        r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
        n = np.tanh(i_n + r * h_n)
        return (1 - z) * n + z * h, c
    total = from_input + from_hidden
    if kind == "lstm":
        i, f, g, o = np.split(total, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    return (np.tanh(total) if kind == "tanh" else np.maximum(total, 0)), c


def run(kind, state, x, lengths):
    """Outputs `[batch, time, features]` and the final hidden and memory, as packed sequences."""
    layers = 1 + max(int(key.split("_l")[1].split("_")[0]) for key in state)
    ends = ("", "_reverse") if any(key.endswith("_reverse") for key in state) else ("",)
    hidden = state["weight_hh_l0"].shape[1]
    x = x.astype(np.float64)
    final_h, final_c = [], []
    for layer in range(layers):
        merged = []
        for end in ends:
            names = [f"{name}_l{layer}{end}" for name in ("weight_ih", "weight_hh")]
            names += [f"{name}_l{layer}{end}" for name in ("bias_ih", "bias_hh")]
            rows = len(state[names[0]])
            weights = [state.get(name, np.zeros(rows)) for name in names]
            outputs = np.zeros((*x.shape[:2], hidden))
            last_h, last_c = np.zeros((len(x), hidden)), np.zeros((len(x), hidden))
            for n, length in enumerate(lengths):
                h, c = np.zeros(hidden), np.zeros(hidden)
                for t in range(length) if not end else reversed(range(length)):
                    h, c = step(kind, weights, h, c, x[n, t])
                    outputs[n, t] = h
                last_h[n], last_c[n] = h, c
            merged.append(outputs)
            final_h.append(last_h)
            final_c.append(last_c)
        x = np.concatenate(merged, axis=-1)
    return x, np.stack(final_h), np.stack(final_c)
