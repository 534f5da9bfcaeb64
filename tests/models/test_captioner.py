"""The captioner against its equations by NumPy: in the form of the paper, and of NeuralTalk."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.data.text.vocabulary import BOS, EOS, PAD, UNK
from rcnn_jax.models.captioner import Captioner, multimodal_rnn, neuraltalk, neuraltalk_rnn

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
CLASSES, SIZE, BATCH, SENTENCES, STEPS = 9, 7, 3, 2, 5
X = jnp.asarray(RNG.normal(size=(BATCH, SIZE)), jnp.float32)
TARGETS = RNG.integers(3, CLASSES, (BATCH, SENTENCES, STEPS)).astype(np.int32)
TARGETS[0, 1, 3:] = (EOS, PAD)
COUNTS = (0, 0, 6, 1, 2, 3, 4, 5, 6)
SMALL = {"features": 4, "hidden": 5}


def filled(model, x=X, **call):
    init = functools.partial(model.init, train=False, **call)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(0.7 * RNG.normal(size=s.shape), x.dtype), shapes)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def relu_steps(p, words, x, every):
    """`h(t) = relu(W_hx x(t) + W_hh h(t-1) + b_h + 1[...] b_v)`, one sentence at a time."""
    hidden, outputs = np.zeros(len(p["recurrent"]["recurrent_kernel"])), []
    picture = x @ p["image_encoder"]["kernel"] + p["image_encoder"].get("bias", 0)
    for place, word in enumerate(words):
        z = word @ p["recurrent"]["kernel"] + hidden @ p["recurrent"]["recurrent_kernel"]
        z += p["recurrent"]["bias"] + (picture if every or place == 0 else 0)
        hidden = np.maximum(z, 0)
        outputs.append(hidden)
    return outputs


def lstm_steps(p, words, x):
    """An LSTM without tanh on the memory that reads the picture first; i, f, g, o."""
    hidden = memory = np.zeros(len(p["recurrent"]["recurrent_kernel"]))
    picture = x @ p["image_encoder"]["kernel"] + p["image_encoder"]["bias"]
    outputs = []
    for read in (picture, *words):
        z = read @ p["recurrent"]["kernel"] + hidden @ p["recurrent"]["recurrent_kernel"]
        i, f, g, o = np.split(z + p["recurrent"]["bias"], 4)
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * memory
        outputs.append(hidden)
    return outputs[1:]  # what follows the picture is no word


FORMS = {
    "paper": (multimodal_rnn, functools.partial(relu_steps, every=False)),
    "neuraltalk": (neuraltalk, lstm_steps),
    "neuraltalk, rnn": (neuraltalk_rnn, functools.partial(relu_steps, every=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_equations(form):
    make, oracle = FORMS[form]
    model = make(CLASSES, word_counts=COUNTS, **SMALL)
    variables = filled(model, targets=TARGETS)
    logits = jax.jit(functools.partial(model.apply, train=False))(variables, X, targets=TARGETS)
    assert logits.shape == (BATCH, SENTENCES, STEPS, CLASSES)
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    for picture in range(BATCH):
        for sentence in range(SENTENCES):
            ids = [BOS, *TARGETS[picture, sentence, :-1]]
            words = [p["word_embedding"][n] if n >= 0 else np.zeros(4) for n in ids]
            states = np.array(oracle(p, words, X[picture]))
            wanted = states @ p["head_kernel"] + p["head_bias"]
            np.testing.assert_allclose(logits[picture, sentence], wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("form", FORMS)
def test_step_by_step_is_all_at_once(form):
    """Through `begin` and `decode`, as a search goes."""
    model = FORMS[form][0](CLASSES, word_counts=COUNTS, **SMALL)
    variables = filled(model, targets=TARGETS)

    @jax.jit
    def both(variables):
        whole = model.apply(variables, X, train=False, targets=TARGETS)
        state = model.apply(variables, X, train=False, method="begin")
        ids, found = jnp.full((BATCH, 1), BOS), []
        for place in range(STEPS):
            logits, state = model.apply(variables, ids, state, train=False, method="decode")
            found.append(logits[:, 0])
            ids = jnp.asarray(TARGETS[:, 0, place : place + 1])
        return whole[:, 0], jnp.stack(found, axis=1)

    np.testing.assert_allclose(*both(variables), rtol=2e-4, atol=2e-5)


def test_the_presets_are_what_was_published():
    assert multimodal_rnn(2538).hidden == 512
    released = neuraltalk(2538, word_counts=(1,) * 2538)
    shapes = jax.eval_shape(
        functools.partial(released.init, train=False), jax.random.key(0), jnp.zeros((1, 4096))
    )
    # WLSTM has a row for the bias; image and word vectors and hidden units are 256 long.
    parts = (4096 * 256 + 256, 2538 * 256, (256 + 256 + 1) * 4 * 256, 256 * 2538 + 2538)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == sum(parts)


def test_initial_answers():
    """Words as frequent as in training, or all alike: the loss starts near log(classes)."""
    counted = neuraltalk(CLASSES, word_counts=COUNTS, **SMALL)
    start = jax.jit(functools.partial(counted.init, train=False))(jax.random.key(0), X)["params"]
    np.testing.assert_allclose(start["head_bias"], np.log(np.maximum(COUNTS, 0.5) / 6), rtol=1e-6)
    for kernel in (start["head_kernel"], start["recurrent"]["recurrent_kernel"]):
        assert 0.08 < float(jnp.abs(kernel).max()) <= 0.1
        assert 0.04 < float(kernel.std()) < 0.075, "evenly drawn"
    plain = multimodal_rnn(500, features=16, hidden=32)
    targets = RNG.integers(3, 500, (BATCH, SENTENCES, STEPS)).astype(np.int32)

    @jax.jit
    def first_loss(key):
        variables = plain.init(key, X, train=False)
        logits = plain.apply(variables, X, train=False, targets=targets)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    assert abs(float(first_loss(jax.random.key(0))) - np.log(500)) < 0.2


def test_it_learns_sixteen_pairs_by_heart():
    model = multimodal_rnn(20, features=16, hidden=32, dropout=0.0, output_dropout=0.0)
    x = jnp.asarray(RNG.normal(size=(16, SIZE)), jnp.float32)
    targets = RNG.integers(3, 20, (16, 1, 6)).astype(np.int32)
    targets[:, :, -1] = EOS
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)
    optimizer = optax.adam(0.01)

    def loss(variables):
        logits = model.apply(variables, x, train=True, targets=targets)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def train(variables):
        def update(carry, _):
            variables, state = carry
            value, gradient = jax.value_and_grad(loss)(variables)
            change, state = optimizer.update(gradient, state)
            return (optax.apply_updates(variables, change), state), value

        return jax.lax.scan(update, (variables, optimizer.init(variables)), None, length=200)[1]

    losses = train(variables)
    assert abs(float(losses[0]) - np.log(20)) < 0.3
    assert losses[-1] < 0.02


def test_what_follows_a_sentence_changes_nothing():
    model = multimodal_rnn(CLASSES, **SMALL)
    variables = filled(model, targets=TARGETS)
    longer = np.concatenate([TARGETS, np.full_like(TARGETS, PAD)], axis=2)
    run = functools.partial(model.apply, variables, X, train=False)
    shorter = run(targets=longer)[:, :, :STEPS]
    np.testing.assert_allclose(shorter, run(targets=TARGETS), rtol=1e-5, atol=1e-6)
    unknown = np.where(TARGETS == 5, CLASSES + 3, TARGETS)
    other = np.where(TARGETS == 5, UNK, TARGETS)
    np.testing.assert_array_equal(run(targets=unknown), run(targets=other))
    assert not np.array_equal(run(targets=other), run(targets=TARGETS))


def test_a_normalized_picture_has_no_size():
    model = multimodal_rnn(CLASSES, normalize_image=True, **SMALL)
    variables = filled(model, targets=TARGETS)
    run = jax.jit(functools.partial(model.apply, train=False))
    small, large = (run(variables, factor * X, targets=TARGETS) for factor in (0.01, 200.0))
    np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5)
    size = jnp.sqrt(jnp.square(X).mean(axis=1, keepdims=True))
    plain = model.clone(normalize_image=False).apply
    wanted = jax.jit(functools.partial(plain, train=False))(variables, X / size, targets=TARGETS)
    np.testing.assert_allclose(small, wanted, rtol=1e-4, atol=1e-5)


def test_dropout_spares_the_recurrence():
    """With everything that is read and written dropped, only biases speak."""
    model = multimodal_rnn(CLASSES, dropout=1.0, **SMALL)
    variables = filled(model, targets=TARGETS)
    # All units are awake, and the recurrence lets them grow.
    variables = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.1, variables)
    rngs = {"dropout": jax.random.key(0)}
    run = functools.partial(model.apply, variables, train=True, targets=TARGETS, rngs=rngs)
    blind = model.clone(output_dropout=0.0)
    seen = functools.partial(blind.apply, variables, train=True, targets=TARGETS, rngs=rngs)
    np.testing.assert_allclose(seen(X)[0], seen(X)[2], rtol=1e-5)
    states = seen(X)[0, 0]
    assert not np.allclose(states[0], states[1]), "the carry goes on"
    assert not np.array_equal(run(X), seen(X)), "outputs are dropped too"


class Colours(nn.Module):
    """A backbone as small as can be: a linear layer on the mean colour."""

    classes: int
    size: int = 4

    @nn.compact
    def __call__(self, x, *, train):
        assert self.classes == 0, "its last layer is removed"
        return nn.Dense(self.size, name="colours")(x.mean(axis=(1, 2)))


def test_a_backbone_is_a_part_of_the_model_and_learns():
    backbone = {"name": f"{__name__}:Colours", "size": 6}
    model = multimodal_rnn(CLASSES, backbone=backbone, **SMALL)
    images = jnp.asarray(RNG.normal(size=(BATCH, 4, 4, 3)), jnp.float32)
    variables = filled(model, images, targets=TARGETS)
    assert variables["params"]["cnn"]["colours"]["kernel"].shape == (3, 6)
    call = functools.partial(model.apply, x=images, train=False, targets=TARGETS)
    slopes = jax.grad(lambda v: jnp.square(call(v)).sum())(variables)["params"]["cnn"]["colours"]
    assert float(jnp.abs(slopes["kernel"]).min()) > 0
    vectors = images.mean(axis=(1, 2)) @ variables["params"]["cnn"]["colours"]["kernel"]
    vectors += variables["params"]["cnn"]["colours"]["bias"][None]
    rest = {"params": {k: v for k, v in variables["params"].items() if k != "cnn"}}
    alone = model.clone(backbone={}).apply(rest, vectors, train=False, targets=TARGETS)
    np.testing.assert_allclose(call(variables), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"image": "last"}, "one of first, every, before, got 'last'"),
        ({"classes": 2}, "classes of at least 3, got 2"),
        ({"cell": "jordan"}, "keeps no state"),
        ({"word_counts": (1, 2)}, "of all 9 classes, got 2"),
        ({"kernel_init": -0.1}, "a > 0, got a=-0.1"),
        ({"cell_options": {"hidden": 3}}, "decided by the model"),
    ],
)
def test_impossible_attributes(attributes, problem):
    model = Captioner(**({"classes": CLASSES} | attributes))
    with pytest.raises(ValueError, match=problem):
        model.init(jax.random.key(0), X, train=False)


def test_impossible_calls():
    model = multimodal_rnn(CLASSES, **SMALL)
    init = functools.partial(model.init, jax.random.key(0), train=False)
    with pytest.raises(ValueError, match=r"uint8 of shape \(2, 4, 4, 3\)"):
        init(jnp.zeros((2, 4, 4, 3), jnp.uint8))
    with pytest.raises(ValueError, match="targets are integers"):
        init(X, targets=TARGETS[:, 0])
