"""Trains and evaluates variants of a config, each with several seeds, and tabulates the results.

    python -m rcnn_jax.sweep --config=tagger_atis --variants=elman,jordan --seeds=0,1,2 \
        --workdir=runs/atis

Variants are those of the config, separated by commas and joined by `+` (`snips+elman`); `base` is
the config without a variant. --config.KEY=VALUE applies to all runs. The runs are trained and
evaluated one after the other, each in a separate process and in the folder WORKDIR/VARIANT/SEED:
all variants with the first seed, then all with the next. The same command continues where it was
stopped: finished runs are read, not repeated. WORKDIR/sweep.json holds all results.
"""

import dataclasses
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from absl import flags

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.output import results, tables
from rcnn_jax.output.files import write_atomically
from rcnn_jax.startup import doors

FLAGS = flags.FlagValues()
_CONFIG = flags.DEFINE_string(
    "config", "rcnn_digits", "Config file, or name of a shipped config.", flag_values=FLAGS
)
_VARIANTS = flags.DEFINE_list(
    "variants", ["base"], "Variants of the config: one,two+three,base.", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Values of config.seed.", flag_values=FLAGS)
_SPLITS = flags.DEFINE_list("splits", ["test"], "Splits to evaluate on.", flag_values=FLAGS)
_STEP = flags.DEFINE_string(
    "step", "best", "Which checkpoint is evaluated: best or latest.", flag_values=FLAGS
)
_METRICS = flags.DEFINE_list(
    "metrics", [], "What the table shows; what ranks checkpoints unless given.", flag_values=FLAGS
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the sweep; runs/sweep-CONFIG unless given.", flag_values=FLAGS
)
_DATA_DIR = doors.define_data_dir(FLAGS)

_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes of a run that saved itself


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of the sweep and its results, all of which lie in files of its folder.

    Attributes:
        variant: Name of the variant as typed.
        seed: Value of `config.seed` as typed.
        config: Value of --config that is passed to `rcnn_jax.train`.
        folder: Workdir of the run.
    """

    variant: str
    seed: str
    config: str
    folder: pathlib.Path

    @property
    def name(self) -> str:
        """The name of the run in messages."""
        return f"{self.variant}, seed {self.seed}"

    def result(self, split: str) -> pathlib.Path:
        """Returns the path of the evaluation of a split.

        Args:
            split: Name of the split.
        """
        name = "evaluation" if split == "test" else f"evaluation_{split}"
        return self.folder / f"{name}.json"

    def finished(self, splits: Sequence[str]) -> bool:
        """Returns whether the run has been evaluated on all splits.

        Args:
            splits: Names of the splits.
        """
        return all(self.result(split).is_file() for split in splits)

    def spent(self) -> dict[str, float]:
        """Returns the `seconds` of training so far and the number of `starts` they come from."""
        file = self.folder / "spent.json"
        spent = json.loads(file.read_text()) if file.is_file() else {}
        return {"seconds": 0.0, "starts": 0} | spent

    def spend(self, seconds: float) -> None:
        """Adds the training time of one start to `spent.json`.

        Args:
            seconds: Training time of the start in seconds.
        """
        before = self.spent()
        after = {"seconds": before["seconds"] + seconds, "starts": before["starts"] + 1}
        if self.folder.is_dir():
            write_atomically(self.folder / "spent.json", json.dumps(after) + "\n")


class Child:
    """Runs commands in a separate process, which is asked to stop when this process is.

    Attributes:
        stopped: Whether this process has received SIGINT or SIGTERM.
    """

    def __init__(self) -> None:
        """Creates the object; no command runs yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self.stopped = False

    def __enter__(self) -> "Child":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stopped = True
        if self._process is not None:
            self._process.send_signal(number)

    def run(self, command: Sequence[str], log: pathlib.Path) -> tuple[int, str]:
        """Runs a command until it ends.

        Args:
            command: The command line as a list of words.
            log: File to which the command's output is appended.

        Returns:
            The command's exit code and the last line that it wrote to standard error.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            # In a new session, so that a Ctrl-C on the terminal reaches it only through `_stop`.
            self._process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.PIPE, start_new_session=True
            )
            try:
                last = b""
                assert self._process.stderr is not None
                for line in self._process.stderr:
                    out.write(line)
                    last = line if line.strip() else last
                return self._process.wait(), last.decode(errors="replace").strip()
            finally:
                self._process = None


def main(argv: list[str]) -> int:
    """Runs the sweep and prints its table.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code: 0, or that of a run that was stopped.

    Raises:
        UsageError: A flag or a config is wrong.
        UserError: The folder cannot be written, or runs failed.
    """
    del argv
    name = pathlib.Path(_CONFIG.value.partition(":")[0]).stem
    folder = pathlib.Path(_WORKDIR.value or f"runs/sweep-{name}")
    runs = plan(_CONFIG.value, _VARIANTS.value, _SEEDS.value, folder)
    configs = [check(run) for run in runs]
    splits = list(dict.fromkeys(_SPLITS.value)) or ["test"]
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={folder} cannot be written: {error.strerror}.") from error
    with Child() as child:
        for number, run in enumerate(runs, start=1):
            if run.finished(splits):
                continue
            print(f"{number} of {len(runs)}: {run.name} in {run.folder}", flush=True)
            code, message = carry_out(run, splits, child)
            if code in _STOPPED or child.stopped:
                print(f"stopped; {run.name} goes on where it was by the same command.")
                return code or _STOPPED[0]
            if code:
                failures.append(run)
                print(f"  failed with exit code {code}: {message}", flush=True)
            save(folder, runs, splits)
    save(folder, runs, splits)
    metrics = _METRICS.value or [configs[0].best_metric]
    print(table(runs, splits, metrics))
    print(f"every result is in {folder / 'sweep.json'}")
    if failures:
        names = "; ".join(run.name for run in failures)
        raise UserError(
            f"{len(failures)} of {len(runs)} runs failed: {names}; what they said is in log.txt of "
            "their folders, and the same command tries them again."
        )
    return 0


def plan(config: str, variants: Sequence[str], seeds: Sequence[str], folder: pathlib.Path):
    """Lists the runs of a sweep: all variants with the first seed, then all with the next.

    Args:
        config: File or name of a config; variants that apply to all runs may follow a colon.
        variants: Variants to compare: each a name, several names joined by `+`, or `base`.
        seeds: Values of `config.seed`, as text.
        folder: Folder of the sweep.

    Returns:
        The runs.

    Raises:
        UsageError: There is nothing to run, a value is given twice, or a seed is not a whole
            number.
    """
    for flag, values in (("variants", variants), ("seeds", seeds)):
        twice = [value for value in values if values.count(value) > 1]
        if twice or not values:
            what = f"names {twice[0]!r} twice" if twice else "is empty"
            raise UsageError(f"--{flag}={','.join(values)} {what}.")
    for seed in seeds:
        if not seed.isdecimal():
            raise UsageError(f"--seeds={','.join(seeds)}: {seed!r} is no whole number.")
    file, _, given = config.partition(":")

    def full(variant: str) -> str:
        parts = [given, *(part for part in variant.split("+") if part != "base")]
        joined = ",".join(part for part in parts if part)
        return f"{file}:{joined}" if joined else file

    return [
        Run(variant, seed, full(variant), folder / variant / seed)
        for seed in seeds
        for variant in variants
    ]


def check(run: Run) -> Any:
    """Loads a run's config, so that a mistake ends the sweep before it starts.

    Args:
        run: A run from `plan`.

    Returns:
        The config.

    Raises:
        UserError: The config has a mistake, or the folder holds another experiment.
    """
    config = loading.load(run.config, [*doors.overrides, ("seed", run.seed)])
    file = run.folder / "config.json"
    if file.is_file():
        experiment, _ = loading.differences(loading.from_json(file), config)
        if experiment:
            raise UserError(
                f"{run.folder} holds another experiment: {'; '.join(experiment[:8])} (theirs -> "
                "yours). Choose another --workdir."
            )
    return config


def carry_out(run: Run, splits: Sequence[str], child: Child) -> tuple[int, str]:
    """Trains and evaluates one run.

    Args:
        run: A run from `plan`.
        splits: Names of the splits to evaluate on.
        child: Runner of the commands.

    Returns:
        The exit code of the first command that failed, or 0; and the last line that the last
        command wrote to standard error.
    """
    log = run.folder / "log.txt"
    common = [f"--workdir={run.folder}"]
    common += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    config_flags = [f"--config.{key}={text}" for key, text in doors.overrides]
    config_flags += [f"--config={run.config}", f"--config.seed={run.seed}"]
    began = time.monotonic()
    code, message = child.run([*_door("train"), *common, *config_flags], log)
    run.spend(time.monotonic() - began)
    for split in splits:
        if code or child.stopped:
            break
        where = [f"--split={split}", f"--step={_STEP.value}", f"--output={run.result(split)}"]
        code, message = child.run([*_door("evaluate"), *common, *where], log)
    return code, message


def _door(name: str) -> list[str]:
    return [sys.executable, "-m", f"rcnn_jax.{name}"]


def read(run: Run, split: str) -> dict[str, Any] | None:
    """Reads the evaluation of a split.

    Args:
        run: A run from `plan`.
        split: Name of the split.

    Returns:
        The step, the number of examples `n` and the metrics; None if the split has not been
        evaluated.

    Raises:
        UserError: The file is damaged.
    """
    file = run.result(split)
    try:
        evaluation = json.loads(file.read_text(encoding="utf-8"))
        return {"step": evaluation["step"], "n": evaluation["n"], "metrics": evaluation["metrics"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged ({error}); delete it, and the same command evaluates again."
        ) from error


def save(folder: pathlib.Path, runs: Sequence[Run], splits: Sequence[str]) -> None:
    """Writes sweep.json: every run with its training time and its metrics.

    Args:
        folder: Folder of the sweep.
        runs: Runs from `plan`.
        splits: Names of the splits.
    """
    rows = [
        {"variant": run.variant, "seed": int(run.seed), "config": run.config}
        | run.spent()
        | {split: read(run, split) for split in splits}
        for run in runs
    ]
    results.save(folder / "sweep.json", {"step": _STEP.value, "runs": rows}, quiet=True)


def table(runs: Sequence[Run], splits: Sequence[str], metrics: Sequence[str]) -> str:
    """Formats each variant's mean and standard deviation over its seeds.

    Args:
        runs: Runs from `plan`.
        splits: Names of the splits that were evaluated.
        metrics: Names of the metrics to show, a column for each split.

    Returns:
        The table as text. The deviation is that of a sample (n - 1); it is left out for one seed.

    Raises:
        UserError: No evaluation has such a metric.
    """
    rows = []
    for variant in dict.fromkeys(run.variant for run in runs):
        finished = [run for run in runs if run.variant == variant and run.finished(splits)]
        cells = [variant, len(finished)]
        for split in splits:
            evaluated = [measured["metrics"] for run in finished if (measured := read(run, split))]
            for metric in metrics:
                if evaluated and metric not in evaluated[0]:
                    raise UserError(
                        f"--metrics: {metric!r} was not measured, only {', '.join(evaluated[0])}."
                    )
                cells.append(tables.mean_and_deviation(metric, [one[metric] for one in evaluated]))
        spent = [run.spent()["seconds"] for run in finished]
        rows.append([*cells, f"{statistics.mean(spent):.0f}" if spent else ""])
    named = [f"{split} {metric}" for split in splits for metric in metrics]
    return tables.table(rows, ["variant", "seeds", *named, "seconds"])


if __name__ == "__main__":
    doors.run(main, FLAGS)
