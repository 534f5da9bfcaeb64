"""The cuDNN door of the LSTM: on a CPU jax's own reference stands in for the library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

from layers.recurrent.oracles import CELLS, FEATURES, random_carry, random_weights
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.layer import run_cell

CELL = CELLS["lstm"]
LENGTHS = np.array([5, 1, 0, 4])
X = np.random.default_rng(0).normal(size=(4, 5, FEATURES)).astype(np.float32)


def arguments():
    values = (random_weights(CELL), X, random_carry(CELL, len(X)))
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), values)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU, or what computes the same from the same packed weights."""
    if jax.default_backend() == "gpu":
        return

    def reference(x, h, c, weights, lengths, features, hidden, layers, dropout, both):
        sizes = (features, hidden, layers, both)
        unpacked = rnn.unpack_lstm_weights(weights, *sizes)
        assert lengths.dtype == jnp.int32
        return rnn.lstm_ref(x, h, c, *unpacked, lengths, features, hidden, layers, dropout, both)

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(rnn, "lstm", reference)


@pytest.mark.parametrize(
    "options", [{}, {"lengths": LENGTHS}, {"lengths": LENGTHS, "reverse": True}], ids=str
)
def test_it_agrees_with_the_scan(options, gpu):
    options = {k: jnp.asarray(v) if k == "lengths" else v for k, v in options.items()}

    @jax.jit
    def both(arguments):
        def of(implementation):
            def loss(arguments):
                values = run_cell(CELL, *arguments, implementation=implementation, **options)
                return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(values)), values

            return jax.grad(loss, has_aux=True)(arguments)

        return of("cudnn"), of("scan")

    actual, expected = both(arguments())
    # A GPU's products are less exact by default.
    tolerance = 2e-6 if jax.devices()[0].platform == "cpu" else 5e-3
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


def test_it_needs_a_gpu():
    if jax.default_backend() == "gpu":
        pytest.skip("this is one")
    with pytest.raises(ValueError, match='needs an NVIDIA GPU, this is a cpu; use "scan"'):
        run_cell(CELL, *arguments(), implementation="cudnn")


@pytest.mark.parametrize(
    "cell",
    [GRU(4), LSTM(4, peepholes=True), LSTM(4, forget_gate=False), LSTM(4, activation="relu")],
    ids=str,
)
def test_it_runs_plain_lstms_only(cell, gpu):
    with pytest.raises(ValueError, match=r"an LSTM with a forget gate, tanh .*got"):
        run_cell(cell, *arguments(), implementation="cudnn")


def test_it_computes_in_float32_only(gpu):
    narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), arguments())
    with pytest.raises(ValueError, match="in float32, got bfloat16"):
        run_cell(CELL, *narrow, implementation="cudnn")
