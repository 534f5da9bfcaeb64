"""Evaluates a trained run on one split and writes evaluation.json into its workdir.

    python -m rcnn_jax.evaluate --workdir=runs/digits --step=best

Only the workdir and the split are needed: on any machine, any number of devices, without the
training data. --step takes best (by the run's own metric on its validation split), latest or a
number. The file also holds what the task has to say beyond its metrics, such as the error of each
class and the confusion matrix. Keys of the config that say how, and not what, to compute can be
changed: --config.evaluation_batch_size=64 --config.data.residency=memory --config.data.test=SPLIT.
"""

import ast
import pathlib
from typing import Any

from absl import flags

from rcnn_jax import configuration, doors, results, tables, xla_flags
from rcnn_jax.errors import UsageError

FLAGS = flags.FlagValues()
_RUN = doors.define_evaluation_flags(FLAGS, split="test", output="evaluation.json")
_CALL = flags.DEFINE_multi_string(
    "call",
    [],
    "A further argument of the model's call, as in --call=steps=5; may be repeated.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> int:
    """Evaluates; returns the exit code."""
    del argv
    path = pathlib.Path(_RUN.workdir.value)
    config: Any = configuration.for_evaluation(path / "config.json", doors.overrides)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    # Here and not above: the compiler's flags must be set before jax starts.
    from rcnn_jax import preparation
    from rcnn_jax.training import distributed

    preparation.join()
    result = evaluate(
        config,
        path,
        _RUN.step.value,
        _RUN.split.value,
        _RUN.data_dir.value,
        parse_call(_CALL.value),
    )

    if not distributed.is_first():
        return 0
    rows = [[name, tables.number(name, value)] for name, value in result["metrics"].items()]
    print(f"{result['split']}: {result['n']} examples, step {result['step']}")
    print(tables.table(rows, ["metric", "value"]))
    for name, details in result["details"].items():
        if details and isinstance(details[0], dict):
            results.show(name, details)
    results.save(_RUN.output.value or path / "evaluation.json", result)
    return 0


def parse_call(texts: list[str]) -> dict[str, Any]:
    """Reads further arguments of the model's call.

    Args:
        texts: Each `name=value`, the value a Python literal.

    Returns:
        name -> value.

    Raises:
        UsageError: One of them cannot be read.
    """
    call = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            call[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            equals = ""
        if not equals or not name.isidentifier():
            raise UsageError(
                f"--call={text}: an argument is written name=value, the value a number, a text in "
                "quotes, True or False; for example --call=steps=5."
            )
    return call


def evaluate(
    config: Any,
    path: pathlib.Path,
    step: str = "best",
    split: str = "test",
    data_dir: str | None = None,
    call: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a workdir; nothing is written.

    Args:
        config: The workdir's config, perhaps with other runtime keys.
        path: The workdir.
        step: "best", "latest" or a number of steps.
        split: A key of `config.data` or any split's name.
        data_dir: Where original data sets lie.
        call: Further keyword arguments of the model's call, such as `steps`.

    Returns:
        `{"step", "split", "n", "metrics": {name: value}, "details": {name: table}}`.

    Raises:
        UserError: There is no such checkpoint, or it is damaged or of another model.
    """
    from rcnn_jax import preparation

    run = preparation.prepare_evaluation(config, path, split, data_dir, call or {})
    restored = preparation.restore_step(run, path, step)
    result = run.evaluate(restored.state.evaluated(), counts=True)
    details = run.task.details(result.counts, run.source.features) if result.counts else {}
    if result.predictions:
        details |= run.task.tables(result.predictions)
    return {
        "step": restored.step,
        "split": run.split,
        "n": result.count,
        "metrics": result.metrics,
        "details": details,
    }


if __name__ == "__main__":
    doors.run(main, FLAGS)
