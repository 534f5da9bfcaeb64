"""How much of some sentences a vocabulary has."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from rcnn_jax.data.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Coverage:
    """What `coverage` counts.

    Attributes:
        sentences: their number.
        tokens: number of words.
        types: number of different words.
        unknown_tokens: words outside the vocabulary.
        unknown_types: different words outside the vocabulary.
        longest: words of the longest sentence.
        cut: sentences that are longer than what is learnt of one.
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
        """Share of words outside the vocabulary, 0 to 1."""
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
        sentences: tokens of each.
        vocabulary: what is known.
        most: words of a sentence that are learnt.
    """
    counts, lengths = collections.Counter(), []
    for words in sentences:
        counts.update(words)
        lengths.append(len(words))
    strange = [word for word in counts if word not in vocabulary]
    return Coverage(
        sentences=len(lengths),
        tokens=sum(lengths),
        types=len(counts),
        unknown_tokens=sum(counts[word] for word in strange),
        unknown_types=len(strange),
        longest=max(lengths, default=0),
        cut=sum(length > most for length in lengths),
    )
