"""The folder of a run: its config, its lines of metrics, its checkpoints and its lock."""

import contextlib
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


class Workdir:
    """Where everything about one run lies."""

    def __init__(self, path: str | pathlib.Path):
        """Names the folder; nothing is made or read.

        Args:
            path: The folder.
        """
        self.path = path = pathlib.Path(path)
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.assets = path / "assets"
        self.data = path / "data.json"

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Makes the folder and takes it for this run, until it leaves or ends however it ends.

        Raises:
            UserError: Another training run has it, or it cannot be written.
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
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def check(self, config: ConfigDict) -> list[str]:
        """Checks that the folder is empty, or holds a run of this config; writes nothing.

        Args:
            config: A complete config.

        Returns:
            For a run that goes on: what is carried out in another way than before, as lines
            `key: old -> new`.

        Raises:
            UserError: The folder holds another experiment; the message says what differs.
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
        """Checks once more, now that the folder is claimed, and writes config and data facts.

        Args:
            config: A complete config.
            facts: Of the training data, see `TrainingRun.data_facts`: `examples`, how many there
                are, `shapes`, of what the model reads of one, and others. A run that goes on keeps
                what it has and adds what an older version did not write.

        Raises:
            UserError: The folder holds another experiment, or there are more or fewer examples
                than when its run began.
        """
        self.check(config)
        known = self.data_facts()
        # A shape may be that of an example which cannot be read any more.
        then, now = known.get("examples", facts["examples"]), facts["examples"]
        if then != now:
            raise UserError(
                f"the training data of --workdir={self.path} have changed since the run began: "
                f"there were {then:,} examples and now are {now:,}. Bring back the old ones, or "
                "choose another workdir."
            )
        write_atomically(self.config, loading.to_json(config))
        if not facts.keys() <= known.keys():
            write_atomically(self.data, json.dumps(facts | known, indent=1) + "\n")

    def data_facts(self) -> dict[str, Any]:
        """The facts that `adopt` wrote; empty where a run before it did not."""
        try:
            return json.loads(self.data.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self.data} cannot be read: {error}.") from error

    def forget_metrics_after(
        self, step: int, *, evaluated: bool = True
    ) -> list[tuple[int, dict[str, float]]]:
        """Drops the lines of steps that a killed run took and this one will take again.

        Args:
            step: The last step that counts. A line cut short by a kill is dropped too.
            evaluated: Whether its evaluation counts, too; if not, it is about to be repeated.

        Returns:
            The evaluations that remain, as pairs (step, metrics).
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
