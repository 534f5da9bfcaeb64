"""BLEU, ROUGE-L and CIDEr-D of captions, equal to those of COCO's reference scorers.

References:
    Papineni, Roukos, Ward & Zhu, BLEU: a method for automatic evaluation of machine translation,
    ACL 2002;
    Lin, ROUGE: a package for automatic evaluation of summaries, ACL 2004;
    Chen et al., Microsoft COCO captions: data collection and evaluation server, 2015.
"""

import collections
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from rcnn_jax.metrics.captions.cider import cider_d
from rcnn_jax.metrics.captions.ngrams import ORDERS, Counts, counts

# The reference scorer adds these to numerators and denominators instead of testing for zero.
_TINY, _SMALL = 1e-15, 1e-9
_BETA = 1.2  # how much more recall weighs than precision in ROUGE-L


def corpus_scores(
    hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]]
) -> dict[str, Any]:
    """Scores one sentence for each picture against several reference sentences.

    Args:
        hypotheses: Dict from the id of a picture to its tokenised sentence, words separated by one
            space. A sentence may be empty.
        references: Dict from the same ids to at least one tokenised sentence each. Published
            figures tokenise both sides as `rcnn_jax.data.text.ptb` does.

    Returns:
        `bleu_1` to `bleu_4` of the corpus, whose brevity penalty uses the closest length of a
        picture's references; `rouge_l` and `cider_d`, means over pictures, the latter in 0..10; and
        `cider_d_each`, a dict from each id to the CIDEr-D of that picture. Its document frequencies
        are those of these references, so that a single picture alone scores 0.

    Raises:
        ValueError: The ids differ, there are none, or a picture has no reference.

    Example:
        >>> from rcnn_jax.metrics.captions import corpus_scores
        >>> scores = corpus_scores(
        ...     {7: "a red star above a ring"},
        ...     {7: ["a red star above the ring", "a star over a ring"]},
        ... )
        >>> {name: round(scores[name], 3) for name in ("bleu_1", "bleu_4", "rouge_l")}
        {'bleu_1': 1.0, 'bleu_4': 0.604, 'rouge_l': 0.833}
    """
    check(hypotheses, references)
    written = {name: sentence.split() for name, sentence in hypotheses.items()}
    wanted = {name: [text.split() for text in references[name]] for name in hypotheses}
    written_counts = {name: counts(words) for name, words in written.items()}
    wanted_counts = {name: [counts(words) for words in every] for name, every in wanted.items()}
    each = cider_d(written_counts, wanted_counts)
    rouge = [_rouge_l(hypotheses[name], references[name]) for name in hypotheses]
    lengths = {name: [len(words) for words in every] for name, every in wanted.items()}
    bleu = _bleu(
        [(len(words), lengths[name]) for name, words in written.items()],
        [(written_counts[name], wanted_counts[name]) for name in written],
    )
    return {
        **{f"bleu_{n}": value for n, value in enumerate(bleu, start=1)},
        "rouge_l": math.fsum(rouge) / len(rouge),
        "cider_d": math.fsum(each.values()) / len(each),
        "cider_d_each": each,
    }


def check(hypotheses: Mapping[Hashable, str], references: Mapping[Hashable, Sequence[str]]) -> None:
    """Checks that hypotheses and references belong together.

    Args:
        hypotheses: Dict from the id of a picture to its sentence.
        references: Dict from the id of a picture to its reference sentences.

    Raises:
        ValueError: The ids differ, there are none, or a picture has no reference.
    """
    if not hypotheses:
        raise ValueError("scores need at least one sentence, got none")
    for one, other, name, lacks in (
        (hypotheses, references, "hypothesis", "no references"),
        (references, hypotheses, "reference", "no hypothesis"),
    ):
        alone = [key for key in one if key not in other]
        if alone:
            raise ValueError(
                f"the {name} {alone[0]!r} has {lacks}, as {len(alone):,} of {len(one):,}: both "
                "sides need the same ids"
            )
    for key, sentences in references.items():
        if isinstance(sentences, str) or not len(sentences):
            raise ValueError(
                f"the references of {key!r} must be a list of at least one sentence, got "
                f"{sentences!r}"
            )


def _bleu(
    lengths: Sequence[tuple[int, Sequence[int]]], counted: Sequence[tuple[Counts, Sequence[Counts]]]
) -> list[float]:
    """Computes BLEU with n-grams up to 1, 2, 3 and 4 words, from counts summed over the corpus."""
    correct, guessed = [0] * ORDERS, [0] * ORDERS
    for written, wanted in counted:
        for n, grams in enumerate(written):
            most: collections.Counter[tuple[str, ...]] = collections.Counter()
            for reference in wanted:
                most |= reference[n]  # the greater of two counts
            guessed[n] += grams.total()
            correct[n] += sum(min(count, most[gram]) for gram, count in grams.items())
    total = sum(length for length, _ in lengths)
    closest = sum(min((abs(r - length), r) for r in every)[1] for length, every in lengths)
    ratio = (total + _TINY) / (closest + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n in range(ORDERS):
        product *= (correct[n] + _TINY) / (guessed[n] + _SMALL)
        scores.append(product ** (1 / (n + 1)) * brevity)
    return scores


def _rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """Computes the F-measure of the longest common subsequence.

    Precision and recall are each the best over all references.
    """
    # Splitting at single spaces, as the reference scorer does, makes an empty sentence one empty
    # word, which matches an empty reference.
    words = hypothesis.split(" ")
    common = [(longest_common(words, text.split(" ")), text.count(" ") + 1) for text in references]
    precision = max(length for length, _ in common) / len(words)
    recall = max(length / size for length, size in common)
    if not precision:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence of two sentences.

    Each column of the table of dynamic programming is held in the bits of one integer.

    Args:
        one: Words of the first sentence.
        other: Words of the second sentence.

    Returns:
        The number of words of the longest common subsequence.

    References:
        Hyyrö, A note on bit-parallel computation of the longest common subsequence, 2004.

    Example:
        >>> from rcnn_jax.metrics.captions.scores import longest_common
        >>> longest_common("a red star".split(), "a star".split())
        2
    """
    positions: dict[str, int] = collections.defaultdict(int)
    for index, word in enumerate(one):
        positions[word] |= 1 << index
    whole = (1 << len(one)) - 1
    column = whole
    for word in other:
        matched = column & positions.get(word, 0)
        column = ((column + matched) | (column - matched)) & whole
    return len(one) - column.bit_count()
