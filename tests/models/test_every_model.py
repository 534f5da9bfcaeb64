"""What holds for every image model: it learns, its gradients are right, devices and types agree.

A new model gets a line in `MODELS`; what only it does is tested in a file of its own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.models.fractional_max_pooling import FractionalMaxPoolingNet
from rcnn_jax.models.fully_connected import FullyConnected
from rcnn_jax.models.grid_net import GridNet
from rcnn_jax.models.maxout import MaxoutNet
from rcnn_jax.models.nin import NIN
from rcnn_jax.models.rcnn import RCNN, depth_matched_cnn
from rcnn_jax.models.resnet import ResNet
from rcnn_jax.models.squeezenet import SqueezeNet
from rcnn_jax.models.vgg import VGG

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 6, 5, 2)).astype(np.float32)
LABELS = RNG.integers(0, 3, 8)
KEY = np.zeros(2, np.uint32)

fmp = functools.partial(FractionalMaxPoolingNet, features=6, layers=2, ratio=1.5)
fully_connected = functools.partial(FullyConnected, hidden=(16, 12), pieces=3, input_dropout=0.2)
maxout = functools.partial(
    MaxoutNet,
    features=(4, 5),
    kernel_sizes=(3, 2),
    paddings=(1, 1),
    pool_windows=(3, 2),
    pool_strides=(2, 2),
    hidden=8,
    hidden_pieces=3,
    inverse_temperatures=(1.0, 2.0, 1.0),
)
rcnn = functools.partial(RCNN, features=8, steps=1, pool_strides=(2, 1))
depth_matched = functools.partial(depth_matched_cnn, features=8, steps=1, pool_strides=(2, 1))
nin = functools.partial(
    NIN, features=((8, 8), (8, 8), (8,)), kernel_sizes=(5, 3, 3), pools=("max", "average")
)
squeezenet = functools.partial(
    SqueezeNet, squeezes=(4, 6), pools_behind=(), stem_features=8, stem_window=5, stem_padding=2,
    last_relu=False,
)  # fmt: skip
vgg = functools.partial(VGG, depth=11, width=4, hidden=32)

# How each is made, and the rate of Adam at which its small self learns eight images by heart.
MODELS = {
    "rcnn, batch": (functools.partial(rcnn, norm="batch"), 0.01),
    "rcnn, gated, lrn": (functools.partial(rcnn, gated=True), 0.005),
    "rcnn, depth-matched, group": (
        functools.partial(depth_matched, norm="group", groups=2),
        0.01,
    ),
    "maxout": (maxout, 0.02),
    "maxout, probabilistic": (functools.partial(maxout, probabilistic=True), 0.02),
    "nin": (nin, 0.01),
    "resnet": (functools.partial(ResNet, depth=8, width=4), 0.02),
    "grid, rcl": (functools.partial(GridNet, features=(8,), steps=1, hidden=64), 0.02),
    "squeezenet": (squeezenet, 0.02),
    "vgg": (vgg, 0.02),
    "fmp, pseudorandom": (fmp, 0.02),
    "fmp, random and disjoint": (
        functools.partial(fmp, generator="random", overlapping=False),
        0.03,
    ),
    "fully connected, relu": (functools.partial(fully_connected, activation="relu"), 0.05),
    "fully connected, sigmoid": (functools.partial(fully_connected, activation="sigmoid"), 0.1),
    "fully connected, maxout": (functools.partial(fully_connected, activation="maxout"), 0.02),
}
DETERMINISTIC = {"resnet"}  # without dropout and without sampling
every_model = pytest.mark.parametrize("name", list(MODELS))


def build(name, **attributes):
    make, _ = MODELS[name]
    if name not in DETERMINISTIC:
        attributes |= {"dropout": 0.1}
    return make(classes=3, **attributes)


def loss_of(model, params, model_state, images, labels, key):
    """Mean cross-entropy in training; logits and the next model state beside it."""
    logits, updated = model.apply(
        {"params": params, **model_state},
        images,
        train=True,
        rngs={"dropout": key},
        mutable=list(model_state),
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), (logits, updated)


@functools.cache
def started(name):
    """Parameters and model state as NumPy arrays, and the logits of a net that rounds to bf16."""
    init = functools.partial(build(name, dtype="bfloat16").init_with_output, train=False)
    with jax.enable_x64(False):
        logits, variables = jax.device_get(jax.jit(init)(KEY, jnp.asarray(IMAGES)))
    return variables.pop("params"), variables, logits


@functools.cache
def evaluation(name):
    return jax.jit(functools.partial(build(name).apply, train=False))


def evaluate(name, params, model_state, images):
    """Logits in single precision, also where a test runs in double: random draws differ there."""
    variables = jax.tree.map(np.float32, {"params": params, **model_state})
    with jax.enable_x64(False):
        return np.asarray(evaluation(name)(variables, images))


@functools.cache
def in_double_precision(name):
    """Parameters, model state, images, and the value and gradient of a batch, dropout on.

    Compiled once a model, for the compiler takes nearly all the time of these tests.
    """
    draw = np.random.default_rng(1)
    params, model_state, _ = jax.tree.map(np.float64, started(name))
    # Initial biases are zero: they are moved, so that what depends on them is seen.
    params = jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape), params)
    model = build(name, param_dtype="float64")
    loss = functools.partial(loss_of, model)
    graded = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return params, model_state, np.float64(IMAGES), loss, graded


@every_model
def test_overfits_one_batch(name, x64):
    """By heart with dropout and sampling on, and then without: what evaluation sees was learnt."""
    params, model_state, images, _, graded = in_double_precision(name)
    leaves, tree = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def flat(tree):
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])

    def shaped(vector):
        parts = zip(np.split(vector, ends), leaves, strict=True)
        return tree.unflatten([part.reshape(leaf.shape) for part, leaf in parts])

    def loss_in_evaluation(vector):
        logits = evaluate(name, shaped(vector), model_state, IMAGES)
        return np.mean(np.logaddexp.reduce(logits, -1) - logits[np.arange(8), LABELS])

    keys = np.asarray(jax.random.split(KEY, 80))
    rate, vector, mean, square = MODELS[name][1], flat(params), 0.0, 0.0
    assert loss_in_evaluation(vector) > 0.7
    for number, key in enumerate(keys, start=1):  # Adam
        (_, (_, model_state)), gradient = jax.device_get(
            graded(shaped(vector), model_state, images, LABELS, key)
        )
        gradient = flat(gradient)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        deviation = np.sqrt(square / (1 - 0.99**number)) + 1e-8
        vector = vector - rate * mean / (1 - 0.9**number) / deviation
    assert loss_in_evaluation(vector) < 0.05


@every_model
def test_gradients_are_whole_and_those_of_finite_differences(name, x64):
    params, model_state, images, _, graded = in_double_precision(name)
    _, gradient = jax.device_get(graded(params, model_state, images, LABELS, KEY))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-9, path
    rng = np.random.default_rng(2)
    for _ in range(2):
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
        ahead, behind = (
            graded(
                jax.tree.map(lambda p, d, s=size: p + s * d, params, direction),
                model_state, images, LABELS, KEY,
            )[0][0]
            for size in (1e-8, -1e-8)
        )  # fmt: skip
        slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient, direction)))
        np.testing.assert_allclose((ahead - behind) / 2e-8, slope, rtol=1e-5, atol=1e-6)


@every_model
def test_four_devices_draw_and_compute_what_one_does(name, x64):
    params, model_state, images, loss, graded = in_double_precision(name)

    def on_a_device(*arguments):
        mean, (logits, updated) = loss(*arguments)
        return jax.lax.pmean((mean, updated), DATA_AXIS), logits

    four = jax.pmap(on_a_device, axis_name=DATA_AXIS, in_axes=(None, None, 0, 0, None))
    pairs = images.reshape(4, 2, *images.shape[1:]), LABELS.reshape(4, 2)
    spread, logits = four(params, model_state, *pairs, KEY)
    (mean, (whole, updated)), _ = graded(params, model_state, images, LABELS, KEY)
    np.testing.assert_allclose(logits.reshape(whole.shape), whole, rtol=1e-9, atol=1e-12)
    for many, one in zip(jax.tree.leaves(spread), jax.tree.leaves((mean, updated)), strict=True):
        np.testing.assert_allclose(many[3], one, rtol=1e-9, atol=1e-12)

    # Dropout and sampling were on, and each example had draws of its own.
    same = np.broadcast_to(images[:1], images.shape)
    rows = np.asarray(graded(params, model_state, same, LABELS, KEY)[0][1][0])
    assert len(np.unique(rows.round(9), axis=0)) == (1 if name in DETERMINISTIC else 8)


@every_model
def test_bfloat16_keeps_parameters_and_logits_wide(name):
    params, model_state, rounded = started(name)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, model_state))} == {np.dtype("f4")}
    exact = evaluate(name, params, model_state, IMAGES)
    assert rounded.dtype == exact.dtype == np.float32
    distance = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < distance < 0.05


@every_model
def test_rows_that_fill_a_batch_up_leave_the_others_as_they_are(name):
    params, model_state, _ = started(name)
    filled = IMAGES.copy()
    filled[5:] = np.nan
    whole, part = (evaluate(name, params, model_state, images) for images in (IMAGES, filled))
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(part[:5], whole[:5])


@every_model
@pytest.mark.parametrize("size", [(1, 1), (7, 2)])
def test_the_smallest_and_uneven_images(name, size):
    model = build(name)
    call = functools.partial(model.init_with_output, train=True)
    keys = {"params": KEY, "dropout": KEY}
    logits, _ = jax.eval_shape(call, keys, jnp.zeros((2, *size, 3)))
    assert (logits.shape, logits.dtype) == ((2, 3), jnp.float32)
