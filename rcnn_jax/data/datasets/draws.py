"""Random numbers that belong to an example, for data sets that are made instead of read."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_INDICES = 2**48


class Draws:
    """The random numbers of one example: a function of (seed, stream, index) alone.

    They are raw Philox output, which NumPy promises to be the same in every release (NEP 19), in
    contrast to what its distributions make of it.
    """

    def __init__(self, seed: int, stream: int, index: int) -> None:
        """Starts at the first number.

        Args:
            seed: of the data set, 0 to 2**64 - 1.
            stream: such as the number of the split, 0 to 2**16 - 1.
            index: of the example, 0 to 2**48 - 1.

        Raises:
            ValueError: one of them lies outside.
        """
        bounds = (("seed", seed, 2**64), ("stream", stream, 2**16), ("index", index, _INDICES))
        for name, value, bound in bounds:
            if not 0 <= value < bound:
                raise ValueError(f"{name} must lie in 0..{bound - 1}, got {value}")
        key = np.array([seed, stream * _INDICES + index], np.uint64)
        self._bits = np.random.Philox(key=key)

    def uniform(self, size: int) -> np.ndarray:
        """Float64 `[size]`, each a multiple of 2**-53 in [0, 1)."""
        return (self._bits.random_raw(size) >> np.uint64(11)) * 2.0**-53

    def below(self, bound: int) -> int:
        """A whole number in 0..bound - 1, each as likely as the others to one in 2**53 / bound."""
        return int(self.uniform(1)[0] * bound)

    def integers(self, size: int, bound: int) -> np.ndarray:
        """Whole numbers in 0..bound - 1, int32 `[size]`."""
        return (self.uniform(size) * bound).astype(np.int32)

    def choice(self, options: Sequence[T]) -> T:
        """One of several."""
        return options[self.below(len(options))]
