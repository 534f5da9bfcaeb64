"""What both sides of the recurrent rows are given, and which of their gradients compare."""

from collections.abc import Mapping

import numpy as np


def inputs(batch: int, time: int, features: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences `[batch, time, features]` and a cotangent `[batch, time, outputs]`, float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, time, features)).astype(np.float32)
    return x, rng.standard_normal((batch, time, outputs)).astype(np.float32)


def constant(name: str) -> bool:
    """Whether these weights are all alike at first; second biases stay so, as ours are sums."""
    return name.startswith("bias_ih")


def comparable(gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients without those of second biases: ours keeps the sum of most of them."""
    return {name: g for name, g in gradients.items() if not name.startswith("bias_hh")}
