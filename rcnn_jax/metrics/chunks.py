"""Precision, recall and F1 of chunks: how slot filling, named entities and chunking are scored."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

Chunk = tuple[int, int, str]


def conlleval(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Scores tag sequences as the `conlleval` script of the CoNLL-2000 shared task does.

    A predicted chunk is correct if a gold chunk has the same first token, last token and type.
    Sequences need not be well formed, see `chunks`. A ratio without a denominator is 0.

    Args:
        gold: tags of each sentence, such as `"B-city"`, `"I-city"` or `"O"`.
        predicted: as many for each sentence.

    Returns:
        `accuracy` (share of equal tags, `"O"` included), `precision`, `recall` and `f1` over all
        chunks, in percent; and `types`, for each type in either in alphabetical order a dict of
        `precision`, `recall` and `f1` in percent and the counts `gold`, `predicted`, `correct`.

    Raises:
        ValueError: the number of sentences or of the tags of one differs, or a tag is none.

    Reference:
        Tjong Kim Sang & Buchholz, Introduction to the CoNLL-2000 shared task: chunking, 2000.
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
        equal += sum(a == b for a, b in zip(true, guess, strict=True))
        true_chunks, guessed_chunks = chunks(true), chunks(guess)
        both = set(true_chunks) & set(guessed_chunks)
        for name, found in zip(counts, (true_chunks, guessed_chunks, both), strict=True):
            counts[name].update(kind for _, _, kind in found)
    kinds = sorted(counts["gold"] | counts["predicted"])
    totals = {name: counter.total() for name, counter in counts.items()}
    return {
        "accuracy": _percent(equal, tokens),
        **_ratios(**totals),
        "types": {
            kind: _ratios(**own) | own
            for kind in kinds
            for own in [{name: counter[kind] for name, counter in counts.items()}]
        },
    }


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The chunks of one sentence, also of one that is tagged inconsistently.

    A chunk begins at a B, at an I after an O or the beginning, and at an I of another type than
    the tag before. It ends before the next beginning or O. This covers both habits of tagging: a B
    at each chunk (IOB2), or only between two chunks of one type that touch (IOB1).

    Args:
        tags: `"O"`, `"B"` or `"I"`, the latter two alone or followed by a hyphen and a type, which
            may have hyphens itself.

    Returns:
        Chunks `(first token, token after the last, type)`; the type is `""` where there is none.

    Raises:
        ValueError: a tag is none of these.
    """
    found: list[Chunk] = []
    first, before = 0, None  # the type of the chunk that is open, None outside
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        if prefix not in ("B", "I", "O") or (prefix == "O" and tag != "O"):
            raise ValueError(f"a tag must be 'O', 'B', 'I', 'B-type' or 'I-type', got {tag!r}")
        inside = None if prefix == "O" else kind
        if prefix == "I" and inside == before:
            continue
        if before is not None:
            found.append((first, place, before))
        first, before = place, inside
    return found


def _ratios(gold: int, predicted: int, correct: int) -> dict[str, float]:
    precision, recall = _percent(correct, predicted), _percent(correct, gold)
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / total if total else 0.0,
    }


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
