"""The tagger: encodings against vectors written out, padding, learning, devices and types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from layers.recurrent import oracles
from rcnn_jax.data.text.vocabulary import PAD, UNK, one_of_n
from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.layers.recurrent.cell import cell_by_name
from rcnn_jax.models import tagger
from rcnn_jax.models.tagger import Tagger
from rcnn_jax.summary.layer_table import summarize
from rcnn_jax.summary.listing import parse_input

RNG = np.random.default_rng(0)
BATCH, TIME, WORDS, TAGS = 4, 6, 9, 4
LENGTHS = np.array([6, 1, 0, 4], np.int32)
IDS = RNG.integers(0, WORDS, (BATCH, TIME)).astype(np.int32)
IDS[0, 2] = PAD
TRIGRAMS = RNG.integers(0, WORDS, (BATCH, TIME, 5)).astype(np.int32)
TRIGRAMS[..., 3:] = np.where(RNG.random((BATCH, TIME, 2)) < 0.5, PAD, TRIGRAMS[..., 3:])
TRIGRAMS[0, 0] = TRIGRAMS[0, 0, 0]  # one trigram several times
KEY = np.array([0, 3], np.uint32)
TARGETS = RNG.integers(0, TAGS, (BATCH, TIME))
LIVE = np.arange(TIME)[None] < LENGTHS[:, None]

# Every encoding, cell and direction.
TAGGERS = {
    "elman": {"cell": "elman", "encoding": "one_hot", "window": 3},
    "jordan, both": {
        "cell": "jordan",
        "encoding": "one_hot_other",
        "window": 5,
        "direction": "bidirectional",
    },
    "blstm": {
        "cell": "lstm",
        "encoding": "trigrams",
        "window": 3,
        "direction": "bidirectional",
    },
    "gru, two layers": {"cell": "gru", "encoding": "embedding", "window": 3, "layers": 2},
}
every_tagger = pytest.mark.parametrize("name", list(TAGGERS))


def build(name, **attributes):
    shared = {"classes": TAGS, "vocabulary": WORDS, "features": 5, "hidden": 6, "dropout": 0.05}
    return Tagger(**{**shared, "word_dropout": 0.05, **TAGGERS[name], **attributes})


def input_of(model):
    return TRIGRAMS if model.encoding == "trigrams" else IDS


def filled(model, dtype=np.float64):
    """Parameters with random numbers everywhere."""
    x = input_of(model)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: (0.5 * rng.normal(size=s.shape)).astype(dtype), shapes)


def loss_of(model, variables, x, key, lengths=LENGTHS, targets=TARGETS):
    """Summed cross-entropy over the tokens that count, dropout on; logits beside it."""
    logits = model.apply(variables, x, train=True, lengths=lengths, rngs={"dropout": key})
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    mask = jnp.arange(x.shape[1])[None] < jnp.asarray(lengths)[:, None]
    return jnp.where(mask, losses, 0).sum(), logits


@functools.cache
def graded(name):
    """Value and gradient in double precision, compiled once a model."""
    loss = functools.partial(loss_of, build(name, param_dtype="float64"))
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def evaluated(name, variables, x, lengths):
    """Logits in double precision, of sentences that are padded to twice their batch's length."""
    apply = evaluation(name, param_dtype="float64")
    logits = apply(variables, np.concatenate([x, x[::-1]], axis=1), lengths=lengths)
    assert not logits[:, TIME:].any()
    return np.asarray(logits[:, :TIME])


@functools.cache
def evaluation(name, **attributes):
    return jax.jit(functools.partial(build(name, **attributes).apply, train=False))


def encoded(model, params, x, length):
    """What the recurrent layer sees at each step of one sentence, place by place."""
    steps = []
    for t in range(length):
        window = [t + place - model.window // 2 for place in range(model.window)]
        words = [x[s] if 0 <= s < length else None for s in window]
        if model.encoding == "embedding":
            vectors = [
                params["outside"] if word is None or word < 0 else params["embedding"][word]
                for word in words
            ]
            steps.append(np.concatenate(vectors))
            continue
        vectors = [
            np.zeros(WORDS) if word is None
            # A list of trigrams is their counts; a word is a list of one.
            else one_of_n(np.atleast_1d(word), WORDS).sum(axis=0)
            for word in words
        ]  # fmt: skip
        kernel = params["window_kernel"].reshape(-1, model.features)
        steps.append(np.concatenate(vectors) @ kernel + params["window_bias"])
    return np.array(steps)


@every_tagger
def test_logits_are_those_of_vectors_written_out(name, x64):
    model = build(name, param_dtype="float64")
    variables = filled(model)
    logits = evaluated(name, variables, input_of(model), LENGTHS)
    assert not logits[~LIVE].any()
    params = variables["params"]
    jordan = model.cell == "jordan"
    options = {"outputs": TAGS} if jordan else {}
    cell = cell_by_name(model.cell, model.hidden, **options)
    for row, length in enumerate(LENGTHS):
        if not length:
            continue
        x = encoded(model, params, input_of(model)[row], length)[None]
        for number in range(model.layers):
            layer = params["recurrent"][f"layer{number}"]
            ways = ("forward", "backward") if model.direction == "bidirectional" else ("",)
            runs = []
            for way in ways:
                start = {part: np.zeros((1, n)) for part, n in cell.carry_features().items()}
                weights = layer[way] if way else layer
                runs.append(oracles.run(cell, weights, x, start, reverse=way == "backward")[0])
            x = sum(runs) if jordan else np.concatenate(runs, axis=-1)
        expected = x if jordan else x @ params["head"]["kernel"] + params["head"]["bias"]
        np.testing.assert_allclose(logits[row, :length], expected[0], rtol=1e-9, atol=1e-12)


@every_tagger
def test_padding_changes_nothing(name, x64):
    """Neither loss, logits nor gradients, whatever lies beyond, dropout on."""
    model = build(name, param_dtype="float64")
    variables, x = filled(model), input_of(model)
    expected = graded(name)(variables, x, KEY)
    beyond = LIVE if x.ndim == 2 else LIVE[..., None]
    for filling in (0, 10**6, PAD):
        other = np.where(beyond, x, filling).astype(np.int32)
        assert (other != x).any()
        found = graded(name)(variables, other, KEY)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    # Nor does a sentence depend on its neighbours in the batch.
    whole = evaluated(name, variables, x, LENGTHS)
    moved = evaluated(name, variables, np.roll(x, 1, axis=0), np.roll(LENGTHS, 1))
    np.testing.assert_allclose(moved, np.roll(whole, 1, axis=0), rtol=1e-10, atol=1e-12)


@every_tagger
def test_overfits_one_batch(name, x64):
    model = build(name, param_dtype="float64")
    x = input_of(model)
    lengths = np.full(BATCH, TIME, np.int32)
    leaves, tree = jax.tree.flatten(filled(model))

    def loss_in_evaluation():
        logits = evaluated(name, tree.unflatten(leaves), x, lengths)
        right = np.take_along_axis(logits, TARGETS[..., None], -1)[..., 0]
        return np.mean(np.logaddexp.reduce(logits, -1) - right)

    assert loss_in_evaluation() > 1
    mean, square = [0.0] * len(leaves), [0.0] * len(leaves)
    keys = np.asarray(jax.random.split(KEY, 60))
    for number, key in enumerate(keys, start=1):  # Adam
        _, gradient = jax.device_get(graded(name)(tree.unflatten(leaves), x, key, lengths))
        gradient = jax.tree.leaves(gradient)
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, gradient, strict=True)]
        square = [0.99 * s + 0.01 * g**2 for s, g in zip(square, gradient, strict=True)]
        rate = 0.05 / (1 - 0.9**number)
        leaves = [
            p - rate * m / (np.sqrt(s / (1 - 0.99**number)) + 1e-8)
            for p, m, s in zip(leaves, mean, square, strict=True)
        ]
    assert loss_in_evaluation() < 0.2


@every_tagger
def test_gradients_are_whole_and_those_of_finite_differences(name, x64):
    model = build(name, param_dtype="float64")
    variables, x = filled(model), input_of(model)
    _, gradient = jax.device_get(graded(name)(variables, x, KEY))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(leaf).max() > 1e-9, path
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), variables)
    ahead, behind = (
        graded(name)(jax.tree.map(lambda p, d, s=s: p + s * d, variables, direction), x, KEY)[0][0]
        for s in (1e-6, -1e-6)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
    np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-5)


def test_four_devices_draw_and_compute_what_one_does(x64):
    name = "gru, two layers"
    model = build(name, param_dtype="float64")
    variables = filled(model)
    lengths = np.array([6, 2, 3, 4], np.int32)

    def on_a_device(x, lengths, targets):
        return loss_of(model, variables, x, KEY, lengths, targets)[1]

    four = jax.pmap(on_a_device, axis_name=DATA_AXIS)
    spread = four(*(a.reshape(4, 1, *a.shape[1:]) for a in (IDS, lengths, TARGETS)))
    (_, logits), _ = graded(name)(variables, IDS, KEY, lengths)
    np.testing.assert_allclose(spread[:, 0], logits, rtol=1e-9, atol=1e-12)
    # Dropout was on.
    plain = evaluated(name, variables, IDS, lengths)
    assert np.abs(plain - logits).max() > 1e-3


@pytest.mark.parametrize("name", ["jordan, both", "blstm"])
def test_bfloat16_keeps_parameters_and_logits_wide(name):
    model = build(name, dtype="bfloat16")
    x = input_of(model)
    variables = filled(model, np.float32)
    made = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype("float32")}
    low = evaluation(name, dtype="bfloat16")(variables, x, lengths=LENGTHS)
    exact = evaluation(name)(variables, x, lengths=LENGTHS)
    assert low.dtype == exact.dtype == jnp.float32
    assert 0 < np.linalg.norm(low - exact) / np.linalg.norm(exact) < 0.05


@pytest.mark.parametrize(
    ("encoding", "unknown"),
    [("one_hot", PAD), ("one_hot_other", UNK), ("embedding", UNK), ("trigrams", PAD)],
)
def test_a_dropped_word_is_an_unknown_one(encoding, unknown):
    model = build("elman", encoding=encoding, word_dropout=0.3)
    x = np.repeat(input_of(model), 50, axis=0) + 1
    x[x == 0] = PAD
    drop = functools.partial(model.apply, {}, method=Tagger._without_some_words)
    left = np.asarray(drop(jnp.asarray(x), rngs={"dropout": jax.random.key(0)}))
    # All trigrams of a word go together, and what is no word stays none.
    words, kept = (a.reshape(*a.shape[:2], -1) for a in (x, left == x))
    assert (np.where(kept, words, unknown) == left.reshape(words.shape)).all()
    whole = (kept | (words < 0)).all(-1)
    assert (whole | ~(kept & (words >= 0)).any(-1)).all()
    assert abs(1 - whole.mean() - 0.3 * (words >= 0).any(-1).mean()) < 0.04


def test_training_alone_drops_words():
    """Dropping all, what is left of a sentence is its length."""
    model = build("gru, two layers", layers=1, word_dropout=1.0, dropout=0.0)
    variables = filled(model, np.float32)

    @jax.jit
    def three(x):
        key = {"dropout": jax.random.key(0)}
        dropped = model.apply(variables, x, train=True, lengths=LENGTHS, rngs=key)
        unknown = jnp.where(x < 0, x, UNK)
        return dropped, *(
            model.apply(variables, ids, train=False, lengths=LENGTHS) for ids in (unknown, x)
        )

    dropped, unknown, seen = three(IDS)
    np.testing.assert_allclose(dropped, unknown, rtol=1e-6)
    assert np.abs(seen - unknown).max() > 1e-3


def test_a_word_beyond_the_vocabulary_is_no_other_word():
    """It would be answered as if nothing were wrong, were it taken for the last one."""
    model = build("gru, two layers", window=1, layers=1)
    x = IDS.copy()
    x[0, 3] = WORDS
    apply = jax.jit(functools.partial(model.apply, train=False))
    logits = apply(filled(model, np.float32), x)
    assert np.isfinite(logits[0, :3]).all()
    assert np.isnan(logits[0, 3:]).all()
    assert np.isfinite(logits[1:]).all()


@pytest.mark.parametrize(
    ("attributes", "count"),
    [
        # The network of Mesnil et al.: one table, a window of 7, one hidden layer.
        (
            {"cell": "elman", "window": 7},
            (50 + 1) * 100 + 700 * 100 + 100 * 100 + 100 + 100 * 10 + 10,
        ),
        (
            {"cell": "jordan", "window": 7},
            (50 + 1) * 100 + 700 * 100 + 10 * 100 + 100 + 100 * 10 + 10,
        ),
        (
            {"cell": "lstm", "encoding": "one_hot", "window": 3, "direction": "bidirectional"},
            3 * 50 * 100 + 100 + 2 * 4 * (100 * 100 + 100 * 100 + 100) + 200 * 10 + 10,
        ),
        (
            {"cell": "gru", "layers": 2},
            (50 + 1) * 100 + 2 * (3 * (100 * 100 + 100 * 100 + 100) + 100) + 100 * 10 + 10,
        ),
    ],
)
def test_parameters(attributes, count):
    found = summarize(Tagger(10, 50, **attributes), parse_input(tagger.EXAMPLE_INPUT))
    assert (found.parameters, found.output) == (count, ((1, 20, 10),))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"encoding": "bytes"}, "one_hot, one_hot_other, trigrams, embedding, got 'bytes'"),
        ({"direction": "backward"}, "forward, bidirectional, got 'backward'"),
        ({"window": 4}, "odd number of words, got 4"),
        ({"window": -1}, "odd number of words, got -1"),
        ({"vocabulary": 0}, "vocabulary of at least 1, got 0"),
        ({"layers": 0}, "layers of at least 1, got 0"),
        ({"hidden": 0}, "hidden=0"),
        ({"cell": "transformer"}, "elman, jordan, lstm, gru .* got cell='transformer'"),
        ({"cell": "jordan", "layers": 2}, "1 layer, got layers=2"),
        ({"encoding": "trigrams"}, r"integers \[batch, time, trigrams\], got int32"),
    ],
)
def test_impossible_taggers(attributes, message):
    model = build("elman", **attributes)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), IDS)


@pytest.mark.parametrize(
    ("x", "lengths", "message"),
    [
        (IDS.astype(np.float32), None, r"integers \[batch, time\], got float32"),
        (TRIGRAMS, None, r"got int32 of shape \(4, 6, 5\)"),
        (IDS, np.array([6, 7, 0, 0]), r"0\.\.6, .* got 7"),
        (IDS, np.array([6, 6]), "4 integers"),
    ],
)
def test_impossible_calls(x, lengths, message):
    model = build("elman")
    variables = filled(model, np.float32)
    with pytest.raises(ValueError, match=message):
        model.apply(variables, jnp.asarray(x), train=False, lengths=lengths)
