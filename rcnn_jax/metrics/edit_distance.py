"""How far transcripts are from what is written: errors of characters and words, and confidence.

The edit distance and its operations are those of rapidfuzz. Texts are compared as they are: what
is to count as equal, such as two ways to write an accent, is normalised beforehand.

References:
    Levenshtein, Binary codes capable of correcting deletions, insertions and reversals, Soviet
    Physics Doklady 1966;
    Guo, Pleiss, Sun & Weinberger, On calibration of modern neural networks, ICML 2017.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class EditCounts:
    """Edit operations over lines; those of several sets of lines can be added.

    Attributes:
        substitutions: characters or words in place of others.
        insertions: that a transcript has and its reference has not.
        deletions: that a reference has and its transcript has not.
        length: characters or words of all references.
        exact: lines that are equal to their reference.
        lines: number of lines.
    """

    substitutions: int
    insertions: int
    deletions: int
    length: int
    exact: int
    lines: int

    @property
    def distance(self) -> int:
        """The fewest operations that turn the references into the transcripts."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Operations for each character or word of the references; may exceed 1.

        Without any reference it is 0 if there is no operation either, and infinite if there is.
        """
        if self.length:
            return self.distance / self.length
        return math.inf if self.distance else 0.0

    @property
    def sequence_accuracy(self) -> float:
        """Share of lines that are right as a whole, 0 to 1; 0 without lines."""
        return self.exact / self.lines if self.lines else 0.0

    def __add__(self, other: "EditCounts") -> "EditCounts":
        """The counts of both."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return EditCounts(*(mine + its for mine, its in pairs))


def character_errors(references: Sequence[str], transcripts: Sequence[str]) -> EditCounts:
    """Edits of characters; `rate` is the character error rate (CER).

    Args:
        references: what is written on each line.
        transcripts: as many lines as they were read.

    Raises:
        ValueError: the numbers differ, or rapidfuzz is not installed.
    """
    return _errors(references, transcripts, str)


def word_errors(references: Sequence[str], transcripts: Sequence[str]) -> EditCounts:
    """Edits of words, which white space separates; `rate` is the word error rate (WER).

    Args and errors are those of `character_errors`.
    """
    return _errors(references, transcripts, str.split)


def sequence_accuracy(references: Sequence[str], transcripts: Sequence[str]) -> float:
    """Share of lines that are right to the last character, 0 to 1; 0 without lines.

    Raises:
        ValueError: the numbers differ.
    """
    right = [reference == transcript for reference, transcript in _pairs(references, transcripts)]
    return sum(right) / len(right) if right else 0.0


@dataclasses.dataclass(frozen=True)
class Confusions:
    """Which characters were read as which.

    Attributes:
        substituted: (character of the reference, character in its place) to number.
        inserted: character to number.
        deleted: character to number.
    """

    substituted: collections.Counter[tuple[str, str]]
    inserted: collections.Counter[str]
    deleted: collections.Counter[str]


def confusions(references: Sequence[str], transcripts: Sequence[str]) -> Confusions:
    """Counts the operations of one shortest way from each reference to its transcript.

    Where several ways are equally short, rapidfuzz decides which one counts.

    Args and errors are those of `character_errors`.
    """
    edits = _edits()
    found = Confusions(collections.Counter(), collections.Counter(), collections.Counter())
    for reference, transcript in _pairs(references, transcripts):
        for operation, place, other in edits(reference, transcript):
            if operation == "replace":
                found.substituted[reference[place], transcript[other]] += 1
            elif operation == "insert":
                found.inserted[transcript[other]] += 1
            else:
                found.deleted[reference[place]] += 1
    return found


@dataclasses.dataclass(frozen=True)
class ConfidenceBin:
    """Lines whose confidence lies in one interval.

    Attributes:
        low: lower end, above which they lie (0 itself belongs to the first interval).
        high: upper end, which belongs to the interval.
        count: number of lines.
        confidence: their mean confidence.
        accuracy: share of them that are right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far confidences are from what they promise.

    Attributes:
        bins: those intervals that hold lines, by rising confidence.
        expected_error: mean of |accuracy - confidence| over intervals, weighted by lines; 0 without
            lines.
    """

    bins: tuple[ConfidenceBin, ...]
    expected_error: float


def calibration(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = 10
) -> Calibration:
    """Compares confidences with how often they were right (Guo et al. 2017, equation 3).

    Args:
        confidences: of each line, 0 to 1.
        correct: whether each line is right.
        bins: intervals of equal width that the confidences fall into.

    Raises:
        ValueError: the numbers of lines differ, a confidence lies outside or is no number, or
            there is no interval.
    """
    if bins < 1 or len(confidences) != len(correct):
        raise ValueError(
            "calibration needs at least one bin and as many answers as confidences, got "
            f"{bins}, {len(correct)} and {len(confidences)}"
        )
    held: dict[int, list[tuple[float, bool]]] = collections.defaultdict(list)
    for confidence, right in zip(confidences, correct, strict=True):
        if not 0 <= confidence <= 1:
            raise ValueError(f"a confidence lies in 0..1, got {confidence}")
        held[max(0, math.ceil(confidence * bins) - 1)].append((float(confidence), bool(right)))
    table = tuple(
        ConfidenceBin(
            low=number / bins,
            high=(number + 1) / bins,
            count=len(lines),
            confidence=math.fsum(confidence for confidence, _ in lines) / len(lines),
            accuracy=sum(right for _, right in lines) / len(lines),
        )
        for number, lines in sorted(held.items())
    )
    gaps = (own.count * abs(own.accuracy - own.confidence) for own in table)
    return Calibration(table, math.fsum(gaps) / max(1, len(confidences)))


def _errors(
    references: Sequence[str], transcripts: Sequence[str], units: Callable[[str], Sequence[str]]
) -> EditCounts:
    edits = _edits()
    operations: collections.Counter[str] = collections.Counter()
    length = exact = 0
    pairs = list(_pairs(references, transcripts))
    for reference, transcript in pairs:
        own = units(reference)
        operations.update(operation for operation, _, _ in edits(own, units(transcript)))
        length += len(own)
        exact += reference == transcript
    return EditCounts(
        substitutions=operations["replace"],
        insertions=operations["insert"],
        deletions=operations["delete"],
        length=length,
        exact=exact,
        lines=len(pairs),
    )


def _pairs(references: Sequence[str], transcripts: Sequence[str]) -> Iterator[tuple[str, str]]:
    if isinstance(references, str) or isinstance(transcripts, str):
        raise ValueError("references and transcripts are sequences of lines, got a single string")
    if len(references) != len(transcripts):
        raise ValueError(
            f"as many transcripts as references are needed, got {len(transcripts)} and "
            f"{len(references)}"
        )
    return zip(references, transcripts, strict=True)


def _edits() -> Callable[[Sequence[str], Sequence[str]], Any]:
    """Rapidfuzz's list of operations, or one sentence where it is missing."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise ValueError(
            f"edit distances need rapidfuzz ({error}): pip install rapidfuzz"
        ) from error

    def edits(reference: Sequence[str], transcript: Sequence[str]) -> Any:
        found = Levenshtein.editops(reference, transcript)
        return [(step.tag, step.src_pos, step.dest_pos) for step in found]

    return edits
