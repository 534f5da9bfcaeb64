"""This project's side of the VGG rows."""

import pathlib
from typing import Any

import numpy as np
import shared_weights
import vgg_inputs
from row import Prepared

from rcnn_jax.startup import xla_flags


def inference(folder: pathlib.Path, *, batch: int, size: int, width: int) -> Prepared:
    """Logits of VGG16, with the compiler flags that the door `features` sets.

    Args:
        folder: where weights are left.
        batch: images.
        size: their height and width.
        width: maps of the first block, 64 in VGG16.
    """
    xla_flags.apply(xla_flags.LARGE_FEED_FORWARD)
    import jax

    from rcnn_jax.models.vgg import VGG
    from rcnn_jax.training import parameters

    hidden = 64 * width
    net = VGG(classes=vgg_inputs.CLASSES, width=width, hidden=hidden)
    x = jax.numpy.asarray(vgg_inputs.images(batch, size))
    params = jax.jit(lambda key: net.init(key, x[:1], train=False)["params"])(jax.random.key(0))
    shared_weights.save(folder, {k: np.asarray(v) for k, v in parameters.flatten(params).items()})
    forward = jax.jit(lambda params, x: net.apply({"params": params}, x, train=False))
    now: dict[str, Any] = {}

    def run() -> None:
        now["logits"] = jax.block_until_ready(forward(params, x))

    return Prepared(run, lambda: {"logits": np.asarray(now["logits"])}, work=batch, unit="images")
