"""What the sides of the CTC rows are given."""

import numpy as np


def problems(batch: int, time: int, classes: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 `[batch, time, classes]` and labels int32 `[batch, labels]` from 1 on.

    All sequences are as long as can be: a padded frame costs no side anything.
    """
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((batch, time, classes)).astype(np.float32)
    return logits, rng.integers(1, classes, (batch, labels)).astype(np.int32)


def sure_logits(batch: int, time: int, classes: int, labels: int) -> np.ndarray:
    """Logits as of a trained net: a label has two of its frames, the others are blank.

    Some of them are in doubt between two labels, so that a search has something to do.
    """
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((batch, time, classes)).astype(np.float32)
    logits[..., 0] += 9.0
    every = time // labels
    written = rng.integers(1, classes, (batch, labels))
    rows = np.arange(batch)[:, None]
    for offset in (0, 1):
        frames = np.arange(labels)[None] * every + offset
        logits[rows, frames, written] += 11.0
        doubt = rng.random((batch, labels)) < 0.2
        other = 1 + written % (classes - 1)
        logits[rows, frames, other] += np.where(doubt, 10.0, 0.0).astype(np.float32)
    return logits
