"""Whether lower or higher values of a metric are better, judged by its name."""

from rcnn_jax.errors import UsageError

# Words that occur in names of metrics such as `chunk_f1` and `top_5_error`.
_HIGHER = frozenset(
    [
        "accuracy",
        "acc",
        "auc",
        "auroc",
        "ap",
        "map",
        "miou",
        "iou",
        "dice",
        "f1",
        "precision",
        "recall",
        "bleu",
        "cider",
        "meteor",
        "rouge",
        "spice",
        "psnr",
        "ssim",
        "r2",
        "reward",
        "return",
        "success",
        "solved",
    ]
)
_LOWER = frozenset(
    [
        "error",
        "errors",
        "err",
        "loss",
        "nll",
        "mse",
        "mae",
        "rmse",
        "cer",
        "wer",
        "perplexity",
        "ppl",
        "bpc",
        "bits",
        "distance",
    ]
)


def better_mode(metric: str) -> str | None:
    """Returns whether lower or higher values of a metric are better, judged by its name.

    The last word with a meaning decides: `recall_error` is an error.

    Args:
        metric: Name of the metric, such as `bleu_4`.

    Returns:
        "max" or "min", or None if no word of the name decides.
    """
    for word in reversed(metric.lower().replace("-", "_").replace("@", "_").split("_")):
        if word in _HIGHER or word in _LOWER:
            return "max" if word in _HIGHER else "min"
    return None


def check_best_mode(metric: str, mode: str) -> None:
    """Checks that `config.best_mode` does not contradict the name of the ranking metric.

    Args:
        metric: Name of the metric, `config.best_metric`.
        mode: "min" or "max", `config.best_mode`.

    Raises:
        UsageError: The name of the metric implies the other mode.
    """
    meant = better_mode(metric)
    if meant in (None, mode):
        return
    better, kept = ("higher", "lowest") if meant == "max" else ("lower", "highest")
    raise UsageError(
        f"config.best_mode={mode!r} keeps the checkpoint with the {kept} "
        f"config.best_metric={metric!r}, of which a {better} one is better: set "
        f"--config.best_mode={meant}."
    )
