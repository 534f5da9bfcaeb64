"""Models as programs of `jax.export` for any number of rows: values and gradients.

A script, since the shape checks of the tests take no symbolic sizes.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from rcnn_jax.layers.recurrent.gated_cells import LSTM
from rcnn_jax.layers.recurrent.stack import Stack
from rcnn_jax.models.rcnn import RCNN


def rcnn(norm):
    model = RCNN(classes=3, features=8, steps=1, norm=norm)
    return model, (8, 8, 3), lambda variables, x: model.apply(variables, x, train=False)


def stack():
    model = Stack((LSTM(4),), bidirectional=True)
    return model, (5, 3), lambda variables, x: model.apply(variables, x, train=False)[0]


def check(made):
    """Compares one program with the model, on batches of two sizes."""
    model, shape, call = made
    x = jax.random.normal(jax.random.key(0), (3, *shape))
    variables = jax.jit(lambda: model.init(jax.random.key(1), x, train=False))()

    def predict(inputs):
        return call(variables, inputs)

    rows = export.symbolic_shape("rows")
    program = export.export(jax.jit(predict))(jax.ShapeDtypeStruct((*rows, *shape), jnp.float32))
    backward = program.vjp()
    for batch in (x, x[:2]):
        expected, pull = jax.vjp(predict, batch)
        np.testing.assert_allclose(program.call(batch), expected, rtol=1e-5, atol=1e-6)
        weights = jnp.cos(jnp.arange(expected.size)).reshape(expected.shape)
        (gradient,) = backward.call(batch, weights)
        np.testing.assert_allclose(gradient, pull(weights)[0], rtol=1e-4, atol=1e-6)


for made in (rcnn("lrn"), stack()):
    check(made)
    print("the same:", type(made[0]).__name__)
