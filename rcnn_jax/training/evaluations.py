"""Evaluation results of checkpoints: stored beside each state, ranked and checked.

A state is saved before it is evaluated. Its metrics follow in a file in the folder of the
checkpoint, together with a digest. A step without that file counts as not evaluated.
"""

import json
import math
import pathlib
from collections.abc import Collection

from rcnn_jax.output.digests import json_digest
from rcnn_jax.output.files import write_atomically
from rcnn_jax.training.parallel import distributed

_NAME = "evaluation.json"


def write(checkpoint: pathlib.Path, metrics: dict[str, float]) -> None:
    """Stores the metrics of a checkpoint's evaluation in its folder.

    Args:
        checkpoint: Folder of a completely written checkpoint.
        metrics: Value of each metric by name.

    Raises:
        OSError: The file cannot be written.
    """
    plain = {name: float(value) for name, value in metrics.items()}
    text = json.dumps({"metrics": plain, "digest": json_digest(plain)}, indent=1)
    write_atomically(checkpoint / _NAME, text + "\n")


def read(checkpoint: pathlib.Path) -> dict[str, float] | None:
    """Reads the metrics that `write` stored.

    Args:
        checkpoint: Folder of a checkpoint.

    Returns:
        Value of each metric by name. Empty if nothing has been stored, None if the file cannot be
        read or has been altered since.
    """
    try:
        stored = json.loads((checkpoint / _NAME).read_text(encoding="utf-8"))
        metrics = stored["metrics"]
        return metrics if stored["digest"] == json_digest(metrics) else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def rank(value: float | None, mode: str) -> float:
    """Returns a score by which evaluations are ranked; the best evaluation has the greatest.

    Args:
        value: Value of the ranking metric. NaN, infinities and None, which replaces them in
            `metrics.jsonl`, rank below every finite number.
        mode: "min" if lower values are better, "max" if higher values are better.

    Returns:
        The score as a float, negative infinity for a value that is not finite.
    """
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if mode == "max" else -value


def check(
    metrics: dict[str, float],
    step: int,
    best_metric: str,
    warned: set[str],
    undefined: Collection[str] = (),
) -> str:
    """Looks for metrics that are not finite and warns once of each that is NaN.

    Args:
        metrics: Value of each metric of an evaluation by name.
        step: Training step of the evaluated state.
        best_metric: Name of the metric that ranks evaluations. If it is not finite although the
            loss is, it is a ratio with a denominator of 0, and the evaluation counts as the worst.
        warned: Names that have been warned of already; new ones are added in place.
        undefined: Names of metrics of which nothing was counted; see `evaluation.Result`. They say
            nothing about divergence.

    Returns:
        A description of the evidence that training has diverged, or "" if it has not.
    """
    finite = {name: math.isfinite(value) for name, value in metrics.items()}
    bad = [name for name in metrics if math.isnan(metrics[name])]
    hint = "are labels out of range, or fewer logits than classes?"
    bad_loss = "loss" in finite and not finite["loss"] and "loss" not in undefined
    if not finite[best_metric] and best_metric not in undefined and bad_loss:
        others = [name for name in bad if name != best_metric]
        also = f"; {', '.join(others)}: nan ({hint})" if others else ""
        return f"{best_metric} is {metrics[best_metric]} at step {step}{also}"
    for name in bad:
        if name not in warned:
            worst = "as config.best_metric it counts as the worst value"
            if name in undefined:
                value, why = "undefined", "nothing is counted (0/0)"
                why += f"; {worst}" if name == best_metric else ""
            else:
                value = "NaN"
                why = (
                    f"a ratio of nothing? {worst[0].upper()}{worst[1:]}"
                    if name == best_metric
                    else hint
                )
            distributed.warn(f"the validation metric {name} is {value} at step {step}: {why}")
            warned.add(name)
    return ""
