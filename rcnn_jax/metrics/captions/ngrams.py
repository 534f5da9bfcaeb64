"""Counts of the n-grams of a sentence."""

import collections
from collections.abc import Sequence

ORDERS = 4
"""Length of the longest n-grams that BLEU, CIDEr and novelty count."""

Counts = list[collections.Counter[tuple[str, ...]]]


def counts(words: Sequence[str], orders: int = ORDERS) -> Counts:
    """Counts how often each n-gram occurs in a sentence.

    Args:
        words: Words of the sentence.
        orders: Length of the longest n-grams to count.

    Returns:
        A list of `orders` counters, where the one at index n - 1 counts the n-grams of n words.

    Example:
        >>> from rcnn_jax.metrics.captions.ngrams import counts
        >>> unigrams, bigrams = counts("a red a red".split(), orders=2)
        >>> unigrams["a",], bigrams["a", "red"], bigrams["red", "a"]
        (2, 2, 1)
    """
    return [
        collections.Counter(zip(*(words[start:] for start in range(n)), strict=False))
        for n in range(1, orders + 1)
    ]
