"""Evaluates a trained run with other numbers of iterations than it was trained for.

    python -m rcnn_jax.iterations --workdir=runs/digits --split=validation --up_to=6

For each number of iterations t the table gives the error with the batch statistics of training (a
step beyond the trained T uses those of step T) and the error with statistics measured anew on
--batches training batches at exactly t iterations. The column `anytime` gives the error of the
answer that the head computes from the state after t iterations of the last layer, while the other
layers run through all of their iterations. Models without statistics per step have nothing to
measure anew and need no training data. The table is also written to iterations.json in the workdir.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.output import results, tables
from rcnn_jax.startup import doors, xla_flags

FLAGS = flags.FlagValues()
_RUN = doors.define_evaluation_flags(FLAGS, split="validation", output="iterations.json")
_UP_TO = flags.DEFINE_integer(
    "up_to", None, "Most iterations; twice the trained unless given.", flag_values=FLAGS
)
_BATCHES = flags.DEFINE_integer(
    "batches",
    50,
    "Training batches that statistics are measured on; 0 to leave that out.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> int:
    """Evaluates the run and prints the table.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code 0.

    Raises:
        UserError: There is no such run, checkpoint or split, or a flag is wrong.
    """
    del argv
    path = pathlib.Path(_RUN.workdir.value)
    config: Any = loading.for_evaluation(path / "config.json", doors.overrides)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    for name, value in (("up_to", _UP_TO.value), ("batches", _BATCHES.value)):
        if value is not None and value < 0:
            raise UsageError(f"--{name}={value} must be at least 0.")
    # Imported here because the compiler's flags must be set before jax starts.
    from rcnn_jax.experiment import joining
    from rcnn_jax.training.parallel import distributed

    joining.join()
    output = pathlib.Path(_RUN.output.value or path / "iterations.json")

    def keep(result: dict[str, Any]) -> None:
        """Prints the newest row and saves all rows; an interrupted run keeps its results."""
        if not distributed.is_first():
            return
        newest = result["iterations"][-1]
        value = tables.number(metric, newest[metric])
        print(f"{newest['iterations']} iterations: {metric} {value}", flush=True)
        results.save(output, result, quiet=True)

    metric = config.best_metric
    arguments = (
        _RUN.step.value,
        _RUN.split.value,
        _RUN.data_dir.value,
        _UP_TO.value,
        _BATCHES.value,
    )
    result = evaluate_iterations(config, path, *arguments, after_row=keep)
    if not distributed.is_first():
        return 0
    suffixes = ("", "_recalibrated", "_anytime")
    measured = {name for row in result["iterations"] for name in row}
    columns = ["iterations", *(metric + s for s in suffixes if metric + s in measured)]
    rows = [{name: row.get(name) for name in columns} for row in result["iterations"]]
    results.show(f"{result['split']}: {result['n']} examples, step {result['step']}", rows, 100)
    print(f"trained for {result['trained']} iterations{result['note']}")
    results.save(output, result)
    return 0


def evaluate_iterations(
    config: Any,
    path: pathlib.Path,
    step: str = "best",
    split: str = "validation",
    data_dir: str | None = None,
    up_to: int | None = None,
    batches: int = 50,
    after_row: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Evaluates a checkpoint at 0, 1, ... iterations; nothing is written.

    Args:
        config: The workdir's config; runtime keys may differ from those of the training.
        path: Workdir of the run.
        step: "best", "latest" or a number of training steps.
        split: A key of `config.data` or the name of any split.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.
        up_to: Largest number of iterations; None means twice as many as in training.
        batches: Number of training batches on which statistics are measured anew; 0 leaves that
            out.
        after_row: Callback that gets the result so far after each number of iterations.

    Returns:
        `{"step", "split", "n", "trained", "batches", "note", "iterations": [row, ...]}`. A row has
        `iterations` and, for every metric, METRIC, METRIC_recalibrated and METRIC_anytime as far as
        they exist; `note` says why one does not.

    Raises:
        UserError: There is no such checkpoint, or the model has no iterations.
    """
    import jax

    from rcnn_jax.experiment import data, evaluation_run
    from rcnn_jax.layers.rcl import extend_steps
    from rcnn_jax.training.interface import Iterating
    from rcnn_jax.training.recalibration import recalibrate

    run = evaluation_run.prepare_evaluation(config, path, split, data_dir, {})
    task, trained = run.task, None
    if isinstance(task, Iterating):
        trained = task.train_call.get("steps", getattr(task.model, "steps", None))
    if not isinstance(trained, int):
        raise UserError(
            f"{config.model.name} has no number of iterations (an attribute `steps`) to vary."
        )
    model = task.model
    if not trained and up_to:
        raise UserError(f"--up_to={up_to}: a model without iterations runs for none.")
    restored = evaluation_run.restore_step(run, path, step)
    params, model_state = variables = restored.state.evaluated()
    note = ""
    if batches and not keeps_statistics_per_step(model_state, model.steps):
        note, batches = "; the model keeps no batch statistics per iteration to measure anew", 0
    elif batches and not hasattr(model, "momentum"):
        note, batches = "; without an attribute `momentum` statistics cannot be measured anew", 0
    training = None
    if batches:
        if not config.data.train:
            raise UserError(
                f"config.data.train is empty in {path / 'config.json'}; pass --batches=0."
            )
        size = run.devices.divisible(config.batch_size)
        training = data.open_training(config, data_dir, size, run.encoding)

    anytime: dict[str, float] = {}
    if "every_step" in {field.name for field in dataclasses.fields(task)}:
        anytime = run.evaluate(variables, dataclasses.replace(task, every_step=True)).metrics
    result: dict[str, Any] = {"step": restored.step, "split": run.split, "n": 0}
    result |= {"trained": trained, "batches": batches, "note": note, "iterations": []}
    for t in range(2 * trained + 1 if up_to is None else up_to + 1):
        at_t = dataclasses.replace(task, call=task.call | {"steps": t})
        plain = run.evaluate(variables, at_t)
        row = {"iterations": t} | plain.metrics
        if training is not None:
            longer = dataclasses.replace(
                at_t,
                model=model.clone(steps=max(t, model.steps), momentum=0.0),
                train_call=task.train_call | {"steps": t},
            )
            shapes = jax.eval_shape(longer.init, jax.random.key(0), run.batch)
            extended = extend_steps((params, model_state), shapes)
            with data.training_batches(config, run.devices, *training, 0, batches) as drawn:
                key = jax.random.key(config.seed)
                measured = recalibrate(longer, extended, drawn, run.devices, key)
            again = run.evaluate((extended[0], measured), longer).metrics
            row |= {f"{name}_recalibrated": value for name, value in again.items()}
        for name in plain.metrics:
            if f"{name}_after_{t}" in anytime:
                row[f"{name}_anytime"] = anytime[f"{name}_after_{t}"]
        result["n"] = plain.count
        result["iterations"].append(row)
        after_row(result)
    return result


def keeps_statistics_per_step(model_state: Any, steps: int) -> bool:
    """Returns whether a leaf of a model's state has an entry for each of the iterations 0..`steps`.

    Args:
        model_state: Pytree of the batch statistics.
        steps: Number of iterations T.

    Returns:
        True if any leaf with several axes has the length `steps + 1` along the first one.
    """
    import jax

    return any(leaf.ndim > 1 and len(leaf) == steps + 1 for leaf in jax.tree.leaves(model_state))


if __name__ == "__main__":
    doors.run(main, FLAGS, "interrupted; what was measured so far has been saved")
