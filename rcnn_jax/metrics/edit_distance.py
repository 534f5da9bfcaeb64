"""Edit distances between transcripts and references: errors, confusions and calibration.

The edit distance and its operations are those of rapidfuzz. Texts are compared as they are;
variants that should count as equal, such as two encodings of an accent, must be normalised
beforehand.

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
    """Numbers of edit operations over lines; those of several sets of lines can be added.

    Attributes:
        substitutions: Number of characters or words that replace others.
        insertions: Number of characters or words of transcripts that references lack.
        deletions: Number of characters or words of references that transcripts lack.
        length: Number of characters or words of all references.
        exact: Number of lines that equal their reference.
        lines: Number of lines.
    """

    substitutions: int
    insertions: int
    deletions: int
    length: int
    exact: int
    lines: int

    @property
    def distance(self) -> int:
        """The least number of operations that turn the references into the transcripts."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Operations per character or word of the references; it may exceed 1.

        Without any reference it is 0 if there is no operation either, and infinite if there is.
        """
        if self.length:
            return self.distance / self.length
        return math.inf if self.distance else 0.0

    @property
    def sequence_accuracy(self) -> float:
        """Share of lines that are entirely correct, in 0..1; 0 without lines."""
        return self.exact / self.lines if self.lines else 0.0

    def __add__(self, other: "EditCounts") -> "EditCounts":
        """Returns the sums of both sets of counts."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return EditCounts(*(mine + its for mine, its in pairs))


def character_errors(references: Sequence[str], transcripts: Sequence[str]) -> EditCounts:
    """Counts edits of characters; `rate` is the character error rate (CER).

    Args:
        references: True text of each line.
        transcripts: Predicted text of each line.

    Returns:
        The numbers of edit operations over all lines.

    Raises:
        ValueError: The numbers of lines differ, or rapidfuzz is not installed.

    Example:
        >>> from rcnn_jax.metrics.edit_distance import character_errors
        >>> errors = character_errors(["kitten"], ["sitting"])
        >>> errors.substitutions, errors.insertions, errors.deletions, errors.rate
        (2, 1, 0, 0.5)
    """
    return _errors(references, transcripts, str)


def word_errors(references: Sequence[str], transcripts: Sequence[str]) -> EditCounts:
    """Counts edits of words, which white space separates; `rate` is the word error rate (WER).

    Args:
        references: True text of each line.
        transcripts: Predicted text of each line.

    Returns:
        The numbers of edit operations over all lines.

    Raises:
        ValueError: The numbers of lines differ, or rapidfuzz is not installed.

    Example:
        >>> from rcnn_jax.metrics.edit_distance import word_errors
        >>> round(word_errors(["the cat sat"], ["the cat sat down"]).rate, 3)
        0.333
    """
    return _errors(references, transcripts, str.split)


def sequence_accuracy(references: Sequence[str], transcripts: Sequence[str]) -> float:
    """Returns the share of lines that are entirely correct, in 0..1; 0 without lines.

    Args:
        references: True text of each line.
        transcripts: Predicted text of each line.

    Returns:
        The number of lines that equal their reference, divided by the number of lines.

    Raises:
        ValueError: The numbers of lines differ.
    """
    right = [reference == transcript for reference, transcript in _pairs(references, transcripts)]
    return sum(right) / len(right) if right else 0.0


@dataclasses.dataclass(frozen=True)
class Confusions:
    """Which characters were read as which.

    Attributes:
        substituted: Number of times by (character of the reference, character in its place).
        inserted: Number of times by character that transcripts have and references lack.
        deleted: Number of times by character that references have and transcripts lack.
    """

    substituted: collections.Counter[tuple[str, str]]
    inserted: collections.Counter[str]
    deleted: collections.Counter[str]


def confusions(references: Sequence[str], transcripts: Sequence[str]) -> Confusions:
    """Counts the operations of one shortest edit of each reference into its transcript.

    Where several edits are equally short, rapidfuzz decides which one counts.

    Args:
        references: True text of each line.
        transcripts: Predicted text of each line.

    Returns:
        The substituted, inserted and deleted characters and how often each occurs.

    Raises:
        ValueError: The numbers of lines differ, or rapidfuzz is not installed.
    """
    edits = _edits()
    counted = Confusions(collections.Counter(), collections.Counter(), collections.Counter())
    for reference, transcript in _pairs(references, transcripts):
        for operation, source, target in edits(reference, transcript):
            if operation == "replace":
                counted.substituted[reference[source], transcript[target]] += 1
            elif operation == "insert":
                counted.inserted[transcript[target]] += 1
            else:
                counted.deleted[reference[source]] += 1
    return counted


@dataclasses.dataclass(frozen=True)
class ConfidenceBin:
    """Statistics of the lines whose confidence lies in one interval.

    Attributes:
        low: Lower end of the interval, which it does not include, except that 0 belongs to the
            first.
        high: Upper end of the interval, which it includes.
        count: Number of lines.
        confidence: Mean confidence of the lines.
        accuracy: Share of the lines that are correct.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far confidences are from accuracies.

    Attributes:
        bins: Intervals that hold lines, by rising confidence.
        expected_error: Mean of |accuracy - confidence| over intervals, weighted by their number of
            lines; 0 without lines.
    """

    bins: tuple[ConfidenceBin, ...]
    expected_error: float


def calibration(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = 10
) -> Calibration:
    """Compares confidences with how often they were correct.

    Args:
        confidences: Confidence of each line, in 0..1.
        correct: Whether each line is correct.
        bins: Number of intervals of equal width that confidences are grouped into.

    Returns:
        The intervals that hold lines, and the expected calibration error.

    Raises:
        ValueError: The numbers of lines differ, a confidence is outside 0..1 or not a number, or
            there is no interval.

    References:
        Guo et al., On calibration of modern neural networks, ICML 2017, equation 3.

    Example:
        >>> from rcnn_jax.metrics.edit_distance import calibration
        >>> table = calibration([0.95, 0.9, 0.6, 0.55], [True, True, True, False])
        >>> round(table.expected_error, 3), table.bins[0].count, table.bins[0].accuracy
        (0.075, 2, 0.5)
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
    gaps = (interval.count * abs(interval.accuracy - interval.confidence) for interval in table)
    return Calibration(table, math.fsum(gaps) / max(1, len(confidences)))


def _errors(
    references: Sequence[str], transcripts: Sequence[str], units: Callable[[str], Sequence[str]]
) -> EditCounts:
    """Counts edits of the units, characters or words, that a text is split into."""
    edits = _edits()
    operations: collections.Counter[str] = collections.Counter()
    length = exact = 0
    pairs = list(_pairs(references, transcripts))
    for reference, transcript in pairs:
        true_units = units(reference)
        operations.update(operation for operation, _, _ in edits(true_units, units(transcript)))
        length += len(true_units)
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
    """Returns pairs of (reference, transcript), after checking that there are as many of both."""
    if isinstance(references, str) or isinstance(transcripts, str):
        raise ValueError("references and transcripts are sequences of lines, got a single string")
    if len(references) != len(transcripts):
        raise ValueError(
            f"as many transcripts as references are needed, got {len(transcripts)} and "
            f"{len(references)}"
        )
    return zip(references, transcripts, strict=True)


def _edits() -> Callable[[Sequence[str], Sequence[str]], Any]:
    """Returns a function that lists rapidfuzz's edit operations as (kind, source, target)."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise ValueError(
            f"edit distances need rapidfuzz ({error}): pip install rapidfuzz"
        ) from error

    def edits(reference: Sequence[str], transcript: Sequence[str]) -> Any:
        operations = Levenshtein.editops(reference, transcript)
        return [(step.tag, step.src_pos, step.dest_pos) for step in operations]

    return edits
