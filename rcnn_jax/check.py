"""Tries every stage of a training run once, on a single batch.

    python -m rcnn_jax.check --config=configs/rcnn_digits.py
    python -m rcnn_jax.check --config=mine.py --config.batch_size=512 --config.parallelism=pmap

The command opens the data, checks the model and the task, takes two training steps, evaluates one
batch of the validation split (including the part that runs on the host), saves a checkpoint,
restores it and predicts. It prints how long each stage took and how much memory it needed, and
which kernels run in C++ and which in XLA's form, with the reason. All keys of a config can be set
as for `rcnn_jax.train`. Nothing is left behind: the checkpoint is written to a temporary folder.
"""

import contextlib
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from absl import flags

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UserError
from rcnn_jax.output import tables
from rcnn_jax.startup import doors, xla_flags

FLAGS = flags.FlagValues()
_CONFIG = flags.DEFINE_string(
    "config",
    "rcnn_digits",
    "Config file, or name of a shipped config; `:variant` may follow.",
    flag_values=FLAGS,
)
_DATA_DIR = doors.define_data_dir(FLAGS)


class Stages:
    """Collects the time and the memory of each stage as rows of a table.

    Attributes:
        rows: One row for each measured stage: its name, seconds, peak MiB on the host, peak MiB on
            the device, and notes.
    """

    def __init__(self):
        self.rows: list[list[str]] = []

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[list[str]]:
        """Measures the time and the peak memory of a stage in a `with` block.

        Args:
            name: Name of the stage.

        Yields:
            A list; the strings that are appended to it inside the block are printed as the stage's
            note.
        """
        notes: list[str] = []
        started = time.monotonic()
        yield notes
        seconds = time.monotonic() - started
        self.rows.append([name, f"{seconds:.2f}", *memory(), "; ".join(notes)])


def main(argv: list[str]) -> int:
    """Runs the check and prints its table.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code 0.

    Raises:
        UserError: A stage fails, or there are several processes.
    """
    del argv
    config: Any = loading.load(_CONFIG.value, doors.overrides)
    xla_flags.apply(config.xla_flags)
    doors.quiet_libraries()
    # Imported here because the compiler's flags must be set before jax starts.
    from rcnn_jax.experiment import joining
    from rcnn_jax.kernels import forms
    from rcnn_jax.training.parallel import distributed

    joining.join()
    if distributed.count() > 1:
        raise UserError("check runs in one process: it asks what a batch needs, not a cluster.")
    stages = Stages()
    with tempfile.TemporaryDirectory() as scratch, forms.collect() as chosen:
        try:
            check(config, pathlib.Path(scratch), _DATA_DIR.value, stages)
        finally:
            columns = ["stage", "seconds", "memory MiB", "device MiB", ""]
            print(tables.table(stages.rows, columns))
    print(f"kernels: {forms.summary()}")
    if rows := chosen.rows():
        print(tables.table([list(row) for row in rows], ["kernel", "operations by form"]))
    print(f"{_CONFIG.value} can be trained, saved, restored, evaluated and asked")
    return 0


def check(config: Any, path: pathlib.Path, data_dir: str | None, stages: Stages) -> None:
    """Goes through all stages of a run.

    Args:
        config: A complete config.
        path: An empty folder for the checkpoint.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder; see `rcnn_jax.data.roots`.
        stages: Collector to which the measurements of each stage are added.

    Raises:
        UserError: A stage fails; the message names it.
    """
    import jax
    import numpy as np

    from rcnn_jax.experiment import rehearsal, training_run
    from rcnn_jax.training import step as step_lib
    from rcnn_jax.training.checkpoints import checksums, reading, saving
    from rcnn_jax.training.workdir import Workdir

    workdir = Workdir(path)
    with stages.measure("data, model, checks") as notes:
        run = training_run.prepare_training(config, workdir, data_dir)
        state = run.initial_state()
        count = sum(x.size for x in jax.tree.leaves(state.params))
        notes.append(f"{len(run.source):,} examples, {count:,} parameters")
    task = run.recipe.task
    with rehearsal.explained("the loss of a few rows cannot be computed", config.task.name):
        whole, summed, stateful = rehearsal.losses(run.recipe, run.source, run.sampler, 1, 2)
    if not stateful and abs(whole - summed) > 1e-2 * abs(whole):
        raise UserError(
            f"`loss` of {config.task.name} is no sum over the examples of a batch: of some rows it "
            f"is {whole:.6g} at once and {summed:.6g} as two halves added up. `total` is the sum, "
            "`count` what it is divided by; a loss over pairs uses rcnn_jax.layers.global_batch."
        )
    with run.batches(0) as batches:
        with stages.measure("first step, compiled") as notes:
            state, sums = run.train_step(1)(state, next(batches))
            notes.append(_loss(jax.device_get(sums)))
        if run.steps > 1:
            with stages.measure("second step") as notes:
                state, sums = run.train_step(2)(state, next(batches))
                notes.append(_loss(jax.device_get(sums)))
    validation = run.evaluated_split
    metrics: dict[str, float] = {}
    if validation is not None:
        with stages.measure("evaluation of a batch") as notes:
            metrics = rehearsal.rehearse_evaluation(
                config, task, run.evaluation_step, state.evaluated(), validation, run.devices,
                run.metrics,
            )  # fmt: skip
            notes.append(", ".join(f"{k} {tables.number(k, v)}" for k, v in metrics.items()))
    with stages.measure("save") as notes, saving.Checkpoints(workdir.checkpoints, config) as saver:
        saver.save(int(state.step), state, evaluates=bool(metrics))
        saver.wait()
        if metrics:
            saver.evaluated(int(state.step), metrics)
        size = sum(f.stat().st_size for f in workdir.checkpoints.rglob("*") if f.is_file())
        notes.append(f"{size / 2**20:.1f} MiB on disk")
    with stages.measure("restore") as notes:
        restored = reading.restore_latest(
            workdir.checkpoints, run.recipe.abstract_state(run.devices), []
        )
        if restored is None or checksums.describe(restored.state) != checksums.describe(state):
            raise UserError("what was restored is not what was saved.")
        notes.append("the same bits")
    with stages.measure("prediction of a batch") as notes:
        source = run.source if validation is None else validation
        size = run.devices.divisible(min(config.evaluation_batch_size, len(source)))
        batch = rehearsal.evaluated_batch(config, source, size, run.devices)
        with rehearsal.explained("predictions cannot be computed", config.task.name):
            predict = step_lib.compile_prediction(task, run.devices)
            predicted = jax.device_get(predict(*state.evaluated(), batch))
        notes.append(", ".join(f"{k} {list(np.shape(v))}" for k, v in predicted.items()) or "none")


def _loss(sums: Any) -> str:
    total, count = sums["loss"]
    return f"loss {float(total) / max(float(count), 1e-30):.4g}"


def memory() -> tuple[str, str]:
    """Returns the peak memory of this process so far.

    Returns:
        The peak on the host and the peak on the first device, both in MiB as text; "-" if the
        device keeps no memory statistics.
    """
    from rcnn_jax.training import memory as memory_lib

    host, device = memory_lib.peak()
    return f"{host:.0f}", "-" if device is None else f"{device:.0f}"


if __name__ == "__main__":
    doors.run(main, FLAGS)
