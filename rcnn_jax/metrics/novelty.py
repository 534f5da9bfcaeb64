"""Novelty of generated sentences: copies of training sentences, diversity and lengths."""

from collections.abc import Iterable, Sequence

from rcnn_jax.metrics.captions.ngrams import ORDERS, counts


def statistics(captions: Sequence[str], training: Iterable[str] = ()) -> dict[str, float]:
    """Measures sentences without looking at their pictures.

    Args:
        captions: Tokenised sentences, at least one.
        training: All tokenised sentences of the training split, which are read once. If there are
            none, the figures that compare captions with them are left out.

    Returns:
        `copied`, the share of captions that are whole training sentences; `seen_1` to `seen_4`, the
        share of n-grams that occur in training, each counted as often as it is generated;
        `distinct_1` to `distinct_4`, the share of n-grams that differ from each other (distinct-n);
        `different`, the share of captions that do; `vocabulary`, the number of different words; and
        `mean_length` in words. Shares of n-grams are 0 where no caption is that long.

    Raises:
        ValueError: There is no caption.

    References:
        Li, Galley, Brockett, Gao & Dolan, A diversity-promoting objective function for neural
        conversation models, NAACL 2016 (distinct-n).

    Example:
        >>> from rcnn_jax.metrics.novelty import statistics
        >>> measured = statistics(["a red star", "a blue ring"], training=["a red star"])
        >>> measured["copied"], measured["seen_2"], measured["vocabulary"]
        (0.5, 0.5, 5.0)
    """
    if not len(captions):
        raise ValueError("what is new of sentences is measured on at least one, got none")
    sentences = [tuple(sentence.split()) for sentence in captions]
    totals = counts(sentences[0])
    for words in sentences[1:]:
        for total, counted in zip(totals, counts(words), strict=True):
            total.update(counted)
    # Looks for n-grams of the captions only: those of a whole training split would fill memory.
    unseen, copied, trained = [set(total) for total in totals], set(), False
    different = set(sentences)
    for sentence in training:
        trained, words = True, tuple(sentence.split())
        if words in different:
            copied.add(words)
        for n, left in enumerate(unseen, start=1):
            if left:
                left.difference_update(zip(*(words[start:] for start in range(n)), strict=False))
    number = len(sentences)
    result = {
        "different": len(different) / number,
        "vocabulary": float(len(totals[0])),
        "mean_length": totals[0].total() / number,
    }
    for n, total in zip(range(1, ORDERS + 1), totals, strict=True):
        result[f"distinct_{n}"] = len(total) / max(1, total.total())
    if trained:
        result["copied"] = sum(words in copied for words in sentences) / number
        for n, (total, left) in enumerate(zip(totals, unseen, strict=True), start=1):
            seen = sum(count for gram, count in total.items() if gram not in left)
            result[f"seen_{n}"] = seen / max(1, total.total())
    return result
