"""Edits against a table filled in by hand, and confidences against what they promise."""

import itertools
import math
import random
import sys
from collections import Counter

import pytest

from rcnn_jax.metrics.edit_distance import (
    Confusions,
    EditCounts,
    calibration,
    character_errors,
    confusions,
    sequence_accuracy,
    word_errors,
)


def distance(reference, transcript):
    """Wagner and Fischer's table: the fewest operations, filled in cell by cell."""
    table = {(i, 0): i for i in range(len(reference) + 1)}
    table |= {(0, j): j for j in range(len(transcript) + 1)}
    for i, j in itertools.product(range(1, len(reference) + 1), range(1, len(transcript) + 1)):
        table[i, j] = min(
            table[i - 1, j] + 1,
            table[i, j - 1] + 1,
            table[i - 1, j - 1] + (reference[i - 1] != transcript[j - 1]),
        )
    return table[len(reference), len(transcript)]


def random_lines(count):
    """Pairs of lines of three characters that are alike more often than not."""
    rng = random.Random(0)
    for _ in range(count):
        reference = "".join(rng.choice("ab ") for _ in range(rng.randrange(9)))
        changed = [c if rng.random() < 0.7 else rng.choice(["", "ß", "ab"]) for c in reference]
        yield reference, "".join(changed)


def test_a_case_worked_out_by_hand():
    references, transcripts = ["kitten", "one two three", "same"], ["sitting", "one too", "same"]
    found = character_errors(references, transcripts)
    # k->s, e->i, +g; w->o and the six characters of ` three`.
    assert found == EditCounts(
        substitutions=3, insertions=1, deletions=6, length=23, exact=1, lines=3
    )
    assert (found.distance, found.rate, found.sequence_accuracy) == (10, 10 / 23, 1 / 3)
    words = word_errors(references, transcripts)
    assert (words.substitutions, words.deletions, words.length) == (2, 1, 5)
    assert words.rate == 3 / 5
    assert sequence_accuracy(references, transcripts) == 1 / 3


def test_every_count_against_the_table():
    lines = list(random_lines(100))
    total = EditCounts(0, 0, 0, 0, 0, 0)
    for reference, transcript in lines:
        for errors, units in ((character_errors, list), (word_errors, str.split)):
            found, own, its = errors([reference], [transcript]), units(reference), units(transcript)
            assert found.distance == distance(own, its)
            assert found.insertions - found.deletions == len(its) - len(own)
            assert found.length == len(own)
        total += character_errors([reference], [transcript])
    assert total == character_errors(*zip(*lines, strict=True))
    assert 5 < total.exact < 95


def test_confusions_turn_the_reference_into_the_transcript():
    lines = list(random_lines(100))
    for reference, transcript in lines:
        found = confusions([reference], [transcript])
        pairs = found.substituted.elements()
        lost, won = zip(*pairs, strict=True) if found.substituted else ((), ())
        before = [*reference, *won, *found.inserted.elements()]
        after = [*transcript, *lost, *found.deleted.elements()]
        assert sorted(before) == sorted(after)
    references, transcripts = zip(*lines, strict=True)
    every, counts = confusions(references, transcripts), character_errors(references, transcripts)
    assert every.substituted.total() == counts.substitutions
    assert every.inserted.total() == counts.insertions
    assert every.deleted.total() == counts.deletions
    one = Confusions(Counter({("l", "1"): 1}), Counter(), Counter())
    assert confusions(["1l1"], ["111"]) == one


def test_references_without_anything():
    assert character_errors([], []).rate == 0
    assert character_errors([], []).sequence_accuracy == sequence_accuracy([], []) == 0
    assert character_errors([""], [""]).rate == 0
    assert character_errors([""], ["x"]).rate == math.inf


def test_calibration():
    """Of what is said with confidence 0.75 three quarters are right: nothing is wrong with that."""
    fair = calibration([0.75] * 4 + [1.0, 0.0], [True, True, True, False, True, False])
    assert fair.expected_error == 0
    assert [(b.low, b.high, b.count, b.accuracy) for b in fair.bins] == [
        (0, 0.1, 1, 0), (0.7, 0.8, 4, 0.75), (0.9, 1, 1, 1),
    ]  # fmt: skip
    sure = calibration([0.9, 0.8, 0.3], [False, True, False], bins=2)
    assert [(b.count, b.accuracy) for b in sure.bins] == [(1, 0), (2, 0.5)]
    assert sure.bins[1].confidence == pytest.approx(0.85)
    assert sure.expected_error == pytest.approx((0.3 + 2 * 0.35) / 3)
    # The upper end of an interval belongs to it.
    assert calibration([0.5], [True], bins=2).bins[0].high == 0.5
    assert calibration([], []).expected_error == 0


def test_what_is_refused(monkeypatch):
    with pytest.raises(
        ValueError, match="as many transcripts as references are needed, got 1 and 2"
    ):
        character_errors(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="sequences of lines, got a single string"):
        sequence_accuracy("abc", "abd")
    with pytest.raises(ValueError, match=r"a confidence lies in 0\.\.1, got nan"):
        calibration([math.nan], [True])
    with pytest.raises(ValueError, match=r"at least one bin .* got 0, 1 and 1"):
        calibration([0.5], [True], bins=0)
    with pytest.raises(ValueError, match="got 10, 2 and 1"):
        calibration([0.5], [True, False])
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(ValueError, match=r"need rapidfuzz .*pip install rapidfuzz"):
        word_errors(["a"], ["a"])
