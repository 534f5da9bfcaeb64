"""The CTC loss, its gradient and the posteriors, against all paths and other implementations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoding import oracles
from rcnn_jax.decoding import ctc

# Four frames of three classes, blank 0, and -log p of some labellings, to six digits.
KNOWN = np.log([[0.3, 0.5, 0.2], [0.4, 0.5, 0.1], [0.5, 0.1, 0.4], [0.1, 0.7, 0.2]])
KNOWN_LOSSES = {
    (): 5.115996,
    (1,): 2.175072,
    (2,): 3.246761,
    (1, 2): 1.891138,
    (2, 2): 3.789805,
    (1, 2, 2): 5.298317,
}
SMALL = [(4, 3, 0), (3, 4, 3), (5, 2, 1), (6, 2, 0)]  # time, classes, blank


@functools.partial(jax.jit, static_argnums=(4,), static_argnames=("infeasible",))
def loss_and_gradient(logits, frames, labels, lengths, blank, weight=1.0, infeasible="inf"):
    def weighted(logits):
        value = ctc.loss(logits, frames, labels, lengths, blank, infeasible)
        return jnp.sum(weight * value), value

    return jax.grad(weighted, has_aux=True)(logits)[::-1]


posteriors = jax.jit(ctc.posteriors, static_argnums=4)


def random_case(rng, batch, time, classes, width, blank=0, scale=2.0):
    """Sequences of all lengths, most of them feasible; padding of labels is no class."""
    logits = scale * rng.normal(size=(batch, time, classes))
    frames = rng.integers(0, time + 1, batch).astype(np.int32)
    lengths = np.minimum(rng.integers(0, width + 1, batch), frames).astype(np.int32)
    labels = rng.integers(0, classes - 1, (batch, width)).astype(np.int32)
    labels += labels >= blank
    labels[np.arange(width) >= lengths[:, None]] = -7
    return logits, frames, labels, lengths


def softmax(logits):
    return np.exp(oracles.log_softmax(logits))


@pytest.mark.parametrize(("time", "classes", "blank"), SMALL)
def test_small_cases_against_all_paths(time, classes, blank, x64):
    """250 of each shape: the loss, the posteriors, and the gradient they make."""
    rng = np.random.default_rng(time)
    everything = oracles.paths(time, classes, blank)
    logits = 3 * rng.normal(size=(250, time, classes))
    chosen = rng.integers(0, len(everything.labellings), 250)
    labels, lengths = everything.padded(chosen, time)
    frames = np.full(250, time)
    value, gradient = loss_and_gradient(logits, frames, labels, lengths, blank)
    expected = -np.log(everything.probs(logits)[np.arange(250), chosen])
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-13)
    posterior = everything.posterior(logits, chosen)
    found = posteriors(logits, frames, labels, lengths, blank)
    np.testing.assert_allclose(found, posterior, atol=1e-12)
    np.testing.assert_allclose(gradient, softmax(logits) - posterior, atol=1e-12)


def test_known_values():
    labels = np.array([(*key, 0, 0, 0)[:3] for key in KNOWN_LOSSES], np.int32)
    lengths = np.array([len(key) for key in KNOWN_LOSSES], np.int32)
    logits = jnp.broadcast_to(jnp.asarray(KNOWN, jnp.float32), (6, 4, 3))
    value = ctc.loss(logits, np.full(6, 4), labels, lengths)
    np.testing.assert_allclose(value, list(KNOWN_LOSSES.values()), atol=2e-6)
    everything = oracles.paths(4, 3, 0)
    listed = -np.log(everything.probs(KNOWN[None])[0])
    found = [listed[everything.labellings.index(key)] for key in KNOWN_LOSSES]
    np.testing.assert_allclose(found, list(KNOWN_LOSSES.values()), atol=6e-7)
    two = jnp.log(jnp.asarray([[[0.6, 0.4], [0.6, 0.4]]]))
    assert float(ctc.loss(two, np.array([2]), np.array([[1]]), np.array([1]))[0]) == (
        pytest.approx(-np.log(0.64), abs=1e-6)
    )


@pytest.fixture(scope="module")
def large():
    return random_case(np.random.default_rng(3), 1000, 60, 25, 20, blank=4)


def expected_large(large):
    logits, frames, labels, lengths = large
    return oracles.forward(logits, frames, labels, lengths, 4)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_large_cases_against_the_forward_algorithm(precision, large):
    logits, frames, labels, lengths = large
    with jax.enable_x64(precision == "float64"):
        value, gradient = loss_and_gradient(logits.astype(precision), *large[1:], 4)
    expected = expected_large(large)
    possible = np.isfinite(expected)
    assert 0.8 < possible.mean() < 1
    assert value.dtype == precision
    tolerance = {"float32": 2e-6, "float64": 1e-12}[precision]
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(ctc.feasible(frames, labels, lengths), possible)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(np.asarray(gradient).sum(2), 0, atol=2e-5)
    beyond = np.arange(60) >= frames[:, None]
    assert (np.asarray(gradient)[beyond] == 0).all()
    assert (np.asarray(gradient)[~possible] == 0).all()


def test_large_cases_against_torch(large, x64):
    torch = pytest.importorskip("torch")
    logits, frames, labels, lengths = large
    value, gradient = loss_and_gradient(*large, 4)
    theirs = torch.tensor(logits, requires_grad=True)
    arguments = (torch.tensor(x.astype(np.int64)) for x in (np.maximum(labels, 0), frames, lengths))
    scores = theirs.log_softmax(-1).transpose(0, 1)
    result = torch.nn.functional.ctc_loss(scores, *arguments, blank=4, reduction="none")
    possible = np.asarray(ctc.feasible(frames, labels, lengths)) & (frames > 0)
    result[torch.tensor(possible)].sum().backward()
    assert possible.sum() > 800
    np.testing.assert_allclose(value[possible], result.detach().numpy()[possible], rtol=1e-11)
    np.testing.assert_allclose(
        np.asarray(gradient)[possible], theirs.grad.numpy()[possible], atol=1e-10
    )


def test_gradient_against_finite_differences(x64):
    rng = np.random.default_rng(5)
    logits, frames, labels, lengths = random_case(rng, 4, 6, 4, 3)
    frames[:], lengths[:] = 6, [0, 1, 2, 3]
    labels[:] = [[1, 1, 2]] * 4
    weight = jnp.asarray([0.5, -2.0, 1.0, 3.0])
    value, gradient = loss_and_gradient(logits, frames, labels, lengths, 0, weight)
    size = 1e-5
    moves = size * np.eye(logits[0].size).reshape(-1, 1, 6, 4)
    nudged = jax.jit(jax.vmap(lambda x: weight @ ctc.loss(x, frames, labels, lengths)))
    change = [
        np.asarray(nudged((logits + moves) * (rows == row) + logits * (rows != row)))
        - np.asarray(nudged((logits - moves) * (rows == row) + logits * (rows != row)))
        for row in range(4)
        for rows in [np.arange(4)[None, :, None, None]]
    ]
    difference = np.stack(change).reshape(4, 6, 4) / (2 * size)
    assert np.isfinite(value).all()
    np.testing.assert_allclose(gradient, difference, atol=1e-8)


@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
def test_two_thousand_frames_in_float32(scale):
    rng = np.random.default_rng(6)
    logits, frames, labels, lengths = random_case(rng, 3, 2000, 12, 400, scale=scale)
    logits = logits.astype(np.float32)
    frames[:], lengths[:] = [2000, 1999, 900], [400, 0, 333]
    labels[:] = rng.integers(1, 12, labels.shape)
    value, gradient = loss_and_gradient(logits, frames, labels, lengths, 0)
    expected = oracles.forward(logits, frames, labels, lengths, 0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    with jax.enable_x64(True):
        exact = loss_and_gradient(logits.astype(np.float64), frames, labels, lengths, 0)[1]
    np.testing.assert_allclose(gradient, exact, atol=1e-3)


def test_a_path_that_ordinary_numbers_lose():
    """The favourite of 40 frames is impossible in the last: what is left was 1e-350 of it."""
    logits = np.full((1, 41, 3), 0.0, np.float32)
    logits[0, :40] = [0, 20, -200]
    logits[0, 40] = [-np.inf, -np.inf, 0]
    labels, lengths = np.array([[2]]), np.array([1])
    value, gradient = loss_and_gradient(logits, np.array([41]), labels, lengths, 0)
    expected = oracles.forward(logits, np.array([41]), labels, lengths, 0)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert expected > 800
    posterior = np.zeros((41, 3))
    posterior[:40, 0] = posterior[40, 2] = 1  # the label takes the last frame alone
    np.testing.assert_allclose(gradient[0], softmax(logits[0]) - posterior, atol=1e-5)


def test_never_negative_where_the_labelling_is_certain():
    rng = np.random.default_rng(7)
    logits = (
        10
        * np.eye(6, dtype=np.float32)[np.tile([1, 2, 3, 0, 4], 8)][None]
        * np.ones((200, 1, 1), np.float32)
    )
    logits += rng.uniform(0, 8, (200, 1, 1)).astype(np.float32)
    logits *= rng.uniform(1, 4, (200, 1, 1)).astype(np.float32)
    labels = np.tile([1, 2, 3, 4], (200, 8))
    value = ctc.loss(logits, np.full(200, 40), labels, np.full(200, 32))
    exact = oracles.forward(logits, np.full(200, 40), labels, np.full(200, 32), 0)
    assert (np.asarray(value) >= 0).all()
    # Of 1, the probability, each of 40 frames rounds away at most nine times 2**-24: five additions
    # and a logarithm in the softmax, an exponential, a product, and an addition of paths.
    np.testing.assert_allclose(value, exact, rtol=1e-4, atol=40 * 9 * 2.0**-24)


def test_empty_sequences_and_empty_labellings():
    logits = np.log(np.tile(softmax(KNOWN), (3, 1, 1))).astype(np.float32)
    labels = np.array([[1], [1], [1]])
    value, gradient = loss_and_gradient(logits, np.array([0, 0, 4]), labels, np.array([0, 1, 0]), 0)
    np.testing.assert_allclose(value, [0, np.inf, KNOWN_LOSSES[()]], rtol=1e-6)
    assert (np.asarray(gradient)[:2] == 0).all()
    none = np.zeros((3, 0), np.int32)
    without = ctc.loss(logits, np.array([0, 1, 4]), none, np.zeros(3, np.int32))
    np.testing.assert_allclose(without, [0, -KNOWN[0, 0], KNOWN_LOSSES[()]], rtol=1e-6)
    no_frames = ctc.loss(logits[:, :0], np.zeros(3, np.int32), labels, np.array([0, 1, 0]))
    np.testing.assert_array_equal(no_frames, [0, np.inf, 0])


@pytest.mark.parametrize("infeasible", ["inf", "zero"])
def test_impossible_labellings(infeasible):
    """Too few frames, no frame between repeats, a label that is excluded; one possible beside."""
    logits = np.random.default_rng(8).normal(size=(4, 4, 3)).astype(np.float32)
    logits[2, :, 2] = -np.inf
    labels = np.array([[1, 2, 1, 2, 1], [1, 1, 2, 2, 0], [2, 0, 0, 0, 0], [1, 1, 2, 0, 0]])
    lengths = np.array([5, 4, 1, 3])
    arguments = (logits, np.full(4, 4), labels, lengths)
    assert ctc.feasible(*arguments[1:]).tolist() == [False, False, True, True]
    for weight in (1.0, 0.0, jnp.asarray([jnp.inf, jnp.nan, jnp.inf, 1.0])):
        value, gradient = loss_and_gradient(*arguments, 0, weight, infeasible=infeasible)
        assert (np.asarray(value)[:3] == (np.inf if infeasible == "inf" else 0)).all()
        assert (np.asarray(gradient)[:3] == 0).all()
        assert np.isfinite(value[3])
        assert np.isfinite(gradient[3]).all()
    assert (np.asarray(posteriors(*arguments, 0))[:3] == 0).all()


def test_padding_has_no_effect(x64):
    rng = np.random.default_rng(9)
    logits, frames, labels, lengths = random_case(rng, 8, 9, 5, 4)
    value, gradient = loss_and_gradient(logits, frames, labels, lengths, 0)
    longer = np.concatenate([logits, rng.normal(size=(8, 3, 5))], 1)
    longer[np.arange(12) >= frames[:, None]] = np.nan
    wider = np.concatenate([labels, rng.integers(-9, 99, (8, 2))], 1)
    same_value, same = loss_and_gradient(longer, frames, wider, lengths, 0)
    # Two programs: vectors of other lengths may round in other places, a few times a frame.
    np.testing.assert_allclose(value, same_value, rtol=1e-13)
    np.testing.assert_allclose(gradient, np.asarray(same)[:, :9], atol=1e-14)
    assert (np.asarray(same)[:, 9:] == 0).all()
    for row in range(2):
        part = slice(row, row + 1)
        cut = logits[part, : frames[row]], frames[part], labels[part, : lengths[row]], lengths[part]
        np.testing.assert_allclose(ctc.loss(*cut), value[part], rtol=1e-13)


def test_not_a_number_is_not_hidden():
    logits = np.zeros((4, 3, 3), np.float32)
    logits[0, 1, 2] = np.nan
    logits[1, 2, 0] = np.inf
    logits[2, 0] = -np.inf
    value, gradient = loss_and_gradient(
        logits, np.full(4, 3), np.array([[1]] * 4), np.array([1] * 4), 0
    )
    assert np.isnan(value).tolist() == [True, True, True, False]
    assert np.isnan(gradient).all((1, 2)).tolist() == [True, True, True, False]
    assert np.isfinite(gradient[3]).all()


def test_vmap_and_half_precision():
    rng = np.random.default_rng(10)
    logits, frames, labels, lengths = random_case(rng, 6, 7, 4, 3)
    whole = np.asarray(loss_and_gradient(logits.astype(np.float32), frames, labels, lengths, 0)[1])
    split = [x.reshape(2, 3, *x.shape[1:]) for x in (logits, frames, labels, lengths)]
    both = jax.vmap(lambda *case: loss_and_gradient(*case, 0)[1])
    np.testing.assert_allclose(
        both(split[0].astype(np.float32), *split[1:]).reshape(whole.shape), whole, atol=1e-6
    )
    half = jnp.asarray(logits, jnp.bfloat16)
    value, gradient = loss_and_gradient(half, frames, labels, lengths, 0)
    expected, same = loss_and_gradient(half.astype(jnp.float32), frames, labels, lengths, 0)
    assert value.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, same.astype(jnp.bfloat16))


def test_what_has_no_derivative_says_so():
    case = (np.array([2]), np.array([[1]]), np.array([1]))
    logits = jnp.zeros((1, 2, 3))
    with pytest.raises(ValueError, match="have no derivative"):
        jax.grad(lambda x: ctc.posteriors(x, *case).max())(logits)
    with pytest.raises(ValueError, match="have no derivative"):
        jax.grad(lambda x: jax.grad(lambda y: ctc.loss(y, *case)[0])(x)[0, 0, 0])(logits)


GOOD = {
    "logits": np.zeros((2, 5, 4), np.float32),
    "logit_lengths": np.array([5, 4]),
    "labels": np.array([[1, 2, 3], [3, 1, -5]]),
    "label_lengths": np.array([3, 2]),
    "blank_id": 0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((5, 4), np.float32)}, r"\[batch, time, classes\], got float32 of"),
        ({"logits": np.zeros((2, 5, 4), np.int32)}, "logits must be floating-point"),
        ({"blank_id": 4}, r"blank_id must lie in 0\.\.3, the classes, got 4"),
        ({"blank_id": -1}, r"blank_id must lie in 0\.\.3"),
        ({"logit_lengths": np.array([5, 6])}, r"logit_lengths must lie in 0\.\.5, .*, got 6"),
        ({"logit_lengths": np.array([5])}, "logit_lengths must be 2 integers"),
        ({"logit_lengths": np.array([5.0, 4.0])}, "logit_lengths must be 2 integers"),
        ({"labels": np.array([1, 2])}, r"labels must be integers \[batch, max_labels\]"),
        ({"labels": np.ones((3, 3), int)}, "with batch 2"),
        ({"labels": np.ones((2, 3))}, "labels must be integers"),
        ({"labels": np.array([[1, 0, 3], [3, 1, 1]])}, "differ from the blank 0, got 0"),
        ({"labels": np.array([[1, 2, 4], [3, 1, 1]])}, r"0\.\.3 and differ .*, got 4"),
        ({"label_lengths": np.array([4, 2])}, r"label_lengths must lie in 0\.\.3, .*, got 4"),
        ({"infeasible": "nan"}, "infeasible must be one of .*, got 'nan'"),
    ],
)
def test_one_sentence_for_what_is_impossible(change, message):
    assert np.isfinite(ctc.loss(**GOOD)).all()
    with pytest.raises(ValueError, match=message):
        ctc.loss(**(GOOD | change))
