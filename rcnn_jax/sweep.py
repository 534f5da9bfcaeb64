"""Trains and evaluates variants of a config, each with several seeds, and tabulates the results.

    python -m rcnn_jax.sweep --config=tagger_atis --variants=elman,jordan --seeds=0,1,2 \
        --workdir=runs/atis

Variants are those of the config, separated by commas and joined by `+` (`snips+elman`); `base` is
the config alone. --config.KEY=VALUE holds for all runs. One run after the other is trained and
evaluated in a process of its own, all variants with the first seed, then with the next, in
WORKDIR/VARIANT/SEED. The same command goes on where it was stopped: runs that are finished are
read, not repeated. WORKDIR/sweep.json holds every result.
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
    """One training run of the sweep and what came of it, all of it in files of its folder.

    Attributes:
        variant: as typed.
        seed: as typed.
        config: what `train` is given as --config.
        folder: its workdir.
    """

    variant: str
    seed: str
    config: str
    folder: pathlib.Path

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.variant}, seed {self.seed}"

    def result(self, split: str) -> pathlib.Path:
        """The file that holds the evaluation of a split."""
        name = "evaluation" if split == "test" else f"evaluation_{split}"
        return self.folder / f"{name}.json"

    def finished(self, splits: Sequence[str]) -> bool:
        """Whether nothing is left to do."""
        return all(self.result(split).is_file() for split in splits)

    def spent(self) -> dict[str, float]:
        """`seconds` of training and `starts` that they were spread over."""
        file = self.folder / "spent.json"
        found = json.loads(file.read_text()) if file.is_file() else {}
        return {"seconds": 0.0, "starts": 0} | found

    def spend(self, seconds: float) -> None:
        """Counts the seconds of one start."""
        before = self.spent()
        after = {"seconds": before["seconds"] + seconds, "starts": before["starts"] + 1}
        if self.folder.is_dir():
            write_atomically(self.folder / "spent.json", json.dumps(after) + "\n")


class Child:
    """A command that is run in a process of its own, and asked to stop when this one is."""

    def __init__(self) -> None:
        """Nothing runs yet."""
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
        """Runs a command to its end.

        Args:
            command: What to run.
            log: What it says is appended here.

        Returns:
            Its exit code, and the last line that it left on standard error.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as out:
            # In a session of its own: a Ctrl-C on the terminal reaches it through `_stop` alone.
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
    """Runs the sweep; returns the exit code."""
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
    """Lists the runs, all variants with one seed before the next.

    Args:
        config: File or name of a config, perhaps with variants of its own behind a colon.
        variants: Each the name of a variant, several joined by `+`, or `base`.
        seeds: Values of config.seed.
        folder: Of the sweep.

    Returns:
        The runs.

    Raises:
        UsageError: There is nothing to run, or something is named twice.
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
        run: From `plan`.

    Returns:
        The config.

    Raises:
        UserError: It has a mistake, or the folder holds another experiment.
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
        run: From `plan`.
        splits: What is evaluated.
        child: Runs the commands.

    Returns:
        The exit code of the command that did not end well, else 0, and its last words.
    """
    log = run.folder / "log.txt"
    common = [f"--workdir={run.folder}"]
    common += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
    own = [f"--config.{key}={text}" for key, text in doors.overrides]
    own += [f"--config={run.config}", f"--config.seed={run.seed}"]
    began = time.monotonic()
    code, message = child.run([*_door("train"), *common, *own], log)
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
    """What the evaluation of a split found; None where there is none yet.

    Raises:
        UserError: The file is damaged.
    """
    file = run.result(split)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"step": found["step"], "n": found["n"], "metrics": found["metrics"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged ({error}); delete it, and the same command evaluates again."
        ) from error


def save(folder: pathlib.Path, runs: Sequence[Run], splits: Sequence[str]) -> None:
    """Writes sweep.json: every run with its seconds and what was measured."""
    rows = [
        {"variant": run.variant, "seed": int(run.seed), "config": run.config}
        | run.spent()
        | {split: read(run, split) for split in splits}
        for run in runs
    ]
    results.save(folder / "sweep.json", {"step": _STEP.value, "runs": rows}, quiet=True)


def table(runs: Sequence[Run], splits: Sequence[str], metrics: Sequence[str]) -> str:
    """Lays out each variant's mean and standard deviation over its seeds.

    Args:
        runs: From `plan`.
        splits: What was evaluated.
        metrics: The columns, once for every split.

    Returns:
        A table; the deviation is that of a sample (n - 1), left out for one seed.

    Raises:
        UserError: No evaluation has such a metric.
    """
    rows = []
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant and run.finished(splits)]
        cells = [variant, len(own)]
        for split in splits:
            found = [measured["metrics"] for run in own if (measured := read(run, split))]
            for metric in metrics:
                if found and metric not in found[0]:
                    raise UserError(
                        f"--metrics: {metric!r} was not measured, only {', '.join(found[0])}."
                    )
                cells.append(tables.mean_and_deviation(metric, [one[metric] for one in found]))
        spent = [run.spent()["seconds"] for run in own]
        rows.append([*cells, f"{statistics.mean(spent):.0f}" if spent else ""])
    named = [f"{split} {metric}" for split in splits for metric in metrics]
    return tables.table(rows, ["variant", "seeds", *named, "seconds"])


if __name__ == "__main__":
    doors.run(main, FLAGS)
