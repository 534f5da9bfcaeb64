"""Whether the better checkpoints are those with the lower or the higher metric."""

from rcnn_jax.errors import UsageError

# Words that a metric's name is made of, as `best_metric` has them: `chunk_f1`, `top_5_error`.
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
    """Returns "max" or "min", as the name of a metric says; None where it says neither.

    The last word that says something counts: `recall_error` is an error.

    Args:
        metric: A name such as `bleu_4`.
    """
    for word in reversed(metric.lower().replace("-", "_").replace("@", "_").split("_")):
        if word in _HIGHER or word in _LOWER:
            return "max" if word in _HIGHER else "min"
    return None


def check_best_mode(metric: str, mode: str) -> None:
    """Checks that the best checkpoints are not the worst.

    Args:
        metric: `config.best_metric`.
        mode: `config.best_mode`.

    Raises:
        UsageError: The name of the metric says that the other mode is meant.
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
