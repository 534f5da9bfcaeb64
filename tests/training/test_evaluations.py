"""Metrics that are no numbers: divergence, or a ratio of nothing, or a mistake to be warned of."""

import math

import pytest

from rcnn_jax.training import evaluations

pytestmark = pytest.mark.one_row


def check(metrics, best="error", warned=None, undefined=()):
    return evaluations.check(metrics, 6, best, set() if warned is None else warned, undefined)


def test_a_ratio_of_nothing_is_no_divergence_and_counts_as_the_worst(capsys):
    assert check({"loss": 2.0, "precision": math.nan}, "precision") == ""
    assert "precision is NaN at step 6" in capsys.readouterr().err
    for mode in ("min", "max"):
        for bad in (math.nan, math.inf, -math.inf, None):
            assert evaluations.rank(bad, mode) < evaluations.rank(1e300, mode)
            assert evaluations.rank(bad, mode) < evaluations.rank(-1e300, mode)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_divergence(value, capsys):
    assert check({"loss": value, "error": 0.5}, "loss").startswith(f"loss is {value} at step 6")
    told = check({"loss": math.nan, "error": value, "top_5_error": math.nan})
    assert told.startswith(f"error is {value} at step 6; loss, top_5_error: nan (are labels")
    assert not capsys.readouterr().err


def test_another_metric_that_is_no_number_is_warned_of_once(capsys):
    warned = set()
    for _ in range(2):
        assert check({"loss": math.nan, "error": 0.5}, warned=warned) == ""
    text = capsys.readouterr().err
    assert text.count("the validation metric loss is NaN at step 6: are labels out of range") == 1


def test_what_nothing_was_counted_for_is_undefined_and_no_divergence(capsys):
    """Such as the loss of a validation split all of whose lines have characters of their own."""
    metrics = {"loss": math.nan, "cer": 1.0}
    assert check(metrics, "loss", undefined={"loss"}) == ""
    assert capsys.readouterr().err == (
        "warning: the validation metric loss is undefined at step 6: nothing is counted (0/0); "
        "as config.best_metric it counts as the worst value\n"
    )
    assert check({"loss": math.nan, "cer": math.nan}, "cer", undefined={"loss"}) == ""
    assert check({"loss": math.nan, "f1": math.nan}, "f1", undefined={"f1"}) == ""
    assert check({"loss": math.nan, "f1": math.nan}, "f1") != ""
