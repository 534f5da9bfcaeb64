"""The fraction of words that a vocabulary covers."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from rcnn_jax.data.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Counts of known and unknown words; see `coverage`.

    Attributes:
        sentences: Number of sentences.
        tokens: Number of words.
        types: Number of distinct words.
        unknown_tokens: Number of words outside the vocabulary.
        unknown_types: Number of distinct words outside the vocabulary.
        longest: Number of words of the longest sentence.
        cut: Number of sentences that are longer than the part that is learned.
    """

    sentences: int
    tokens: int
    types: int
    unknown_tokens: int
    unknown_types: int
    longest: int
    cut: int

    @property
    def unknown(self) -> float:
        """Fraction of words outside the vocabulary, in `[0, 1]`."""
        return self.unknown_tokens / max(1, self.tokens)

    def __str__(self) -> str:
        return (
            f"{self.sentences:,} sentences of {self.tokens:,} words, {self.types:,} different; "
            f"outside the vocabulary are {self.unknown:.2%} of the words, {self.unknown_types:,} "
            f"different; {self.cut:,} sentences are cut, the longest has {self.longest} words"
        )


def coverage(sentences: Iterable[Sequence[str]], vocabulary: Vocabulary, most: int) -> Coverage:
    """Counts known and unknown words.

    Args:
        sentences: The tokens of each sentence.
        vocabulary: The known words.
        most: Number of words of a sentence that are learned.

    Example:
        >>> from rcnn_jax.data.text.coverage import coverage
        >>> from rcnn_jax.data.text.vocabulary import Vocabulary
        >>> known = Vocabulary(("<other>", "a", "dog"))
        >>> counts = coverage([["a", "dog"], ["a", "cat", "runs"]], known, most=2)
        >>> counts.tokens, counts.unknown_tokens, counts.unknown, counts.cut
        (5, 2, 0.4, 1)
    """
    counts, lengths = collections.Counter(), []
    for words in sentences:
        counts.update(words)
        lengths.append(len(words))
    unknown = [word for word in counts if word not in vocabulary]
    return Coverage(
        sentences=len(lengths),
        tokens=sum(lengths),
        types=len(counts),
        unknown_tokens=sum(counts[word] for word in unknown),
        unknown_types=len(unknown),
        longest=max(lengths, default=0),
        cut=sum(length > most for length in lengths),
    )
