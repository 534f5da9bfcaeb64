"""What the tests of transforms share: small images, keys, and one compilation a chain."""

import functools

import jax
import numpy as np

from rcnn_jax.data.transforms import chain as transforms

RANDOM = [
    "random_crop(5)", "pad_crop(2)", "pad_crop(2, 'zeros')", "flip", "cutout(3)",
    "random_affine(20, 0.2, 1.5)",
]  # fmt: skip


def images_of(count, height=8, width=8, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 256, (count, height, width, channels)).astype(np.uint8)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def compiled(text):
    return jax.jit(transforms.build(text))


def run(text, images, keys=None, fitted=None):
    chain = jax.jit(transforms.build(text, fitted)) if fitted else compiled(text)
    return np.asarray(chain({"image": images}, keys)["image"])
