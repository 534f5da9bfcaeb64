"""Output of a training run: progress for its user, and log lines in files and services."""

import hashlib
import json
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, UserError, describe
from rcnn_jax.output.progress import bar
from rcnn_jax.output.tables import number
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.workdir import Workdir


class JsonLines:
    """Appends log entries to a file, one JSON object a line, and flushes each at once."""

    def __init__(self, path: pathlib.Path):
        """Opens the file for appending.

        Args:
            path: Path of the file.
        """
        self._file = path.open("a", encoding="utf-8")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Appends an entry as one line; NaN and infinities are written as null.

        Args:
            entry: Values by name.
        """
        plain = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in entry.items()
        }
        self._file.write(json.dumps(plain) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes scalars for TensorBoard with the package tensorboardX."""

    def __init__(self, folder: pathlib.Path):
        """Opens an event file in the subfolder `tensorboard`.

        Args:
            folder: Path of the workdir.

        Raises:
            UserError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                "config.writers names 'tensorboard', which needs a package: "
                "pip install 'rcnn-jax[tensorboard]'."
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, entry: Mapping[str, Any]) -> None:
        """Writes every number of an entry as the scalar `SPLIT/NAME`.

        Args:
            entry: Values by name; `step` is required. The split is "train" if the entry has none.
        """
        split = entry.get("split", "train")
        for name, value in entry.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(f"{split}/{name}", value, entry["step"])

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WeightsAndBiases:
    """Writes to Weights & Biases, whose environment variables set the account and offline mode."""

    def __init__(self, folder: pathlib.Path):
        """Starts a run, or continues the one that this workdir started.

        Args:
            folder: Path of the workdir.

        Raises:
            UserError: wandb is not installed.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                "config.writers names 'wandb', which needs a package: "
                "pip install 'rcnn-jax[wandb]'."
            ) from error
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        self._run = wandb.init(dir=str(folder), name=folder.name, id=identity, resume="allow")

    def write(self, entry: Mapping[str, Any]) -> None:
        """Logs every number of an entry as `SPLIT/NAME`.

        Args:
            entry: Values by name; `step` is required. The split is "train" if the entry has none.
        """
        split = entry.get("split", "train")
        values = {f"{split}/{k}": v for k, v in entry.items() if isinstance(v, int | float)}
        self._run.log(values, step=entry["step"])

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


EXTRA_WRITERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def find(name: str) -> Any:
    """Returns the class or function that makes a writer.

    Args:
        name: A key of `EXTRA_WRITERS`, or the import path of a class or of a function that returns
            a writer. It is called with the path of the workdir.

    Returns:
        The class or the function.

    Raises:
        UsageError: The name cannot be imported, or its objects lack `write(entry)` or `close()`.
    """
    if name in EXTRA_WRITERS:
        return EXTRA_WRITERS[name]
    made = importing.resolve(name, "config.writers")
    if not callable(made):
        raise UsageError(
            f"config.writers: {name} is a {type(made).__name__}, not a class that is called with "
            "the workdir's path."
        )
    if isinstance(made, type):
        _require_methods(made, name)
    return made


def _require_methods(writer: Any, name: str) -> None:
    for method in ("write", "close"):
        if not callable(getattr(writer, method, None)):
            raise UsageError(
                f"config.writers: {name} has no method {method}: a writer has write(entry), which "
                "is called with each log line as a mapping, and close()."
            )


def _open(name: str, folder: pathlib.Path) -> Any:
    """Makes one of the writers that a config names."""
    make = find(name)
    try:
        writer = make(folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"config.writers: {name} cannot be made for {folder}: {describe(error, name)}."
        ) from error
    _require_methods(writer, name)
    return writer


# What a line on the terminal leaves to metrics.jsonl, or says in another way.
_NOT_SHOWN = ("step", "split", "step_s", "memory_mib", "device_memory_mib")


class Log:
    """Reports a run on the terminal and to all of its writers.

    On a terminal it shows a progress bar with the remaining time; elsewhere it prints one line for
    each entry. If there are several processes, only the first one reports.
    """

    def __init__(self, extra: Sequence[str], workdir: Workdir, total: int, start: int, unit: str):
        """Opens all writers.

        Args:
            extra: Names of further writers, as `find` takes them. A writer that fails later is
                dropped with a warning.
            workdir: Workdir that the files are written to.
            total: Number of training steps of the whole run.
            start: Number of steps that were taken before this start.
            unit: Unit in which throughput is counted, such as "images".

        Raises:
            UserError: A writer is not installed or cannot be made.
        """
        self._unit, self._total = unit, total
        self._live = sys.stderr.isatty() and distributed.is_first()
        self._extra: dict[str, Any] = {}
        self._lines: JsonLines | None = None
        distributed.first(lambda: self._extra.update((n, _open(n, workdir.path)) for n in extra))
        if distributed.is_first():
            self._lines = JsonLines(workdir.metrics)
        self._bar = bar(total, "step", shown=self._live, done=start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
        for name in list(self._extra):
            self._call(name, "close")
        if self._lines is not None:
            self._lines.close()

    def advance(self) -> None:
        """Advances the progress bar by one step."""
        self._bar.update(1)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Shows an entry and hands it to every writer.

        Args:
            entry: Values by name; `step` is required. An entry of an evaluation has a `split`.
        """
        if self._lines is not None:
            self._lines.write(entry)
        for name in list(self._extra):
            self._call(name, "write", dict(entry))
        if self._live and "split" not in entry:
            # There is no throughput yet if only the step that compiled has been taken.
            rate = entry[f"{self._unit}_per_s"]
            speed = "" if rate is None else f", {rate:.0f} {self._unit}/s"
            loss = "none" if entry["loss"] is None else f"{entry['loss']:.4f}"
            self._bar.set_postfix_str(f"loss {loss}{speed}")
            return
        values = "  ".join(
            f"{k} {number(k, v)}" for k, v in entry.items() if k not in _NOT_SHOWN and v is not None
        )
        split = f"  {entry['split']}:" if "split" in entry else ""
        self.say(f"step {entry['step']:>6}/{self._total}{split}  {values}")

    def _call(self, name: str, method: str, *arguments: Any) -> None:
        """Calls a method of a further writer; a failing writer is dropped and the run goes on."""
        try:
            getattr(self._extra[name], method)(*arguments)
        except Exception as error:  # noqa: BLE001 - services and forks raise whatever they like
            del self._extra[name]
            distributed.warn(
                f"config.writers: {name} is left out from here on, its {method} raises "
                f"{describe(error, name)}; metrics.jsonl has every line"
            )

    def say(self, text: str) -> None:
        """Prints a line without disturbing the progress bar.

        Args:
            text: The line.
        """
        if self._live:
            self._bar.write(text, file=sys.stderr)
        else:
            distributed.say(text)
