"""Models as programs of `jax.export` for any number of rows: values and, for some, gradients.

A script, since the shape checks of the tests take no symbolic sizes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from rcnn_jax.data.text.vocabulary import SPECIALS
from rcnn_jax.data.transforms import chain
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.stack import Stack
from rcnn_jax.models.captioner import multimodal_rnn
from rcnn_jax.models.grid_net import GridNet
from rcnn_jax.models.rcnn import RCNN
from rcnn_jax.models.squeezenet import SqueezeNet
from rcnn_jax.models.transcriber import Transcriber
from rcnn_jax.models.vgg import VGG
from rcnn_jax.tasks.captioning import Captioning

WORDS = ("<other>", *SPECIALS, "a", "dog")
CAPTIONER = multimodal_rnn(
    len(WORDS),
    features=4,
    hidden=4,
    backbone={"name": "rcnn_jax.models.vgg:VGG", "depth": 11, "width": 2, "hidden": 4},
)


def in_evaluation(model, **call):
    return model, lambda variables, x: model.apply(variables, x, train=False, **call)


def stack(cell):
    model = Stack((cell,), bidirectional=True)
    return model, lambda variables, x: model.apply(variables, x, train=False)[0]


def lines():
    model = Transcriber(4, features=(4,), pools=((2, 2),), hidden=4)

    def call(variables, x):
        lengths = jnp.minimum(x.shape[2], 5 + jnp.arange(x.shape[0]))
        return model.apply(variables, x, train=False, lengths=lengths)

    return model, call


def captions():
    """The encoder of pictures, and the search over sentences."""
    plain = dict.fromkeys(("train_transform", "evaluation_transform"), chain.build(""))
    task = Captioning(model=CAPTIONER, words=WORDS, beam_width=2, n_best=2, max_steps=3, **plain)

    def call(variables, x):
        encoded = CAPTIONER.apply(variables, x, train=False, method="begin")
        found = task.predict(variables["params"], {}, {"image": x, "mask": jnp.ones(x.shape[0])})
        return jax.tree.leaves(encoded), found["ids"], found["log_probs"]

    return CAPTIONER, call


# The windows of 48 maps are computed as in Winograd's minimal filtering.
MADE = {
    "rcnn, lrn": (in_evaluation(RCNN(classes=3, features=48, steps=1)), (8, 8, 3)),
    "rcnn, batch": (in_evaluation(RCNN(classes=3, features=48, steps=1, norm="batch")), (8, 8, 3)),
    "stack, lstm": (stack(LSTM(4)), (5, 3)),
    "stack, gru": (stack(GRU(4)), (5, 3)),
    "transcriber": (lines(), (6, 8, 1)),
    "vgg": (in_evaluation(VGG(3, depth=11, width=2, hidden=4)), (32, 32, 3)),
    "squeezenet": (
        in_evaluation(SqueezeNet(classes=3, squeezes=(4,), stem_features=8)),
        (20, 20, 3),
    ),
    "grid": (in_evaluation(GridNet(classes=3, features=(8,), steps=1, hidden=8)), (6, 6, 3)),
    "captioner": (captions(), (32, 32, 3)),
}
GRADED = ("rcnn, lrn", "stack, lstm")
TWICE = ("stack, lstm", "grid")  # on batches of two sizes


def check(name):
    """Compares one program with the model, both compiled together."""
    (model, call), shape = MADE[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)
    variables = jax.tree.map(lambda s: rng.uniform(-0.4, 0.5, s.shape).astype(s.dtype), shapes)
    # Variances are positive.
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: abs(leaf) if "var" in jax.tree_util.keystr(path) else leaf, variables
    )

    def predict(inputs):
        return call(variables, inputs)

    rows = export.symbolic_shape("rows")
    program = export.export(jax.jit(predict))(jax.ShapeDtypeStruct((*rows, *shape), jnp.float32))
    backward = program.vjp() if name in GRADED else None

    @jax.jit
    def both(inputs):
        expected = predict(inputs)
        results = [(program.call(inputs), expected)]
        if backward is not None:
            expected, pull = jax.vjp(predict, inputs)
            weights = jnp.cos(jnp.arange(expected.size)).reshape(expected.shape)
            results.append((backward.call(inputs, weights)[0], pull(weights)[0]))
        return results

    for batch in (x, x[:2])[: 1 + (name in TWICE)]:
        for got, expected in jax.device_get(both(batch)):
            for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                assert np.isfinite(other).all()
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


for name in MADE:
    check(name)
    print("the same:", name)
