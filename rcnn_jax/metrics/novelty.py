"""How much of what a captioner says is its own: copies of training, variety, lengths."""

from collections.abc import Iterable, Sequence

from rcnn_jax.metrics.captions.ngrams import ORDERS, counts


def statistics(captions: Sequence[str], training: Iterable[str] = ()) -> dict[str, float]:
    """What is known of sentences without looking at the pictures.

    Args:
        captions: tokenised sentences, at least one.
        training: all tokenised sentences of the training split; read once. Without any, nothing is
            compared with them.

    Returns:
        `copied`, the share of sentences that are whole sentences of training; `seen_1` to `seen_4`,
        the share of n-grams that occur in training, each counted as often as it is said;
        `distinct_1` to `distinct_4`, the share of n-grams that differ from each other (distinct-n);
        `different`, the share of sentences that do; `vocabulary`, the number of different words;
        and `mean_length` in words. Shares of n-grams are 0 where no sentence is that long.

    Raises:
        ValueError: there is no sentence.

    Reference:
        Li, Galley, Brockett, Gao & Dolan, A diversity-promoting objective function for neural
        conversation models, NAACL 2016 (distinct-n).
    """
    if not len(captions):
        raise ValueError("what is new of sentences is measured on at least one, got none")
    sentences = [tuple(sentence.split()) for sentence in captions]
    totals = counts(sentences[0])
    for words in sentences[1:]:
        for total, own in zip(totals, counts(words), strict=True):
            total.update(own)
    # Only what was said is looked for: the n-grams of a whole training split would fill memory.
    unmet, met, trained = [set(total) for total in totals], set(), False
    different = set(sentences)
    for sentence in training:
        trained, words = True, tuple(sentence.split())
        if words in different:
            met.add(words)
        for n, left in enumerate(unmet, start=1):
            if left:
                left.difference_update(zip(*(words[start:] for start in range(n)), strict=False))
    number = len(sentences)
    found = {
        "different": len(different) / number,
        "vocabulary": float(len(totals[0])),
        "mean_length": totals[0].total() / number,
    }
    for n, total in zip(range(1, ORDERS + 1), totals, strict=True):
        found[f"distinct_{n}"] = len(total) / max(1, total.total())
    if trained:
        found["copied"] = sum(words in met for words in sentences) / number
        for n, (total, left) in enumerate(zip(totals, unmet, strict=True), start=1):
            said = sum(count for gram, count in total.items() if gram not in left)
            found[f"seen_{n}"] = said / max(1, total.total())
    return found
