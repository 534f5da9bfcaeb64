"""The folder of a run, with its config, metrics, checkpoints and lock."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from rcnn_jax.configuration import loading
from rcnn_jax.errors import UserError
from rcnn_jax.output.files import write_atomically
from rcnn_jax.training.parallel import distributed

# What flock(2) raises on file systems without locks, such as Lustre mounted without `-o flock`.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class Workdir:
    """Paths and files of one run.

    Attributes:
        path: Path of the folder.
        config: Path of `config.json`, the complete config of the run.
        metrics: Path of `metrics.jsonl`, which has one log entry a line.
        checkpoints: Path of the folder of checkpoints.
        assets: Path of the folder of arrays that were fitted on the training split.
        data: Path of `data.json`, which describes the training data.
    """

    def __init__(self, path: str | pathlib.Path):
        """Sets the paths; nothing is created or read.

        Args:
            path: Path of the folder.
        """
        self.path = path = pathlib.Path(path)
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.assets = path / "assets"
        self.data = path / "data.json"

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Creates the folder and locks it for this run until the block is left or the process ends.

        Raises:
            UserError: Another training run holds the lock, or the folder cannot be written.
        """
        with contextlib.ExitStack() as held:
            distributed.first(lambda: held.enter_context(self._lock()))
            yield

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "a+")  # noqa: SIM115 - held until the end
        except OSError as error:
            raise UserError(
                f"--workdir={self.path} cannot be written: {error.strerror}."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise UserError(
                    f"--workdir={self.path} is in use by another training run (process "
                    f"{lock.read().strip() or 'unknown'}): wait for it, stop it, or choose "
                    "another workdir."
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise UserError(
                        f"--workdir={self.path} cannot be locked: {error.strerror}."
                    ) from error
                distributed.warn(
                    f"the file system of --workdir={self.path} has no locks ({error.strerror}): "
                    "nothing keeps a second run out of the folder"
                )
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def check(self, config: ConfigDict) -> list[str]:
        """Checks that the folder is empty or holds a run of this config; writes nothing.

        Args:
            config: Complete config.

        Returns:
            Settings that an existing run is continued with in place of earlier ones, as lines `key:
            old -> new`. They change how the run is carried out, not what it computes.

        Raises:
            UserError: The folder holds another experiment; the message states the differences.
        """
        if not self.config.exists():
            if self.metrics.exists() or self.checkpoints.exists():
                raise UserError(
                    f"--workdir={self.path} holds a run without its config.json: put it back, or "
                    "choose another workdir."
                )
            return []
        experiment, notes = loading.differences(loading.from_json(self.config), config)
        if experiment:
            shown = "; ".join(experiment[:8])
            more = f" and {len(experiment) - 8} more" if len(experiment) > 8 else ""
            raise UserError(
                f"--workdir={self.path} holds another experiment: {shown}{more} (theirs -> "
                "yours). Choose another workdir, or give the config it was started with."
            )
        return notes

    def adopt(self, config: ConfigDict, facts: dict[str, Any]) -> None:
        """Repeats `check` once the folder is claimed, and writes the config and the data facts.

        Args:
            config: Complete config.
            facts: Facts about the training data; see `TrainingRun.data_facts`. They include
                `examples`, the number of examples, and `shapes`, the shapes of the features of an
                example that the model reads. A continued run keeps its stored facts and adds those
                that an older version did not write, except `version`, that of the data set: the
                run began with another one, which stays unknown.

        Raises:
            UserError: The folder holds another experiment, or the number of examples has changed
                since its run began.
        """
        self.check(config)
        known = self.data_facts()
        # Only the number of examples is compared: the stored shapes may be those of an example
        # that can no longer be read.
        then, now = known.get("examples", facts["examples"]), facts["examples"]
        if then != now:
            raise UserError(
                f"the training data of --workdir={self.path} have changed since the run began: "
                f"there were {then:,} examples and now are {now:,}. Bring back the old ones, or "
                "choose another workdir."
            )
        if self.config.exists() and "version" not in known:
            facts = {**facts, "version": ""}
        write_atomically(self.config, loading.to_json(config))
        if not facts.keys() <= known.keys():
            write_atomically(self.data, json.dumps(facts | known, indent=1) + "\n")

    def data_facts(self) -> dict[str, Any]:
        """Reads the facts about the training data that `adopt` wrote.

        Returns:
            Facts by name; empty if the run is of a version that did not write them.

        Raises:
            UserError: The file cannot be read.
        """
        try:
            return json.loads(self.data.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self.data} cannot be read: {error}.") from error

    def forget_metrics_after(
        self, step: int, *, evaluated: bool = True
    ) -> list[tuple[int, dict[str, float]]]:
        """Removes the log lines of steps that an interrupted run took and this one will repeat.

        Args:
            step: Last training step whose lines are kept. An incomplete line is removed as well.
            evaluated: Whether the lines of the evaluation of `step` are kept. False means that the
                evaluation is about to be repeated.

        Returns:
            Pairs (step, metrics) of the validation results that remain.
        """
        if not self.metrics.exists():
            return []
        kept, history = [], []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            repeated = not evaluated and "split" in entry and entry.get("step") == step
            if entry.get("step", 0) <= step and not repeated:
                kept.append(line + "\n")
                if entry.get("split") == "validation":
                    where = ("step", "epoch", "split")
                    metrics = {k: v for k, v in entry.items() if k not in where}
                    history.append((entry["step"], metrics))
        write_atomically(self.metrics, "".join(kept))
        return history
