"""Trains what a config states, and continues where an earlier run of the same command stopped.

    python -m rcnn_jax.train --config=configs/rcnn_digits.py --workdir=runs/digits

--config takes a file or the name of a shipped config; `:variant` may follow if it has variants. Any
key of the config can be set: --config.batch_size=64 --config.model.features=96
--config.optimizer.momentum=0.95; `python -m rcnn_jax keys` prints all of them with their defaults.
Without arguments an RCNN is trained on scikit-learn's handwritten digits.

The workdir then holds config.json (the complete config), metrics.jsonl (one JSON object a log
line), checkpoints/ and assets/. On Ctrl-C or SIGTERM the run saves a checkpoint and ends; the same
command continues it. The same holds for --config.max_minutes=90 after an hour and a half.
"""

import contextlib
import pathlib
import time
from typing import Any, NamedTuple

from absl import flags

from rcnn_jax.configuration import importing, loading
from rcnn_jax.errors import UsageError, UserError, describe, fork_location
from rcnn_jax.output import tables
from rcnn_jax.startup import doors, xla_flags

FLAGS = flags.FlagValues()
_CONFIG = flags.DEFINE_string(
    "config",
    "rcnn_digits",
    "Config file, or name of a shipped config; `:variant` may follow.",
    flag_values=FLAGS,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; runs/CONFIG-VARIANT unless given.", flag_values=FLAGS
)
_PROFILE = flags.DEFINE_string(
    "profile",
    None,
    "Steps FROM:TO that are traced into WORKDIR/profile, for XProf, TensorBoard or Perfetto.",
    flag_values=FLAGS,
)
_DATA_DIR = doors.define_data_dir(FLAGS)
_STARTED = time.monotonic()  # before jax is imported; `max_minutes` is counted from here


def main(argv: list[str]) -> int:
    """Trains the config of the command line.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code of `train`.

    Raises:
        UserError: The config has a mistake, or the training fails.
    """
    del argv
    config: Any = loading.load(_CONFIG.value, doors.overrides)
    file, _, variant = _CONFIG.value.partition(":")
    name = "-".join(part for part in (pathlib.Path(file).stem, variant) if part)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    from rcnn_jax.experiment import joining
    from rcnn_jax.training import profiling

    span = None if _PROFILE.value is None else profiling.parse(_PROFILE.value)
    joining.join(preemption=True)
    path = pathlib.Path(_WORKDIR.value or f"runs/{name}")
    return train(config, path, _DATA_DIR.value, _STARTED, span)


def train(
    config: Any,
    path: pathlib.Path,
    data_dir: str | None = None,
    started: float | None = None,
    span: Any = None,
) -> int:
    """Trains in a workdir, starting from its newest undamaged checkpoint if it has one.

    Args:
        config: A complete config from `rcnn_jax.configuration.loading`.
        path: Workdir of the run.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder; see `rcnn_jax.data.roots`.
        started: Time from which `config.max_minutes` is counted, by `time.monotonic`; None means
            now.
        span: Steps that are traced, a `profiling.Span`. None traces nothing.

    Returns:
        0 when all steps have been taken; 143 (or 130 after Ctrl-C) when the run was asked to stop
        earlier, or `config.max_minutes` has passed, and a checkpoint has been saved.

    Raises:
        UserError: The request cannot be fulfilled; nothing that was written earlier is lost.
    """
    # Imported here because the compiler's flags must be set before jax starts.
    from rcnn_jax.experiment import training_run
    from rcnn_jax.output import provenance
    from rcnn_jax.training import diagnosis, parameters
    from rcnn_jax.training.checkpoints.errors import DivergedError
    from rcnn_jax.training.parallel import distributed
    from rcnn_jax.training.parallel.signals import StopRequest
    from rcnn_jax.training.workdir import Workdir

    # A mistake in devices, data or model raises here, before anything is written.
    workdir = Workdir(path)
    notes = distributed.first(lambda: workdir.check(config))
    run = training_run.prepare_training(config, workdir, data_dir)
    with workdir.claim():
        distributed.first(lambda: workdir.adopt(config, run.data_facts()))
        distributed.first(lambda: provenance.record(path, importing.folders_of_code(config)))
        for note in notes:
            distributed.say(f"going on with {note}")
        run.save_assets(workdir)
        begin = restore_or_create(run, workdir)
        distributed.say(parameters.parameter_table(begin.state.params))
        distributed.say(run.summary(path))
        if begin.step >= run.steps and not begin.due:
            distributed.say(results_table(begin.history, config.best_metric, config.best_mode))
            hint = evaluate_hint(path)
            distributed.say(f"all {run.steps} steps have been taken; {hint}")
            return 0
        allowed = config.divergence.attempts if config.divergence.action == "rollback" else 0
        attempts, scale = 0, float(begin.state.rate_scale)
        with StopRequest(config.max_minutes, started) as stop:
            while True:
                try:
                    return loop(run, workdir, begin, stop, span)
                except DivergedError as error:
                    # Without its traceback, which would keep the state's memory allocated.
                    diverged = error.with_traceback(None)
                attempts += 1
                if stop.agreed and attempts <= allowed:
                    distributed.warn(str(diverged))
                    kept = diverged.last_good
                    distributed.say(
                        f"{stop.reason}: stopped at a step that diverged, of which nothing is "
                        f"saved in {workdir.path}; the same command goes on from "
                        + ("the start." if kept is None else f"the checkpoint of step {kept}.")
                    )
                    return stop.exit_code
                diverged = diagnosis.located(diverged, run, workdir, scale)
                if attempts > allowed:
                    raise diverged
                distributed.warn(str(diverged))
                scale *= config.divergence.rate_factor
                begin = restore_or_create(run, workdir)
                begin = begin._replace(state=run.with_rate_scale(begin.state, scale))
                distributed.say(
                    f"rolled back to step {begin.step}, attempt {attempts} of {allowed}: the "
                    f"learning rate is {scale:g} of the schedule's from here on"
                )


class Begin(NamedTuple):
    """The point from which training begins or continues.

    Attributes:
        state: Training state.
        step: Number of steps that the state has taken.
        due: Whether the state must be evaluated first, because an earlier start did not finish its
            evaluation.
        history: Earlier evaluations as pairs (step, metrics).
    """

    state: Any
    step: int
    due: bool
    history: list[tuple[int, dict[str, float]]]


def loop(run: Any, workdir: Any, begin: Begin, stop: Any, span: Any = None) -> int:
    """Takes the remaining steps: trains, logs, saves checkpoints and evaluates.

    Args:
        run: Run from `training_run.prepare_training`.
        workdir: Workdir that this run has claimed.
        begin: Point from which to continue. The memory of its state is donated, and its history is
            extended.
        stop: A `StopRequest` that has been entered.
        span: Steps that are traced, a `profiling.Span`. None traces nothing.

    Returns:
        The exit code: 0 when all steps have been taken, 143 (or 130 after Ctrl-C) when the run was
        stopped and a checkpoint has been saved; see `train`.

    Raises:
        UserError: Training diverged, the disk is full, or a fork's code failed in an evaluation.
    """
    from rcnn_jax.training import evaluations, meter, profiling, writers
    from rcnn_jax.training.checkpoints import saving
    from rcnn_jax.training.parallel import distributed
    from rcnn_jax.training.parallel.signals import StopDuringEvaluation

    config, task = run.config, run.recipe.task
    state, start, due, history = begin
    # Records that any process could not read, and how many of this process have been reported.
    damaged, reported = set(), 0
    warned: set[str] = set()  # metrics that have been NaN
    began, speed = time.monotonic(), meter.Meter(task.unit, config.batch_size)
    with (
        saving.Checkpoints(workdir.checkpoints, config) as saver,
        writers.Log(config.writers, workdir, run.steps, start, task.unit) as log,
        run.batches(start) as batches,
        contextlib.closing(profiling.Profile(span, workdir.path / "profile")) as profile,
    ):

        def evaluate(step: int, state: Any) -> Any:
            """Evaluates a saved state; returns the state from which training continues."""
            with speed.paused():
                try:
                    result = run.evaluate(state, stop)
                    metrics = result.metrics
                    answered = run.after_evaluation(state, metrics)
                    entry = {"step": step, "epoch": run.sampler.epoch(step), "split": "validation"}
                    log.write(entry | metrics)
                except Exception as error:
                    explained = evaluation_error(error, step, saver, config.task.name)
                    if explained is None:
                        raise
                    raise explained from error
                history.append((step, metrics))
                what = evaluations.check(
                    metrics, step, config.best_metric, warned, result.undefined
                )
                if what:
                    raise saver.reject(step, what)
                saver.evaluated(step, metrics)
            return answered

        def stopped(step: int, repeats: bool) -> int:
            """Prints how to continue a run that stops after a saved step; returns the exit code."""
            saver.wait()
            later = ", and its evaluation will be done at the next start" if repeats else ""
            log.say(
                f"{stop.reason}: saved step {step} of {run.steps} in {workdir.path} and "
                f"stopped{later}; the same command goes on from there."
            )
            return stop.exit_code

        try:
            step = start
            if due:
                log.say(f"evaluating the state of step {start}, which the last start did not")
                state = evaluate(start, state)
            since = time.monotonic()
            for step in range(start + 1, run.steps + 1):
                if profile.starts(step):
                    with speed.paused():
                        profile.start()
                state, sums = run.train_step(step)(state, next(batches))
                speed.add(sums)
                log.advance()
                if profile.ends(step):
                    with speed.paused():
                        log.say(profile.stop())
                if step == start + 1:
                    speed.begin(batches.waited_s)
                    log.say(f"first step, compilation included: {time.monotonic() - since:.1f} s")
                last, asked, evaluates = step == run.steps, stop.reached(), run.evaluates(step)
                every = config.checkpoint_every
                saves = last or asked or step % run.evaluate_every == 0
                saves = saves or (every > 0 and step % every == 0)

                if last or step % config.log_every == 0:
                    entry = {"step": step, "epoch": run.sampler.epoch(step)}
                    entry |= speed.read(batches.waited_s)
                    if config.data.damaged == "skip":
                        new_records = run.damage.since(reported)
                        reported += len(new_records)
                        for records in distributed.gather(new_records):
                            damaged |= {tuple(record) for record in records}
                        entry["damaged_records"] = len(damaged)
                    log.write(entry)
                    saver.check_loss(entry["loss"], step)
                if saves:
                    # A mean over steps can hide a diverged one, whose state must not be saved.
                    saver.check_loss(meter.mean(sums["loss"]), step)
                    with speed.paused():
                        saver.save(step, state, evaluates=evaluates)
                if asked and (evaluates or not last):
                    return stopped(step, evaluates)
                if evaluates:
                    state = evaluate(step, state)
        except StopDuringEvaluation:
            return stopped(step, True)
        saver.wait()
        log.say(results_table(history, config.best_metric, config.best_mode))
        taken, seconds = run.steps - start, time.monotonic() - began
        log.say(f"{taken} steps in {seconds:.0f} s; {evaluate_hint(workdir.path)}")
    return 0


def evaluation_error(error: Exception, step: int, saver: Any, path: str) -> Exception | None:
    """Turns an error in an evaluation into one that says what is saved and where it was raised.

    Args:
        error: Error that the evaluation raised.
        step: Step of the state that was evaluated.
        saver: The `saving.Checkpoints` with which the state was saved.
        path: Import path of the task.

    Returns:
        The error to raise instead, which names the line of a fork's code; None if the original one
        is to be raised again, because neither the user nor a fork caused it.
    """
    from rcnn_jax.training.parallel import distributed

    if distributed.explain(error) is not None:
        return None
    saver.wait()
    saved = f"the checkpoint of step {step} is saved, the same command goes on from there"
    if isinstance(error, UserError):
        kind = UsageError if isinstance(error, UsageError) else UserError
        return kind(f"{str(error).rstrip('.')}; {saved}.")
    if isinstance(error, MemoryError) or not fork_location(error, path):
        error.add_note(saved)
        return None
    return UserError(f"the evaluation after step {step} failed: {describe(error, path)}; {saved}.")


def restore_or_create(run: Any, workdir: Any) -> Begin:
    """Restores the newest undamaged checkpoint, or creates a new state.

    Damaged checkpoints are named and moved aside, never deleted. Lines of metrics after the
    restored step are dropped.

    Args:
        run: Run from `training_run.prepare_training`.
        workdir: Workdir that this run has claimed.

    Returns:
        The point from which training begins. If the evaluation of the restored step was finished,
        the state includes the changes that follow from it.

    Raises:
        UserError: There are checkpoints, but all are damaged or belong to another model.
    """
    from rcnn_jax.training.checkpoints import reading, topology
    from rcnn_jax.training.parallel import distributed

    damaged: list[str] = []
    abstract = run.recipe.abstract_state(run.devices)
    restored = reading.restore_latest(workdir.checkpoints, abstract, damaged)
    for message in damaged:
        distributed.warn(message)
    if restored is None:
        history = distributed.first(lambda: workdir.forget_metrics_after(0))
        return Begin(run.initial_state(), 0, False, history)
    step = restored.step
    for target in distributed.first(lambda: reading.set_aside(workdir.checkpoints, step)):
        distributed.warn(f"moved the damaged checkpoint to {target}")
    distributed.say(f"resuming from the checkpoint of step {step} in {workdir.checkpoints}")
    for change in topology.changes(restored.topology):
        distributed.say(f"note: {change}; results need not be bit-identical to an unbroken run's")
    due = run.evaluates(step) and not restored.metrics
    history = distributed.first(
        lambda: workdir.forget_metrics_after(step, evaluated=bool(restored.metrics))
    )
    return Begin(run.continued(restored), step, due, history)


def results_table(
    history: list[tuple[int, dict[str, float]]], best_metric: str, best_mode: str
) -> str:
    """Formats the best and the last evaluation of the run.

    Args:
        history: Evaluations as pairs (step, metrics).
        best_metric: Name of the metric that ranks evaluations.
        best_mode: "min" if smaller values of that metric are better, "max" if larger ones are.

    Returns:
        A table, or one line if nothing was evaluated.
    """
    if not history:
        return "no validation split was evaluated"
    from rcnn_jax.training.evaluations import rank

    best = max(reversed(history), key=lambda item: rank(item[1][best_metric], best_mode))
    rows = [
        [name, step, *(tables.number(k, v) for k, v in metrics.items())]
        for name, (step, metrics) in (("best", best), ("last", history[-1]))
    ]
    return tables.table(rows, ["validation", "step", *history[-1][1]])


def evaluate_hint(path: pathlib.Path) -> str:
    """Returns the command that evaluates a workdir, as a hint for the user.

    Args:
        path: Workdir of the run.
    """
    return f"evaluate with: python -m rcnn_jax.evaluate --workdir={path}"


if __name__ == "__main__":
    doors.run(main, FLAGS, "interrupted; the same command goes on from the newest checkpoint")
