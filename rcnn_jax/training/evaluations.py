"""What the evaluations of checkpoints gave: stored beside each state, ranked and checked.

A state is saved before it is evaluated. The metrics follow in a file of the checkpoint's folder,
with a digest; without it the step counts as not evaluated.
"""

import json
import math
import pathlib

from rcnn_jax.output.digests import json_digest
from rcnn_jax.output.files import write_atomically
from rcnn_jax.training.parallel import distributed

_NAME = "evaluation.json"


def write(checkpoint: pathlib.Path, metrics: dict[str, float]) -> None:
    """Adds to a checkpoint what the evaluation of its state gave.

    Args:
        checkpoint: Its folder, written in full.
        metrics: name -> value.

    Raises:
        OSError: They cannot be written.
    """
    plain = {name: float(value) for name, value in metrics.items()}
    text = json.dumps({"metrics": plain, "digest": json_digest(plain)}, indent=1)
    write_atomically(checkpoint / _NAME, text + "\n")


def read(checkpoint: pathlib.Path) -> dict[str, float] | None:
    """What `write` wrote.

    Args:
        checkpoint: The folder of a checkpoint.

    Returns:
        name -> value; empty where nothing has been written, None where it has been altered since.
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
    """What the best evaluation has the greatest of.

    Args:
        value: Of the metric that ranks. NaN and infinities, and None, which stands for them in
            `metrics.jsonl`, are worse than any number.
        mode: "min" when a lower metric is better, "max" otherwise.

    Returns:
        A number that can be compared.
    """
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if mode == "max" else -value


def check(metrics: dict[str, float], step: int, best_metric: str, warned: set[str]) -> str:
    """Looks for metrics that are no numbers, and warns of each once.

    Args:
        metrics: Of an evaluation.
        step: When it was.
        best_metric: What ranks evaluations. Where it is no number although the loss is one, it is a
            ratio of nothing: the evaluation counts as the worst.
        warned: Names that have been warned of; others are added.

    Returns:
        What shows that training has diverged; "" where it has not.
    """
    finite = {name: math.isfinite(value) for name, value in metrics.items()}
    bad = [name for name in metrics if math.isnan(metrics[name])]
    hint = "are labels out of range, or fewer logits than classes?"
    if not finite[best_metric] and not finite.get("loss", best_metric != "loss"):
        others = [name for name in bad if name != best_metric]
        also = f"; {', '.join(others)}: nan ({hint})" if others else ""
        return f"{best_metric} is {metrics[best_metric]} at step {step}{also}"
    for name in bad:
        if name not in warned:
            as_best = "a ratio of nothing? As config.best_metric it counts as the worst value"
            why = as_best if name == best_metric else hint
            distributed.warn(f"the validation metric {name} is NaN at step {step}: {why}")
            warned.add(name)
    return ""
