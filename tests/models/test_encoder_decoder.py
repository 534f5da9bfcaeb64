"""The encoder-decoder: logits and greedy answers written out, padding, gradients, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from layers.recurrent import oracles
from rcnn_jax.data.text.vocabulary import BOS, EOS, PAD, UNK
from rcnn_jax.layers.recurrent.cell import cell_by_name
from rcnn_jax.models.encoder_decoder import EncoderDecoder, greedy

RNG = np.random.default_rng(0)
BATCH, TIME, STEPS, WORDS, CLASSES = 4, 5, 4, 7, 6
SOURCE = RNG.integers(0, WORDS, (BATCH, TIME)).astype(np.int32)
LENGTHS = np.array([5, 1, 0, 3], np.int32)
TARGETS = RNG.integers(3, CLASSES, (BATCH, STEPS)).astype(np.int32)
TARGETS[:, -1] = EOS
TARGETS[1, 1] = CLASSES  # a token that training has not
KEY = np.array([0, 3], np.uint32)
MODELS = {
    "lstm": {"cell": "lstm"},
    "gru, two layers": {"cell": "gru", "layers": 2, "reverse": False},
}
every_model = pytest.mark.parametrize("name", list(MODELS))


def build(name, **attributes):
    shared = {"classes": CLASSES, "vocabulary": WORDS, "features": 4, "hidden": 5, "dropout": 0.1}
    return EncoderDecoder(**{**shared, **MODELS[name], **attributes})


@functools.cache
def computed(name):
    """Logits and greedy answers in evaluation; loss and gradients in training; in float64."""
    model = build(name, param_dtype="float64")

    def all_of(variables, source, lengths, targets, key):
        def loss(variables):
            rngs = {"dropout": key}
            logits = model.apply(
                variables, source, train=True, lengths=lengths, targets=targets, rngs=rngs
            )
            right = jnp.where(targets < CLASSES, targets, 0)
            return optax.softmax_cross_entropy_with_integer_labels(logits, right).sum()

        logits = model.apply(variables, source, train=False, lengths=lengths, targets=targets)
        written = greedy(model, variables, source, lengths, STEPS + 2)
        return logits, written, *jax.value_and_grad(loss)(variables)

    return jax.jit(all_of)


def filled(name, dtype=np.float64):
    init = functools.partial(build(name).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), SOURCE)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(dtype), shapes)


def run_stack(model, layers, x, carries):
    cell, ends = cell_by_name(model.cell, model.hidden), []
    for number in range(model.layers):
        x, end = oracles.run(cell, layers[f"layer{number}"], x, carries[number])
        ends.append(end)
    return x, ends


@every_model
def test_logits_and_greedy_answers_written_out(name, x64):
    model, variables = build(name), filled(name)
    params = variables["params"]
    params["head"]["bias"][EOS] += 2 * model.layers  # so that some answers end early
    logits, written, *_ = computed(name)(variables, SOURCE, LENGTHS, TARGETS, KEY)
    cell = cell_by_name(model.cell, model.hidden)
    zero = {part: np.zeros((1, n)) for part, n in cell.carry_features().items()}
    ended = 0
    for row, length in enumerate(LENGTHS):
        ids = SOURCE[row, :length][:: -1 if model.reverse else 1]
        carries = [zero] * model.layers
        if length:
            _, carries = run_stack(model, params["encoder"], params["source_embedding"][ids][None],
                                   carries)  # fmt: skip

        def answer(ids, carries=carries):
            ids = [UNK if i >= CLASSES else i for i in ids]
            x = params["target_embedding"][np.array(ids)][None]
            states, _ = run_stack(model, params["decoder"], x, carries)
            return states[0] @ params["head"]["kernel"] + params["head"]["bias"]

        np.testing.assert_allclose(logits[row], answer([BOS, *TARGETS[row, :-1]]), rtol=1e-8)
        said = []
        while len(said) < STEPS + 2 and EOS not in said:
            said.append(int(answer([BOS, *said])[-1].argmax()))
        ended += EOS in said[:-1] or (said[-1] == EOS and len(said) < STEPS + 2)
        said += [PAD] * (STEPS + 2 - len(said))
        np.testing.assert_array_equal(written[row], said)
    assert ended


@every_model
def test_padding_changes_nothing(name, x64):
    """Neither logits, answers, loss nor gradients, dropout on."""
    variables = filled(name)
    expected = computed(name)(variables, SOURCE, LENGTHS, TARGETS, KEY)
    beyond = np.arange(TIME)[None] >= LENGTHS[:, None]
    for filling in (PAD, 10**6):
        other = np.where(beyond, filling, SOURCE).astype(np.int32)
        found = computed(name)(variables, other, LENGTHS, TARGETS, KEY)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@every_model
def test_gradients_are_whole_and_those_of_finite_differences(name, x64):
    variables = filled(name)
    arguments = (SOURCE, LENGTHS, TARGETS, KEY)
    *_, gradient = computed(name)(variables, *arguments)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(leaf).max() > 1e-9, path
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), variables)
    ahead, behind = (
        computed(name)(jax.tree.map(lambda p, d, s=s: p + s * d, variables, direction), *arguments)[
            2
        ]
        for s in (1e-6, -1e-6)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
    np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-5)


@every_model
def test_overfits_one_batch_and_writes_it(name, x64):
    lengths = np.array([5, 1, 2, 3], np.int32)
    targets = np.where(TARGETS < CLASSES, TARGETS, 3).astype(np.int32)
    optimizer = optax.adam(0.05)

    @jax.jit
    def learn(variables):
        def step(carry, key):
            variables, moments = carry
            *_, gradient = computed(name)(variables, SOURCE, lengths, targets, key)
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(variables, updates), moments), None

        keys = jax.random.split(KEY, 200)
        (variables, _), _ = jax.lax.scan(step, (variables, optimizer.init(variables)), keys)
        return computed(name)(variables, SOURCE, lengths, targets, KEY)[1]

    written = np.asarray(learn(jax.tree.map(lambda p: 0.4 * p, filled(name))))
    np.testing.assert_array_equal(written[:, :STEPS], targets)
    assert (written[:, STEPS:] == PAD).all()


def test_bfloat16_keeps_parameters_and_logits_wide():
    variables = filled("lstm", np.float32)

    @jax.jit
    def two(source):
        return [
            build("lstm", dtype=dtype).apply(variables, source, train=False, targets=TARGETS)
            for dtype in ("bfloat16", None)
        ]

    low, exact = two(SOURCE)
    assert low.dtype == exact.dtype == jnp.float32
    assert 0 < np.linalg.norm(low - exact) / np.linalg.norm(exact) < 0.05


@pytest.mark.parametrize(
    ("attributes", "x", "targets", "says"),
    [
        ({"classes": 2}, SOURCE, None, "needs classes of at least 3, got 2"),
        ({"vocabulary": 0}, SOURCE, None, "needs vocabulary of at least 1, got 0"),
        ({"cell": "jordan"}, SOURCE, None, "cell='jordan' answers at each step"),
        ({}, SOURCE[0], None, r"reads integers \[batch, time\], got int32 of shape \(5,\)"),
        ({}, SOURCE.astype(np.float32), None, "got float32"),
        ({}, SOURCE, TARGETS[0], r"targets are integers \[batch, steps\].*\(4,\)"),
    ],
)
def test_what_does_not_fit(attributes, x, targets, says):
    init = functools.partial(build("lstm", **attributes).init, train=False)
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(lambda x: init(jax.random.key(0), x, targets=targets), x)
