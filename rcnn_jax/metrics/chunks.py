"""Precision, recall and F1 of chunks, for slot filling, named entities and chunking."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

Chunk = tuple[int, int, str]


def conlleval(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Scores tag sequences as the `conlleval` script of the CoNLL-2000 shared task does.

    A predicted chunk is correct if a gold chunk has the same first token, last token and type.
    Sequences need not be well formed; see `chunks`. A ratio without a denominator is 0.

    Args:
        gold: True tags of each sentence, such as `"B-city"`, `"I-city"` or `"O"`.
        predicted: Predicted tags of each sentence, as many as there are true ones.

    Returns:
        `accuracy`, the share of equal tags including `"O"`; `precision`, `recall` and `f1` over all
        chunks, in percent; and `types`, which maps each type of either side, in alphabetical order,
        to a dict of `precision`, `recall` and `f1` in percent and the counts `gold`, `predicted`
        and `correct`.

    Raises:
        ValueError: The numbers of sentences or of the tags of a sentence differ, or a string is not
            a tag.

    References:
        Tjong Kim Sang & Buchholz, Introduction to the CoNLL-2000 shared task: chunking, 2000.

    Example:
        >>> from rcnn_jax.metrics.chunks import conlleval
        >>> gold = [["O", "B-city", "I-city", "B-date"]]
        >>> scores = conlleval(gold, [["O", "B-city", "I-city", "O"]])
        >>> scores["accuracy"], scores["precision"], scores["recall"], round(scores["f1"], 1)
        (75.0, 100.0, 50.0, 66.7)
    """
    if len(gold) != len(predicted):
        raise ValueError(
            f"as many predicted sentences as gold ones are needed, got {len(predicted)} and "
            f"{len(gold)}"
        )
    counts = {name: Counter() for name in ("gold", "predicted", "correct")}
    tokens = equal = 0
    for index, (true, guess) in enumerate(zip(gold, predicted, strict=True)):
        if len(true) != len(guess):
            raise ValueError(
                f"sentence {index} has {len(true)} gold tags and {len(guess)} predicted ones"
            )
        tokens += len(true)
        equal += sum(parts(a) == parts(b) for a, b in zip(true, guess, strict=True))
        true_chunks, guessed_chunks = chunks(true), chunks(guess)
        both = set(true_chunks) & set(guessed_chunks)
        for name, group in zip(counts, (true_chunks, guessed_chunks, both), strict=True):
            counts[name].update(kind for _, _, kind in group)
    kinds = sorted(counts["gold"] | counts["predicted"])
    totals = {name: counter.total() for name, counter in counts.items()}
    return {
        "accuracy": _percent(equal, tokens),
        **ratios(**totals),
        "types": {
            kind: ratios(**numbers) | numbers
            for kind in kinds
            for numbers in [{name: counter[kind] for name, counter in counts.items()}]
        },
    }


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """Returns the chunks of one sentence, also of an inconsistently tagged one.

    A chunk begins at a B, at an I after an O or at the beginning, and at an I of another type than
    the previous tag. It ends before the next beginning or O. This covers both tagging schemes: a B
    at each chunk (IOB2), or only between two adjacent chunks of one type (IOB1).

    Args:
        tags: `"O"`, `"B"` or `"I"`, the latter two alone or followed by a hyphen and a type, which
            may itself contain hyphens.

    Returns:
        Chunks `(first token, token after the last, type)`; the type is `""` for a tag without one,
        and for one of the type `0`, which the script takes for none.

    Raises:
        ValueError: A string is not such a tag.

    Example:
        >>> from rcnn_jax.metrics.chunks import chunks
        >>> chunks(["B-city", "I-city", "O", "I-date"])
        [(0, 2, 'city'), (3, 4, 'date')]
    """
    result: list[Chunk] = []
    first, before = 0, None  # first token and type of the open chunk, None outside of chunks
    for index, tag in enumerate([*tags, "O"]):
        prefix, kind = parts(tag)
        inside = None if prefix == "O" else kind
        if prefix == "I" and inside == before:
            continue
        if before is not None:
            result.append((first, index, before))
        first, before = index, inside
    return result


def parts(tag: str) -> tuple[str, str]:
    """Splits a tag into its letter and the type of its chunk.

    Args:
        tag: `"O"`, `"B"` or `"I"`, the latter two alone or followed by a hyphen and a type.

    Returns:
        The letter, and the type or `""`. Type `0` is `""`, too: `conlleval` is a script in Perl,
        where the text `0` is false.

    Raises:
        ValueError: The string is not such a tag.

    Example:
        >>> from rcnn_jax.metrics.chunks import parts
        >>> parts("B-city"), parts("I"), parts("B-0")
        (('B', 'city'), ('I', ''), ('B', ''))
    """
    letter, _, kind = tag.partition("-")
    if letter not in ("B", "I", "O") or (letter == "O" and tag != "O"):
        raise ValueError(f"a tag must be 'O', 'B', 'I', 'B-type' or 'I-type', got {tag!r}")
    return letter, "" if kind == "0" else kind


def ratios(gold: int | float, predicted: int | float, correct: int | float) -> dict[str, float]:
    """Computes precision, recall and F1 from numbers of chunks; a ratio of nothing is 0.

    Args:
        gold: Number of true chunks.
        predicted: Number of predicted chunks.
        correct: Number of predicted chunks that are true.

    Returns:
        A dict of `precision`, `recall` and `f1` in percent.

    Example:
        >>> from rcnn_jax.metrics.chunks import ratios
        >>> ratios(gold=4, predicted=0, correct=0)
        {'precision': 0.0, 'recall': 0.0, 'f1': 0.0}
    """
    precision, recall = _percent(correct, predicted), _percent(correct, gold)
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / total if total else 0.0,
    }


def _percent(part: int | float, whole: int | float) -> float:
    return 100.0 * part / whole if whole else 0.0
