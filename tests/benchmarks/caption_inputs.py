"""What the sides of the captioning rows are given."""

import numpy as np

BOS, EOS, UNK = 1, 2, 0


def pairs(batch: int, steps: int, classes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of pictures float32 `[batch, size]` and sentences int32 `[batch, steps]`.

    All sentences are as long as can be: the end is the last id.
    """
    rng = np.random.default_rng(0)
    vectors = np.abs(rng.standard_normal((batch, size))).astype(np.float32)
    sentences = rng.integers(3, classes, (batch, steps)).astype(np.int32)
    sentences[:, -1] = EOS
    return vectors, sentences


def weights(classes: int, features: int, hidden: int, size: int) -> dict[str, np.ndarray]:
    """Weights of the multimodal recurrent network, by names of our own, float32.

    Larger than initial ones: a search among words that are all alike would depend on rounding.
    """
    rng = np.random.default_rng(1)

    def draw(scale: float, *shape: int) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return {
        "word_embedding": draw(1.0, classes, features),
        "image_kernel": draw(size**-0.5, size, hidden),
        "kernel": draw(features**-0.5, features, hidden),
        "recurrent_kernel": draw(hidden**-0.5, hidden, hidden),
        "bias": draw(0.1, hidden),
        "head_kernel": draw(3 * hidden**-0.5, hidden, classes),
        "head_bias": draw(0.1, classes),
    }
