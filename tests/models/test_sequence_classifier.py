"""The sequence classifier: last states written out, padding, gradients, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from layers.recurrent import oracles
from rcnn_jax.layers.recurrent.cell import cell_by_name
from rcnn_jax.models.sequence_classifier import SequenceClassifier

RNG = np.random.default_rng(0)
BATCH, TIME, FEATURES, CLASSES, HIDDEN = 5, 6, 3, 4, 5
X = RNG.normal(size=(BATCH, TIME, FEATURES))
LENGTHS = np.array([6, 1, 3, 0, 4], np.int32)
TARGETS = np.array([0, 1, 2, 3, 1])
MODELS = {
    "elman": {"cell": "elman"},
    "blstm": {"cell": "lstm", "direction": "bidirectional"},
    "gru, two layers": {"cell": "gru", "layers": 2},
}
every_model = pytest.mark.parametrize("name", list(MODELS))


def build(name, **attributes):
    return SequenceClassifier(
        **{"classes": CLASSES, "hidden": HIDDEN, **MODELS[name], **attributes}
    )


@functools.cache
def computed(name):
    """Logits in evaluation, and loss and gradients in training, in double precision."""
    model = build(name, param_dtype="float64", dropout=0.2)

    def both(variables, x, lengths, key):
        def loss(variables):
            rngs = {"dropout": key}
            logits = model.apply(variables, x, train=True, lengths=lengths, rngs=rngs)
            return optax.softmax_cross_entropy_with_integer_labels(logits, TARGETS).sum()

        logits = model.apply(variables, x, train=False, lengths=lengths)
        return logits, *jax.value_and_grad(loss)(variables)

    return jax.jit(both)


def filled(name, dtype=np.float64):
    shapes = jax.eval_shape(functools.partial(build(name).init, train=False), jax.random.key(0), X)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (0.5 * rng.normal(size=s.shape)).astype(dtype), shapes)


KEY = np.array([0, 3], np.uint32)


@every_model
def test_logits_are_those_of_the_last_states(name, x64):
    model, variables = build(name), filled(name)
    logits, *_ = computed(name)(variables, X, LENGTHS, KEY)
    cell = cell_by_name(model.cell, HIDDEN)
    head = variables["params"]["head"]
    for row, length in enumerate(LENGTHS):
        x = X[row : row + 1, :length]
        states = np.zeros(head["kernel"].shape[0])
        for number in range(model.layers if length else 0):
            layer = variables["params"]["recurrent"][f"layer{number}"]
            start = {part: np.zeros((1, n)) for part, n in cell.carry_features().items()}
            ways = ("forward", "backward") if "forward" in layer else ("",)
            runs = [
                oracles.run(cell, layer[way] if way else layer, x, start, reverse=way == "backward")
                for way in ways
            ]
            x = np.concatenate([outputs for outputs, _ in runs], axis=-1)
            states = np.concatenate([carry["hidden"][0] for _, carry in runs])
        np.testing.assert_allclose(logits[row], states @ head["kernel"] + head["bias"], rtol=1e-9)


@every_model
def test_padding_changes_nothing(name, x64):
    """Neither logits, loss nor gradients, whatever lies beyond, dropout on."""
    variables = filled(name)
    expected = computed(name)(variables, X, LENGTHS, KEY)
    beyond = np.arange(TIME)[None] >= LENGTHS[:, None]
    other = np.where(beyond[..., None], 1e6, X)
    jax.tree.map(
        np.testing.assert_array_equal, computed(name)(variables, other, LENGTHS, KEY), expected
    )


@every_model
def test_gradients_are_whole_and_those_of_finite_differences(name, x64):
    variables = filled(name)
    *_, gradient = computed(name)(variables, X, LENGTHS, KEY)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(leaf).max() > 1e-9, path
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), variables)
    ahead, behind = (
        computed(name)(
            jax.tree.map(lambda p, d, s=s: p + s * d, variables, direction), X, LENGTHS, KEY
        )[1]
        for s in (1e-6, -1e-6)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
    np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-5)


@every_model
def test_overfits_one_batch(name, x64):
    lengths = np.array([6, 1, 3, 2, 4], np.int32)
    optimizer = optax.adam(0.05)

    @jax.jit
    def learn(variables):
        def step(carry, key):
            variables, moments = carry
            *_, gradient = computed(name)(variables, X, lengths, key)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(variables, updates), moments), None

        keys = jax.random.split(KEY, 80)
        (variables, _), _ = jax.lax.scan(step, (variables, optimizer.init(variables)), keys)
        return computed(name)(variables, X, lengths, KEY)[0]

    logits = learn(filled(name))
    assert (np.argmax(logits, -1) == TARGETS).all()
    right = np.take_along_axis(np.asarray(logits), TARGETS[:, None], -1)[:, 0]
    assert np.mean(np.logaddexp.reduce(logits, -1) - right) < 0.2


def test_an_image_is_the_sequence_of_its_rows():
    model, image = build("elman"), X.astype(np.float32).reshape(BATCH, TIME, FEATURES, 1)
    apply = jax.jit(functools.partial(model.apply, train=False))
    variables = filled("elman", np.float32)
    np.testing.assert_array_equal(apply(variables, image), apply(variables, image[..., 0]))


def test_bfloat16_keeps_parameters_and_logits_wide():
    variables = filled("blstm", np.float32)
    x = X.astype(np.float32)

    @jax.jit
    def two(x):
        return [
            build("blstm", dtype=dtype).apply(variables, x, train=False)
            for dtype in ("bfloat16", None)
        ]

    low, exact = two(x)
    assert low.dtype == exact.dtype == jnp.float32
    assert 0 < np.linalg.norm(low - exact) / np.linalg.norm(exact) < 0.05


@pytest.mark.parametrize(
    ("attributes", "x", "says"),
    [
        ({"direction": "back"}, X, "direction is one of forward, bidirectional, got 'back'"),
        ({"layers": 0}, X, "needs layers of at least 1, got 0"),
        ({"classes": 0}, X, "needs classes of at least 1, got 0"),
        ({"cell": "jordan"}, X, "cell='jordan' answers at each step"),
        ({}, X[0], r"takes floating \[batch, time, features\] or images.*got float"),
        ({}, X[:, :0], r"at least 1 step long, got float.. of shape \(5, 0, 3\)"),
        ({}, X.astype(int), "got int"),
    ],
)
def test_what_does_not_fit(attributes, x, says):
    model = build("elman", **attributes)
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)


def test_options_of_the_cell_reach_it():
    x = jnp.zeros((2, 3, 4))

    def shapes(**attributes):
        model = SequenceClassifier(classes=2, hidden=5, **attributes)
        return jax.eval_shape(lambda: model.init(KEY, x, train=False))["params"]

    plain, seen = shapes(), shapes(cell_options={"peepholes": True})
    flat = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(plain)}
    more = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(seen)}
    (peephole,) = more - flat
    assert "peephole" in peephole
    with pytest.raises(ValueError, match="did you mean 'peepholes'"):
        shapes(cell_options={"peephole": True})
    with pytest.raises(ValueError, match=r"cell_options\.hidden is decided by the model"):
        shapes(cell_options={"hidden": 7})
