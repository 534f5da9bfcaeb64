"""Weights of narrow VGG nets by the names of torch, and what they are in our layout."""

import numpy as np

from rcnn_jax.models import vgg

FACTORS = (1, 2, 4, 8, 8)


def torch_state(depth, width=1, grid=(2, 3), hidden=6, classes=4, seed=0):
    """Random weights by torchvision's names, for pictures of 32 times `grid` pixels."""
    rng = np.random.default_rng(seed)
    state, index, before = {}, 0, 3

    def add(name, *shape):
        state[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        state[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)

    for convolutions, factor in zip(vgg.CONVOLUTIONS[depth], FACTORS, strict=True):
        for _ in range(convolutions):
            add(f"features.{index}", width * factor, before, 3, 3)
            before, index = width * factor, index + 2
        index += 1
    add("classifier.0", hidden, before * grid[0] * grid[1])
    add("classifier.3", hidden, hidden)
    add("classifier.6", classes, hidden)
    return state


def expected(depth, state, grid=(2, 3)):
    """The same by our paths, converted one number at a time where layouts are easily mistaken."""
    convolutions = [name for block in vgg.convolution_names(depth) for name in block]
    found, maps = {}, 0
    theirs = [name for name in state if name.startswith("features") and name.endswith("weight")]
    for name, ours in zip(theirs, convolutions, strict=True):
        kernel = state[name]
        found[f"params/features/{ours}/kernel"] = np.moveaxis(kernel, (0, 1), (3, 2))
        found[f"params/features/{ours}/bias"] = state[name.replace("weight", "bias")]
        maps = len(kernel)
    dense = state["classifier.0.weight"]
    fc6 = np.empty((dense.shape[1], len(dense)), np.float32)
    for m in range(maps):
        for row in range(grid[0]):
            for column in range(grid[1]):
                ours = (row * grid[1] + column) * maps + m
                fc6[ours] = dense[:, (m * grid[0] + row) * grid[1] + column]
    found["params/fc6/kernel"], found["params/fc6/bias"] = fc6, state["classifier.0.bias"]
    for name, ours in (("classifier.3", "fc7"), ("classifier.6", "fc8")):
        if f"{name}.weight" in state:
            found[f"params/{ours}/kernel"] = state[f"{name}.weight"].T
            found[f"params/{ours}/bias"] = state[f"{name}.bias"]
    return found
