"""Random numbers of single examples, for generated data sets."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_INDICES = 2**48


class Draws:
    """Random numbers of one example: a function of (seed, stream, index) alone.

    They are raw Philox output, which NumPy promises to keep in every release (NEP 19), unlike the
    output of its distributions.

    Example:
        >>> from rcnn_jax.data.datasets.draws import Draws
        >>> draws = Draws(seed=0, stream=1, index=2)
        >>> draws.below(6), draws.integers(3, 10).tolist()
        (2, [6, 9, 5])
    """

    def __init__(self, seed: int, stream: int, index: int) -> None:
        """Starts at the first number.

        Args:
            seed: Seed of the data set, 0 to 2**64 - 1.
            stream: Number of the stream, such as the index of the split, 0 to 2**16 - 1.
            index: Index of the example, 0 to 2**48 - 1.

        Raises:
            ValueError: An argument is out of range.
        """
        bounds = (("seed", seed, 2**64), ("stream", stream, 2**16), ("index", index, _INDICES))
        for name, value, bound in bounds:
            if not 0 <= value < bound:
                raise ValueError(f"{name} must lie in 0..{bound - 1}, got {value}")
        key = np.array([seed, stream * _INDICES + index], np.uint64)
        self._bits = np.random.Philox(key=key)

    def uniform(self, size: int) -> np.ndarray:
        """Returns uniform random numbers in [0, 1), `float64[size]`, multiples of 2**-53.

        Args:
            size: Number of random numbers.
        """
        return (self._bits.random_raw(size) >> np.uint64(11)) * 2.0**-53

    def below(self, bound: int) -> int:
        """Returns a random integer in 0..bound - 1, uniform up to one part in 2**53 / bound.

        Args:
            bound: Number of possible values.
        """
        return int(self.uniform(1)[0] * bound)

    def integers(self, size: int, bound: int) -> np.ndarray:
        """Returns random integers in 0..bound - 1, `int32[size]`.

        Args:
            size: Number of random integers.
            bound: Number of possible values.
        """
        return (self.uniform(size) * bound).astype(np.int32)

    def choice(self, options: Sequence[T]) -> T:
        """Returns a random element.

        Args:
            options: Elements to choose from.
        """
        return options[self.below(len(options))]
