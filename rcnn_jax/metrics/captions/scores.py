"""The figures that captions are compared by, equal to those of the reference scorers of COCO.

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

# What the reference scorer adds to numerators and denominators in place of a test for zero.
_TINY, _SMALL = 1e-15, 1e-9
_BETA = 1.2  # how much more recall weighs than precision in ROUGE-L


def corpus_scores(
    hypotheses: Mapping[Any, str], references: Mapping[Any, Sequence[str]]
) -> dict[str, Any]:
    """Scores one sentence for each picture against several that people wrote.

    Args:
        hypotheses: id of a picture to its tokenised sentence, words separated by one space. The
            empty sentence is one.
        references: the same ids, each with at least one tokenised sentence. Published figures
            tokenise both sides as `rcnn_jax.data.text.ptb` does.

    Returns:
        `bleu_1` to `bleu_4`, of the corpus, with the closest length of a picture's references;
        `rouge_l` and `cider_d`, means over pictures, the latter 0 to 10; and `cider_d_each`, id to
        the CIDEr-D of that picture. Its document frequencies are those of these references, so
        that the score of a single picture alone is 0.

    Raises:
        ValueError: the ids differ, there are none, or a picture has no reference.
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
    """Refuses what cannot be scored.

    Raises:
        ValueError: the ids differ, there are none, or a picture has no reference.
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
    """BLEU with n-grams up to 1, 2, 3 and 4 words; counts are added up over the corpus."""
    correct, guessed = [0] * ORDERS, [0] * ORDERS
    for written, wanted in counted:
        for n, own in enumerate(written):
            most: collections.Counter[tuple[str, ...]] = collections.Counter()
            for reference in wanted:
                most |= reference[n]  # the greater of two counts
            guessed[n] += own.total()
            correct[n] += sum(min(count, most[gram]) for gram, count in own.items())
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
    """F of the longest common subsequence, with the best precision and the best recall of any."""
    # One space separates words here, as in the reference scorer: an empty sentence is one word
    # that is empty, and right where the reference is empty as well.
    words = hypothesis.split(" ")
    common = [(longest_common(words, text.split(" ")), text.count(" ") + 1) for text in references]
    precision = max(length for length, _ in common) / len(words)
    recall = max(length / size for length, size in common)
    if not precision:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence of words.

    A column of the table of dynamic programming is held in the bits of one integer (Hyyrö, A note
    on bit-parallel computation of the longest common subsequence, 2004).
    """
    places: dict[str, int] = collections.defaultdict(int)
    for place, word in enumerate(one):
        places[word] |= 1 << place
    whole = (1 << len(one)) - 1
    column = whole
    for word in other:
        matched = column & places.get(word, 0)
        column = ((column + matched) | (column - matched)) & whole
    return len(one) - column.bit_count()
