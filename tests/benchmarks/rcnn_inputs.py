"""What both sides of the RCNN rows are given, and how much arithmetic their work is."""

import numpy as np

CLASSES = 10


def inputs(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `[batch, size, size, 3]` of unit variance, float32, and labels `[batch]`, int32."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, size, size, 3)).astype(np.float32)
    return images, rng.integers(0, CLASSES, batch).astype(np.int32)


def constant(path: str) -> bool:
    """Whether initial weights or statistics of this path are all alike."""
    return path.rpartition("/")[2] in ("bias", "scale", "mean", "var")


def training_gflop(batch: int, size: int, features: int, steps: int) -> float:
    """Arithmetic of a training step: two for each multiply-add of a convolution.

    A gradient costs the forward pass twice more, but for the input of the first layer, which needs
    none.
    """
    first, layers = _multiply_adds(size, features, steps)
    return 2e-9 * batch * (2 * first + 3 * layers)


def inference_gflop(batch: int, size: int, features: int, steps: int) -> float:
    """Arithmetic of the logits of a batch, counted likewise."""
    return 2e-9 * batch * sum(_multiply_adds(size, features, steps))


def _multiply_adds(size: int, features: int, steps: int) -> tuple[int, int]:
    """Of one image: those of the first layer, and those of the recurrent ones."""
    half, quarter = -(-size // 2), -(-size // 4)
    first = size**2 * 25 * 3 * features
    return first, 2 * (half**2 + quarter**2) * (1 + steps) * 9 * features**2
