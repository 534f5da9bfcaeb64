"""Variables that were restored as NumPy arrays serve every model, outside jit and as its constants.

NumPy does not take a traced array as an index, and its arrays have no `.at`. That all models accept
them is seen by tracing; values are compared for two.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.layers.depthwise import DepthwiseConv
from rcnn_jax.layers.rcl import RCL, extend_steps
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.simple_cells import Elman, Jordan
from rcnn_jax.layers.recurrent.stack import Stack
from rcnn_jax.layers.step_norm import NORMS
from rcnn_jax.models.captioner import multimodal_rnn
from rcnn_jax.models.encoder_decoder import EncoderDecoder
from rcnn_jax.models.fractional_max_pooling import FractionalMaxPoolingNet
from rcnn_jax.models.fully_connected import FullyConnected
from rcnn_jax.models.grid_net import GridNet
from rcnn_jax.models.hopfield import recall
from rcnn_jax.models.maxout import MaxoutNet
from rcnn_jax.models.nin import NIN
from rcnn_jax.models.rcnn import RCNN
from rcnn_jax.models.resnet import ResNet
from rcnn_jax.models.sequence_classifier import SequenceClassifier
from rcnn_jax.models.squeezenet import SqueezeNet
from rcnn_jax.models.tagger import ENCODINGS, Tagger
from rcnn_jax.models.transcriber import Transcriber
from rcnn_jax.models.vgg import VGG

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.normal(size=(2, 6, 5, 3)), jnp.float32)
FRAMES = jnp.asarray(RNG.normal(size=(2, 5, 3)), jnp.float32)
VECTORS = jnp.asarray(RNG.normal(size=(2, 7)), jnp.float32)
WORDS = jnp.asarray(RNG.integers(0, 4, (2, 5)))
TRIGRAMS = jnp.asarray(RNG.integers(-1, 4, (2, 5, 3)))
LENGTHS = jnp.array([5, 3])
TARGETS = jnp.zeros((2, 2, 4), jnp.int32)
MAXOUT = functools.partial(
    MaxoutNet, classes=3, features=(4,), kernel_sizes=(3,), paddings=(1,), pool_windows=(2,),
    pool_strides=(2,), hidden=6, inverse_temperatures=(1.0, 2.0),
)  # fmt: skip
TAGGER = functools.partial(Tagger, classes=3, vocabulary=4, hidden=4, features=4)

# Model, input and arguments of its call.
CASES = {
    **{f"rcl, {norm}": (RCL(8, steps=2, norm=norm), IMAGES, {}) for norm in NORMS},
    "rcl, batch, more steps": (RCL(8, norm="batch"), IMAGES, {"steps": 5, "all_states": True}),
    "rcl, untied": (RCL(8, steps=2, norm="batch", tie_weights=False), IMAGES, {"steps": 3}),
    "rcl, gated": (RCL(8, steps=2, norm="batch", gated=True), IMAGES, {}),
    "rcl, masked": (RCL(8, norm="batch"), IMAGES, {"mask": jnp.ones((2, 1, 5), bool)}),
    "rcnn": (RCNN(3, features=8, steps=1, norm="batch"), IMAGES, {"every_step": True}),
    "maxout": (MAXOUT(probabilistic=True), IMAGES, {}),
    "nin": (NIN(3, features=((4, 4), (4,)), kernel_sizes=(3, 3), pools=("max",)), IMAGES, {}),
    "resnet": (ResNet(classes=3, depth=8, width=4), IMAGES, {}),
    "grid": (GridNet(classes=3, features=(8,), steps=1, hidden=16), IMAGES, {}),
    "squeezenet": (SqueezeNet(3, squeezes=(4,), pools_behind=(), stem_window=3), IMAGES, {}),
    "depthwise": (DepthwiseConv((3, 3)), IMAGES, {}),
    "vgg": (VGG(classes=3, depth=11, width=4, hidden=8), IMAGES, {}),
    "fmp": (FractionalMaxPoolingNet(3, features=4, layers=1, ratio=1.5), IMAGES[:, :4, :4], {}),
    "fully connected": (FullyConnected(3, hidden=(8,), activation="maxout"), IMAGES, {}),
    **{
        f"stack, {type(cell).__name__}": (Stack((cell,), bidirectional=True), FRAMES,
                                          {"lengths": LENGTHS})
        for cell in (Elman(4), Jordan(4, 3), LSTM(4), GRU(4))
    },
    "sequence classifier": (SequenceClassifier(3, hidden=4), FRAMES, {"lengths": LENGTHS}),
    **{
        f"tagger, {encoding}": (
            TAGGER(encoding=encoding),
            TRIGRAMS if encoding == "trigrams" else WORDS,
            {"lengths": LENGTHS},
        )
        for encoding in ENCODINGS
    },
    "encoder-decoder": (EncoderDecoder(5, vocabulary=4, features=3, hidden=4), WORDS,
                        {"lengths": LENGTHS, "targets": TARGETS[:, 0]}),
    "captioner": (multimodal_rnn(5, features=4, hidden=4), VECTORS, {"targets": TARGETS}),
    "transcriber": (Transcriber(4, features=(4,), pools=((2, 2),), norm="batch", hidden=4),
                    jnp.ones((1, 6, 8, 1)), {"lengths": jnp.array([7])}),
}  # fmt: skip


def runs(name):
    """Functions of variables that evaluate and train a model, and variables as NumPy arrays."""
    model, x, call = CASES[name]
    known = {} if isinstance(model, DepthwiseConv) else {"train": False}
    shapes = jax.eval_shape(functools.partial(model.init, **known, **call), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: rng.uniform(0.3, 0.7, s.shape).astype(s.dtype), shapes)

    def evaluated(variables):
        return model.apply(variables, x, **known, **call)

    def trained(variables):
        train = dict.fromkeys(known, True)
        rngs = {"dropout": jax.random.key(1)}
        return model.apply(variables, x, mutable=list(variables), rngs=rngs, **train, **call)

    return (evaluated, trained), variables


@pytest.mark.parametrize("name", CASES)
def test_every_model_takes_them(name):
    both, variables = runs(name)
    for run in both:
        assert jax.tree.leaves(jax.eval_shape(functools.partial(run, variables)))


@pytest.mark.parametrize("name", ["rcl, batch", "resnet"])
def test_values_are_those_of_arrays_of_jax(name):
    both, variables = runs(name)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    for run in both:
        expected = jax.jit(run)(jax.tree.map(jnp.asarray, variables))
        jax.tree.map(close, jax.jit(functools.partial(run, variables))(), expected)
    if name == "rcl, batch":
        jax.tree.map(close, run(variables), expected)


def test_more_steps_and_networks_of_patterns():
    made = RCL(8, steps=2, norm="batch")
    longer = RCL(8, steps=4, norm="batch")
    shapes, wanted = (jax.eval_shape(rcl.init, jax.random.key(0), IMAGES) for rcl in (made, longer))
    variables = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), shapes)
    extended = jax.eval_shape(lambda: extend_steps(variables, wanted))
    assert jax.tree.map(lambda x: x.shape, extended) == jax.tree.map(lambda x: x.shape, wanted)
    pattern = np.array([1.0, -1.0, 1.0, -1.0], np.float32)
    weights = np.outer(pattern, pattern) / 4 * (1 - np.eye(4, dtype=np.float32))
    start = np.array([[-1.0, -1.0, 1.0, -1.0]], np.float32)
    thresholds = np.zeros(4, np.float32)
    found = jax.jit(
        lambda: recall(weights, start, jax.random.key(0), sweeps=1, thresholds=thresholds)
    )()
    np.testing.assert_array_equal(found.states, pattern[None])
