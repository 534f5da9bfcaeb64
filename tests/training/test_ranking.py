"""A metric whose name says that more is better is not ranked by less."""

import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.training.ranking import better_mode, check_best_mode

pytestmark = pytest.mark.one_row


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("accuracy", "max"), ("sequence_accuracy", "max"), ("f1", "max"), ("cider_d", "max"),
        ("bleu_4", "max"), ("mean_iou", "max"), ("mAP", "max"), ("recall@10", "max"),
        ("error", "min"), ("top_5_error", "min"), ("error_after_3", "min"), ("loss", "min"),
        ("recall_error", "min"), ("cer", "min"), ("mse", "min"),
        ("all_true", None), ("confidence", None), ("unknown_tags", None),
    ],
)  # fmt: skip
def test_what_a_name_says(metric, mode):
    assert better_mode(metric) == mode
    for chosen in ("min", "max"):
        if mode in (None, chosen):
            check_best_mode(metric, chosen)
        else:
            with pytest.raises(UsageError, match=f"'{metric}'.*: set --config.best_mode={mode}"):
                check_best_mode(metric, chosen)
