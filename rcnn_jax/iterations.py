"""Evaluates a trained run after other numbers of iterations than it was trained for.

    python -m rcnn_jax.iterations --workdir=runs/digits --split=validation --up_to=6

For each number of iterations t the table gives the error with the batch statistics that training
left (a step beyond the trained T uses those of step T) and with statistics measured anew on
--batches training batches at exactly t iterations; and, as `anytime`, the error of the answer that
the head gives to the state after t iterations of the last layer while the other layers run to
their end. Models without statistics per step have nothing to measure anew, and need no training
data. The table is also written to iterations.json in the workdir.
"""

import dataclasses
import functools
import pathlib
from typing import Any

from absl import flags

from rcnn_jax import configuration, doors, results, xla_flags
from rcnn_jax.errors import UsageError, UserError

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", "runs/rcnn_digits", "Folder of the run.", flag_values=FLAGS
)
_STEP = flags.DEFINE_string(
    "step", "best", "Which checkpoint: best, latest or a number of steps.", flag_values=FLAGS
)
_SPLIT = flags.DEFINE_string(
    "split", "validation", "As for `rcnn_jax.evaluate`.", flag_values=FLAGS
)
_UP_TO = flags.DEFINE_integer(
    "up_to", None, "Most iterations; twice the trained unless given.", flag_values=FLAGS
)
_BATCHES = flags.DEFINE_integer(
    "batches",
    50,
    "Training batches that statistics are measured on; 0 to leave that out.",
    flag_values=FLAGS,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "As for `rcnn_jax.evaluate`.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File for the result; WORKDIR/iterations.json.", flag_values=FLAGS
)


def main(argv: list[str]) -> int:
    """Evaluates and prints the table; returns the exit code."""
    del argv
    path = pathlib.Path(_WORKDIR.value)
    config: Any = configuration.for_evaluation(path / "config.json", doors.overrides)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    for name, value in (("up_to", _UP_TO.value), ("batches", _BATCHES.value)):
        if value is not None and value < 0:
            raise UsageError(f"--{name}={value} must be at least 0.")
    result = evaluate_iterations(
        config, path, _STEP.value, _SPLIT.value, _DATA_DIR.value, _UP_TO.value, _BATCHES.value
    )

    title = f"{result['split']}: {result['n']} examples, step {result['step']}"
    results.show(title, result["iterations"], limit=100)
    print(f"trained for {result['trained']} iterations")
    results.save(_OUTPUT.value or path / "iterations.json", result)
    return 0


def evaluate_iterations(
    config: Any,
    path: pathlib.Path,
    step: str = "best",
    split: str = "validation",
    data_dir: str | None = None,
    up_to: int | None = None,
    batches: int = 50,
) -> dict[str, Any]:
    """Evaluates a checkpoint at 0, 1, ... iterations; nothing is written.

    Args:
        config: The workdir's config, perhaps with other runtime keys.
        path: The workdir.
        step: "best", "latest" or a number of steps.
        split: A key of `config.data` or any split's name.
        data_dir: Where original data sets lie.
        up_to: Most iterations; None: twice as many as trained.
        batches: Training batches that statistics are measured on; 0: they are not.

    Returns:
        `{"step", "split", "n", "trained", "batches", "iterations": [{"iterations", METRIC,
        METRIC_recalibrated, METRIC_anytime}, ...]}`, METRIC being `config.best_metric`.

    Raises:
        UserError: There is no such checkpoint, or the model does not iterate.
    """
    import jax

    from rcnn_jax import preparation
    from rcnn_jax.layers.rcl import extend_steps
    from rcnn_jax.training.recalibration import recalibrate

    run = preparation.prepare_evaluation(config, path, split, data_dir, {})
    task: Any = run.task
    trained = getattr(getattr(task, "model", None), "steps", None)
    if not isinstance(trained, int):
        raise UserError(
            f"{config.model.name} has no number of iterations (an attribute `steps`) to vary."
        )
    restored = preparation.restore_step(run, path, step)
    params, model_state = restored.state.evaluated()
    per_step = keeps_statistics_per_step(model_state, trained)
    batches = batches if per_step and hasattr(task.model, "momentum") else 0
    if batches and not config.data.train:
        raise UserError(f"config.data.train is empty in {path / 'config.json'}; pass --batches=0.")
    measure = functools.partial(_evaluate, config, run)

    anytime: dict[str, float] = {}
    if "every_step" in {field.name for field in dataclasses.fields(task)}:
        anytime = measure(dataclasses.replace(task, every_step=True), (params, model_state)).metrics
    metric, rows, count = config.best_metric, [], 0
    training = preparation.open_training(config, data_dir) if batches else None
    for t in range(2 * trained + 1 if up_to is None else up_to + 1):
        at_t = dataclasses.replace(task, call=task.call | {"steps": t})
        plain = measure(at_t, (params, model_state))
        count = plain.count
        row = {"iterations": t, metric: plain.metrics[metric]}
        if training is not None:
            model = task.model.clone(steps=max(t, trained), momentum=0.0)
            longer = dataclasses.replace(at_t, model=model, train_call={"steps": t})
            shapes = jax.eval_shape(longer.init, jax.random.key(0), run.batch)
            variables = extend_steps((params, model_state), shapes)
            with preparation.training_batches(config, run.devices, *training, 0, batches) as drawn:
                key = jax.random.key(config.seed)
                measured = recalibrate(longer, variables, drawn, run.devices, key)
            again = measure(longer, (variables[0], measured))
            row[f"{metric}_recalibrated"] = again.metrics[metric]
        row[f"{metric}_anytime"] = anytime.get(f"{metric}_after_{t}")
        rows.append(row)
    return {
        "step": restored.step,
        "split": run.split,
        "n": count,
        "trained": trained,
        "batches": batches,
        "iterations": rows,
    }


def _evaluate(config: Any, run: Any, task: Any, variables: tuple[Any, Any]) -> Any:
    """Evaluates `run.source` with another form of the task."""
    from rcnn_jax import experiment
    from rcnn_jax.training import evaluation
    from rcnn_jax.training import step as step_lib

    compiled = step_lib.compile_evaluation_step(
        task, run.devices, predictions=task.evaluates_on_host
    )
    batches = experiment.evaluation_batches(config, run.source, run.devices)
    return evaluation.evaluate(task, compiled, variables, batches)


def keeps_statistics_per_step(model_state: Any, steps: int) -> bool:
    """Whether any leaf of a model's state has an entry for each of 0..`steps` iterations."""
    import jax

    return any(leaf.ndim > 1 and len(leaf) == steps + 1 for leaf in jax.tree.leaves(model_state))


if __name__ == "__main__":
    doors.run(main, FLAGS)
