"""Small nets and pictures for the tests of tasks that answer for a whole image."""

import flax.linen as nn
import numpy as np


class Linear(nn.Module):
    """Logits are a linear map of the pixels; `scale` is an argument of the call."""

    classes: int

    @nn.compact
    def __call__(self, x, *, train: bool, scale: float = 1.0):
        del train
        return scale * nn.Dense(self.classes)(x.reshape(x.shape[0], -1))


class Given(nn.Module):
    """Logits are the pixels."""

    @nn.compact
    def __call__(self, x, *, train: bool):
        del train
        return x.reshape(x.shape[0], -1)


def seven_images(rng):
    """Pictures of noise, the last two of them padding."""
    return {
        "image": rng.normal(size=(7, 4, 4, 1)).astype(np.float32),
        "mask": np.array([1, 1, 1, 1, 1, 0, 0], np.float32),
    }


def nine_views(image):
    """Pictures with a border of two pixels, and the crops of `nine_crop(4, 2)` of them."""
    large = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return large, [large[:, i : i + 4, j : j + 4] for i in (0, 2, 4) for j in (0, 2, 4)]
