"""What sentences have in common with training and with each other, counted by hand."""

import pytest

from rcnn_jax.metrics.novelty import statistics

TRAINING = ["a dog runs", "a red ball on the grass", "two dogs"]


def test_against_numbers_counted_by_hand():
    found = statistics(["a dog runs", "a dog runs", "a red dog", "two"], TRAINING)
    assert found == {
        "copied": 2 / 4,
        "different": 3 / 4,
        "vocabulary": 5,  # a dog runs red two
        "mean_length": 10 / 4,
        "distinct_1": 5 / 10,
        "distinct_2": 4 / 6,  # a dog, dog runs, a red, red dog
        "distinct_3": 2 / 3,
        "distinct_4": 0,
        "seen_1": 1,
        "seen_2": 5 / 6,  # red dog is new
        "seen_3": 2 / 3,
        "seen_4": 0,
    }


def test_part_of_a_sentence_is_no_copy():
    assert statistics(["a red ball"], TRAINING)["copied"] == 0
    assert statistics(["a red ball"], TRAINING)["seen_3"] == 1
    assert statistics(["a  red ball on the grass"], iter(TRAINING))["copied"] == 1
    long = statistics(["a red ball on the grass"], TRAINING)
    assert long["seen_4"] == long["distinct_4"] == 1


def test_without_training_nothing_is_compared_with_it():
    found = statistics(["", "x"])
    assert {"copied", "seen_1"}.isdisjoint(found)
    assert (found["mean_length"], found["vocabulary"], found["different"]) == (0.5, 1, 1)
    with pytest.raises(ValueError, match="at least one, got none"):
        statistics([], TRAINING)
