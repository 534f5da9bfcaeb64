"""N-grams of a sentence, counted."""

import collections
from collections.abc import Sequence

ORDERS = 4
"""The longest n-grams that BLEU, CIDEr and novelty look at."""

Counts = list[collections.Counter[tuple[str, ...]]]


def counts(words: Sequence[str], orders: int = ORDERS) -> Counts:
    """How often each n-gram occurs: that of n words is counted at place n - 1."""
    return [
        collections.Counter(zip(*(words[start:] for start in range(n)), strict=False))
        for n in range(1, orders + 1)
    ]
