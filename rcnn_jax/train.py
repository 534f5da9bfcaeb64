"""Trains what a config states, and goes on where an earlier run of the same command stopped.

    python -m rcnn_jax.train --config=configs/rcnn_digits.py --workdir=runs/digits

--config takes a file or the name of a shipped config, with `:variant` behind it where it has
variants. Any of its keys can be set: --config.batch_size=64 --config.model.features=96
--config.optimizer.momentum=0.95. Without arguments RCNN learns scikit-learn's handwritten digits.

The workdir then holds config.json (complete), metrics.jsonl (one object a log line),
checkpoints/ and assets/. Press Ctrl-C, or send SIGTERM, and the run saves itself and ends;
the same command goes on.
"""

import math
import pathlib
import time
from typing import Any

from absl import flags

from rcnn_jax import configuration, doors, tables, xla_flags

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
_DATA_DIR = doors.define_data_dir(FLAGS)


def main(argv: list[str]) -> int:
    """Trains; returns the exit code."""
    del argv
    config: Any = configuration.load(_CONFIG.value, doors.overrides)
    file, _, variant = _CONFIG.value.partition(":")
    name = "-".join(part for part in (pathlib.Path(file).stem, variant) if part)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    from rcnn_jax import preparation

    preparation.join(preemption=True)
    return train(config, pathlib.Path(_WORKDIR.value or f"runs/{name}"), _DATA_DIR.value)


def train(config: Any, path: pathlib.Path, data_dir: str | None = None) -> int:
    """Trains in a workdir, from its newest whole checkpoint if it has one.

    Args:
        config: A complete config, from `rcnn_jax.configuration`.
        path: The workdir.
        data_dir: Where original data sets lie; None: see `rcnn_jax.data.roots`.

    Returns:
        0 when all steps have been taken; 143 (or 130 after Ctrl-C) when the run was asked to stop
        before, and has saved itself.

    Raises:
        UserError: Something that was asked for cannot be done; nothing written before is lost.
    """
    # Here and not above: the compiler's flags must be set before jax starts.
    from rcnn_jax import preparation
    from rcnn_jax.training import diagnosis, distributed
    from rcnn_jax.training.checkpoint_errors import DivergedError
    from rcnn_jax.training.signals import StopRequest
    from rcnn_jax.training.workdir import Workdir

    # What the config names: devices, data, model. A mistake ends here, before anything is written.
    workdir = Workdir(path)
    notes = distributed.first(lambda: workdir.check(config))
    run = preparation.prepare_training(config, workdir, data_dir)
    with workdir.claim():
        distributed.first(lambda: workdir.adopt(config, run.data_facts()))
        for note in notes:
            distributed.say(f"going on with {note}")
        run.save_assets(workdir)
        state, start = restore_or_create(run, workdir)
        history = distributed.first(lambda: workdir.forget_metrics_after(start))
        distributed.say(tables.parameter_table(state.params))
        distributed.say(run.summary(path))
        if start >= run.steps:
            distributed.say(results_table(history, config.best_metric, config.best_mode))
            hint = evaluate_hint(path)
            distributed.say(f"all {run.steps} steps have been taken; {hint}")
            return 0
        allowed = config.divergence.attempts if config.divergence.action == "rollback" else 0
        attempts, scale = 0, float(state.rate_scale)
        with StopRequest() as stop:
            while True:
                try:
                    return loop(run, workdir, state, start, history, stop)
                except DivergedError as error:
                    # Without its trace, which holds on to the memory of the state.
                    diverged = error.with_traceback(None)
                diverged = diagnosis.located(diverged, run, workdir, scale)
                attempts += 1
                if attempts > allowed:
                    raise diverged
                distributed.warn(str(diverged))
                scale *= config.divergence.rate_factor
                state, start = restore_or_create(run, workdir)
                state = run.with_rate_scale(state, scale)
                history = distributed.first(lambda start=start: workdir.forget_metrics_after(start))
                distributed.say(
                    f"rolled back to step {start}, attempt {attempts} of {allowed}: the learning "
                    f"rate is {scale:g} of the schedule's from here on"
                )


def loop(
    run: Any,
    workdir: Any,
    state: Any,
    start: int,
    history: list[tuple[int, dict[str, float]]],
    stop: Any,
) -> int:
    """Takes the steps that are left: step, log, evaluate, checkpoint.

    Args:
        run: From `preparation.prepare_training`.
        workdir: Claimed by this run.
        state: The training state; its memory is given away.
        start: How many steps it has taken.
        history: Evaluations before that, as pairs (step, metrics); later ones are appended.
        stop: A `StopRequest` that has been entered.

    Returns:
        The exit code, as for `train`.

    Raises:
        UserError: Training diverged, or the disk is full.
    """
    from rcnn_jax import experiment
    from rcnn_jax.training import distributed, evaluation, meter, saving, writers

    config, task = run.config, run.recipe.task
    damaged, told = set(), 0  # records that any process could not read; of this one, those told
    began, speed = time.monotonic(), meter.Meter(task.unit, config.batch_size)
    with (
        saving.Checkpoints(workdir.checkpoints, config) as saver,
        writers.Log(config.writers, workdir, run.steps, start, task.unit) as log,
        run.batches(start) as batches,
    ):
        for step in range(start + 1, run.steps + 1):
            state, sums = run.train_step(step)(state, next(batches))
            speed.add(sums)
            log.advance()
            if step == start + 1:
                speed.begin(batches.waited_s)
                log.say(f"first step, compilation included: {time.monotonic() - began:.1f} s")
            last, asked = step == run.steps, stop.reached()
            evaluates = last or step % run.evaluate_every == 0
            every = config.checkpoint_every
            saves = evaluates or asked or (every > 0 and step % every == 0)

            if last or step % config.log_every == 0:
                entry = {"step": step, "epoch": run.sampler.epoch(step)}
                entry |= speed.read(batches.waited_s)
                if config.data.damaged == "skip":
                    found = run.damage.since(told)
                    told += len(found)
                    for records in distributed.gather(found):
                        damaged |= {tuple(record) for record in records}
                    entry["damaged_records"] = len(damaged)
                log.write(entry)
                saver.check_loss(entry["loss"], step)
            if saves:
                # The mean of some steps hides the one that went wrong, and it must not be saved.
                saver.check_loss(float(sums["loss"][0] / sums["loss"][1]), step)

            metrics: dict[str, float] = {}
            if evaluates and run.validation is not None:
                with speed.paused():
                    with experiment.evaluation_batches(
                        config, run.validation, run.devices
                    ) as whole:
                        metrics = evaluation.evaluate(
                            task, run.evaluation_step, state.evaluated(), whole, run.metrics
                        ).metrics
                    entry = {"step": step, "epoch": run.sampler.epoch(step), "split": "validation"}
                    log.write(entry | metrics)
                    history.append((step, metrics))
                    value = metrics.get(config.best_metric, 0.0)
                    if not math.isfinite(value):
                        raise saver.diverged(f"{config.best_metric} is {value} at step {step}")
                    state = run.after_evaluation(state, metrics)
            if saves:
                with speed.paused():
                    saver.save(step, state, metrics)
            if asked and not last:
                saver.wait()
                log.say(
                    f"{stop.reason}: saved step {step} of {run.steps} in {workdir.path} and "
                    "stopped; the same command goes on from there."
                )
                return stop.exit_code
        saver.wait()
        log.say(results_table(history, config.best_metric, config.best_mode))
        taken, seconds = run.steps - start, time.monotonic() - began
        log.say(f"{taken} steps in {seconds:.0f} s; {evaluate_hint(workdir.path)}")
    return 0


def restore_or_create(run: Any, workdir: Any) -> tuple[Any, int]:
    """Restores the newest checkpoint that is whole, or makes a new state.

    Damaged checkpoints are named and moved aside, never deleted.

    Args:
        run: From `preparation.prepare_training`.
        workdir: Claimed by this run.

    Returns:
        The state, and how many steps it has taken.

    Raises:
        UserError: There are checkpoints but none is whole, or they are of another model.
    """
    from rcnn_jax.training import checkpoints, distributed, topology

    damaged: list[str] = []
    abstract = run.recipe.abstract_state(run.devices)
    restored = checkpoints.restore_latest(workdir.checkpoints, abstract, damaged)
    for message in damaged:
        distributed.warn(message)
    if restored is None:
        return run.initial_state(), 0
    newer = restored.step
    for target in distributed.first(lambda: checkpoints.set_aside(workdir.checkpoints, newer)):
        distributed.warn(f"moved the damaged checkpoint to {target}")
    distributed.say(
        f"resuming from the checkpoint of step {restored.step} in {workdir.checkpoints}"
    )
    for change in topology.changes(restored.topology):
        distributed.say(f"note: {change}; results need not be bit-identical to an unbroken run's")
    return restored.state, restored.step


def results_table(
    history: list[tuple[int, dict[str, float]]], best_metric: str, best_mode: str
) -> str:
    """Lays out the best and the last evaluation of this run.

    Args:
        history: Pairs (step, metrics).
        best_metric: What ranks them.
        best_mode: "min" or "max".

    Returns:
        A table, or one line where nothing was evaluated.
    """
    if not history:
        return "no validation split was evaluated"
    sign = 1 if best_mode == "min" else -1
    best = min(reversed(history), key=lambda item: sign * item[1][best_metric])
    rows = [
        [name, step, *(tables.number(k, v) for k, v in metrics.items())]
        for name, (step, metrics) in (("best", best), ("last", history[-1]))
    ]
    return tables.table(rows, ["validation", "step", *history[-1][1]])


def evaluate_hint(path: pathlib.Path) -> str:
    """The command that evaluates a workdir."""
    return f"evaluate with: python -m rcnn_jax.evaluate --workdir={path}"


if __name__ == "__main__":
    doors.run(main, FLAGS, "interrupted; the same command goes on from the newest checkpoint")
