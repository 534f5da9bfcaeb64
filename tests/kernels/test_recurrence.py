"""The compiled recurrent loops against the scan, which is their reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rcnn_jax.kernels import library
from rcnn_jax.layers.recurrent import compiled, layer
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.layer import run_cell
from rcnn_jax.layers.recurrent.simple_cells import Elman, Jordan

pytestmark = pytest.mark.skipif(bool(library.problem()), reason=library.problem() or "usable")

CELLS = {
    "tanh": Elman(32),
    "relu": Elman(48, activation="relu"),
    "sigmoid": Elman(16, activation="sigmoid"),
    "identity": Elman(16, activation="identity"),
    "gru": GRU(48),
    "lstm": LSTM(64),
}
BATCH, TIME = 9, 6
RNG = np.random.default_rng(1)


def _arguments(cell, features=16, batch=BATCH, time=TIME, steps=0):
    """Weights, inputs, carry and what is added, as NumPy arrays in double precision."""
    weights = {
        name: RNG.normal(size=shape) / np.sqrt(shape[0] if len(shape) > 1 else 4)
        for group in cell.weights(features)
        for name, (_, shape) in group.items()
    }
    carry = {name: RNG.normal(size=(batch, n)) for name, n in cell.carry_features().items()}
    added = RNG.normal(size=(batch, steps, weights["bias"].shape[0])) if steps else None
    return weights, RNG.normal(size=(batch, time, features)), carry, added


def _cotangent(value):
    return jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)


def _results(cell, arguments, dtype, scan=False, lengths=None, reverse=False):
    """Outputs, last carry, and gradients."""
    arguments = jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)

    def run(weights, x, carry, added):
        return run_cell(cell, weights, x, carry, lengths=lengths, reverse=reverse, added=added)

    def both(*arguments):
        values, pull = jax.vjp(run, *arguments)
        return values, pull(jax.tree.map(_cotangent, values))

    with pytest.MonkeyPatch.context() as patch:
        if scan:
            patch.setattr(layer, "why_not", lambda cell, x: "the reference is asked for")
        else:
            assert dtype != jnp.float32 or compiled.why_not(cell, arguments[1]) == ""
        return jax.tree.map(np.asarray, jax.jit(both)(*arguments))


def _distances(found, wanted):
    return [
        np.linalg.norm((a - b).ravel()) / max(np.linalg.norm(b.ravel()), 1e-30)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    ]


def _assert_close(found, wanted, bound=2e-6):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert max(_distances(found, wanted)) < bound


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_values_and_gradients_are_those_of_the_scan(name, reverse):
    cell = CELLS[name]
    lengths = jnp.asarray([0, 1, 2, 3, 4, 5, 6, 6, 3])
    arguments = _arguments(cell, features=13 if reverse else 32, steps=3)
    for given in (None, lengths):
        found = _results(cell, arguments, jnp.float32, lengths=given, reverse=reverse)
        wanted = _results(cell, arguments, jnp.float32, scan=True, lengths=given, reverse=reverse)
        _assert_close(found, wanted)
        if given is not None:
            assert not found[0][0][np.arange(TIME)[None] >= np.asarray(given)[:, None]].any()


@pytest.fixture
def optimized():
    """Compiles as outside of tests, with the products that are fast."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.parametrize("name", ["tanh", "gru", "lstm"])
def test_errors_are_no_larger_than_those_of_the_scan(name, optimized):
    """Against double precision they are 0.88 to 1.14 of the scan's, as measured with AVX-512."""
    cell = {"tanh": Elman(256), "gru": GRU(256), "lstm": LSTM(256)}[name]
    arguments = _arguments(cell, features=256, batch=16, time=20)
    with jax.enable_x64(True):
        exact = _results(cell, arguments, jnp.float64)
    compiled_error = _distances(_results(cell, arguments, jnp.float32), exact)
    scan_error = _distances(_results(cell, arguments, jnp.float32, scan=True), exact)
    for here, there in zip(compiled_error, scan_error, strict=True):
        assert here < 1.2 * there + 1e-8


def _activation(kind, values):
    """An Elman network of one step whose weights are zero."""
    cell = Elman(16, activation=kind)
    weights = {name: jnp.zeros_like(jnp.asarray(a)) for name, a in _arguments(cell)[0].items()}
    weights = {name: a.astype(jnp.float32) for name, a in weights.items()}
    values = jnp.asarray(values, jnp.float32).reshape(-1, 1, 16)
    batch = values.shape[0]
    x, carry = jnp.zeros((batch, 1, 16)), {"hidden": jnp.zeros((batch, 16))}
    assert compiled.why_not(cell, x) == ""
    return np.asarray(run_cell(cell, weights, x, carry, added=values)[0]).ravel()


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])
def test_activations_are_right_to_two_units_in_the_last_place(kind):
    at = np.concatenate([np.linspace(-12, 12, 40000), np.geomspace(1e-6, 1, 40000), [0.0] * 16])
    at = at[: at.size // 16 * 16].astype(np.float32)
    found, exact = _activation(kind, at), at.astype(np.float64)
    wanted = np.tanh(exact) if kind == "tanh" else 1 / (1 + np.exp(-exact))
    units = np.abs(found - wanted) / np.spacing(np.abs(wanted).astype(np.float32))
    assert units.max() < 2.5
    assert (np.abs(found) <= 1).all()


def test_activations_at_the_ends_and_of_nan():
    at = np.array([np.nan, np.inf, -np.inf, 88, -88, 1e30, -1e30, 0.0] * 2, np.float32)
    np.testing.assert_array_equal(_activation("tanh", at)[:8], [np.nan, 1, -1, 1, -1, 1, -1, 0])
    found = _activation("sigmoid", at)[:8]
    np.testing.assert_allclose(found, [np.nan, 1, 0, 1, 0, 1, 0, 0.5], atol=1e-37)
    np.testing.assert_array_equal(
        _activation("relu", at)[:8], [np.nan, np.inf, 0, 88, 0, np.float32(1e30), 0, 0]
    )


@pytest.mark.parametrize("name", ["tanh", "gru", "lstm"])
def test_nan_stays_in_its_sequence(name):
    cell = CELLS[name]
    weights, x, carry, _ = _arguments(cell)
    x[3, 2, 5] = np.nan
    (outputs, last), _ = _results(cell, (weights, x, carry, None), jnp.float32)
    assert np.isnan(outputs[3, 2:]).all()
    assert np.isnan(last["hidden"][3]).all()
    assert not np.isnan(outputs[3, :2]).any()
    assert not np.isnan(np.delete(outputs, 3, 0)).any()


def _loss(cell, weights, x, lengths):
    carry = {name: jnp.ones((x.shape[0], n)) for name, n in cell.carry_features().items()}
    outputs, last = run_cell(cell, weights, x, carry, lengths=lengths)
    return (outputs**2).sum() + sum(a.sum() for a in last.values())


def _loss_of(name):
    cell = CELLS[name]
    weights, x, *_ = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), _arguments(cell, batch=32))
    lengths = jnp.asarray(RNG.integers(0, TIME + 1, 32))
    assert compiled.why_not(cell, x) == ""
    return functools.partial(_loss, cell), (weights, x, lengths)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_four_devices_cut_the_batch(name):
    loss, (weights, x, lengths) = _loss_of(name)
    pull = jax.jit(jax.value_and_grad(loss, (0, 1)))
    wanted = jax.tree.map(np.asarray, pull(weights, x, lengths))
    mesh = jax.make_mesh((4,), ("data",))
    cut, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    arrays = jax.device_put((weights, x, lengths), (whole, cut, cut))
    text = pull.lower(*arrays).compile().as_text()
    assert "all-gather" not in text
    assert "all-reduce" in text
    value, gradients = pull(*arrays)
    assert gradients[1].sharding.spec[0] == "data"
    _assert_close(jax.tree.map(np.asarray, (value, gradients)), wanted)


def test_shard_map_and_pmap():
    loss, (weights, x, lengths) = _loss_of("lstm")
    wanted = jax.tree.map(np.asarray, jax.grad(loss)(weights, x, lengths))

    def of_part(weights, x, lengths):
        return jax.lax.psum(jax.grad(loss)(weights, x, lengths), "data")

    mesh, cut = jax.make_mesh((4,), ("data",)), PartitionSpec("data")
    spread = jax.device_put((x, lengths), NamedSharding(mesh, cut))
    mapped = jax.shard_map(
        of_part,
        mesh=mesh,
        in_specs=(PartitionSpec(), cut, cut),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    _assert_close(jax.tree.map(np.asarray, jax.jit(mapped)(weights, *spread)), wanted)
    parts = [a.reshape(4, -1, *a.shape[1:]) for a in (x, lengths)]
    found = jax.pmap(of_part, "data", in_axes=(None, 0, 0))(weights, *parts)
    _assert_close(jax.tree.map(lambda a: np.asarray(a[0]), found), wanted)


@pytest.mark.parametrize("name", ["tanh", "gru", "lstm"])
def test_vmap_remat_and_a_scan_around_it(name):
    loss, (weights, x, lengths) = _loss_of(name)
    groups = x.reshape(4, 8, *x.shape[1:]), lengths.reshape(4, 8)
    each = [jax.grad(loss)(weights, *(a[n] for a in groups)) for n in range(4)]
    wanted = jax.tree.map(lambda *a: np.stack(a), *each)
    mapped = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))(weights, *groups)
    _assert_close(jax.tree.map(np.asarray, mapped), wanted)
    total = jax.tree.map(lambda a: a.sum(axis=0), wanted)

    def steps(weights):
        def body(sum_before, group):
            return sum_before + jax.checkpoint(loss)(weights, *group), None

        return jax.lax.scan(body, jnp.zeros(()), groups)[0]

    _assert_close(jax.tree.map(np.asarray, jax.jit(jax.grad(steps))(weights)), total)


def test_what_runs_as_a_scan():
    x = jnp.zeros((8, 5, 16))
    for cell, given, reason in (
        (LSTM(20), x, "no multiple of 16"),
        (LSTM(32, peepholes=True), x, "LSTM.peepholes=True"),
        (LSTM(32, forget_gate=False), x, "LSTM.forget_gate=False"),
        (LSTM(32, output_activation="relu"), x, "LSTM.output_activation='relu'"),
        (GRU(32, activation="relu"), x, "GRU.activation='relu'"),
        (GRU(32, reset_after=False), x, "GRU.reset_after=False"),
        (Jordan(32, outputs=16), x, "Jordan"),
        (LSTM(32), x.astype(jnp.bfloat16), "bfloat16"),
        (LSTM(32), x[:, :0], "no steps"),
    ):
        assert reason in compiled.why_not(cell, given)
        weights, _, carry, _ = _arguments(cell, batch=given.shape[0])
        as_given = functools.partial(jnp.asarray, dtype=given.dtype)
        weights, carry = jax.tree.map(as_given, (weights, carry))
        outputs, _ = run_cell(cell, weights, given, carry)
        assert outputs.shape == (*given.shape[:2], cell.output_features)
    assert compiled.why_not(LSTM(32), x) == ""


def test_symbolic_sizes_run_as_a_scan():
    batch = jax.export.symbolic_shape("batch")[0]
    x = jax.ShapeDtypeStruct((batch, 5, 16), jnp.float32)
    assert compiled.why_not(LSTM(32), x) == "the shape is not known"


def test_a_switch_leaves_xla_alone(monkeypatch):
    monkeypatch.setenv("RCNN_JAX_KERNELS", "0")
    assert "RCNN_JAX_KERNELS=0" in compiled.why_not(LSTM(32), jnp.zeros((8, 5, 16)))


def test_other_derivatives_say_what_to_do():
    loss, (weights, x, lengths) = _loss_of("gru")
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda w: loss(w, x, lengths), (weights,), (weights,))
    with pytest.raises(NotImplementedError, match="no second derivative: use implementation="):
        jax.grad(lambda x: jax.grad(loss, 1)(weights, x, lengths).sum())(x)


def _wrong(**changes):
    """Calls the library past every check of Python's."""
    hidden, batch, time = 32, 5, 4
    shapes = {
        "x": (batch, time, 16), "kernel": (16, 128), "bias": (128,), "recurrent": (hidden, 128),
        "recurrent_bias": (0,), "hidden": (batch, hidden), "memory": (batch, hidden),
        "added": (batch, 2, 128), "mask": (batch, time),
    }  # fmt: skip
    shapes |= changes
    results = [
        (batch, time, hidden), (batch, hidden), (batch, hidden), (16, 128), (hidden, 128),
        (2, batch, 128),
        (2, batch, hidden + 16),
    ]  # fmt: skip
    call = jax.ffi.ffi_call(
        library._registered("RcnnRecurrence"),
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in results],
    )
    numbers = {"cell": np.int64(2), "activation": np.int64(0), "reverse": np.int64(0)}
    return jax.block_until_ready(call(*(jnp.ones(s) for s in shapes.values()), **numbers))


@pytest.mark.parametrize(
    "changes",
    [
        {"x": (5, 4, 15)},
        {"x": (5, 3, 16)},
        {"x": (5, 64)},
        {"kernel": (16, 96)},
        {"bias": (127,)},
        {"recurrent": (32, 96)},
        {"recurrent": (24, 96)},
        {"recurrent_bias": (32,)},
        {"hidden": (4, 32)},
        {"memory": (5, 16)},
        {"added": (5, 5, 128)},
        {"added": (5, 2, 64)},
        {"mask": (5, 5)},
    ],
)
def test_wrong_shapes_are_errors(changes):
    _wrong()
    with pytest.raises(Exception, match="a kernel of rcnn_jax: "):
        _wrong(**changes)
