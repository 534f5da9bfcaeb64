"""Saves checkpoints in the background of training and deletes those that are no longer needed.

`reading.py` describes the contents of a checkpoint and reads them.
"""

import contextlib
import math
import pathlib
import shutil
from typing import Any, Self

from rcnn_jax.errors import UserError
from rcnn_jax.output.digests import json_digest
from rcnn_jax.training import evaluations
from rcnn_jax.training.checkpoints import checksums, reading, topology
from rcnn_jax.training.checkpoints.errors import DiskErrors, DivergedError
from rcnn_jax.training.checkpoints.reading import ocp
from rcnn_jax.training.interface import Config, PyTree
from rcnn_jax.training.parallel import distributed

SAVE_S = 600  # time limit in seconds for a save that several processes write together
_DELETED = ".deleted"  # suffix of the name of a checkpoint that is being deleted


class Checkpoints:
    """Checkpoints of one run, in a folder with one subfolder for each saved step.

    A state is saved first and evaluated afterwards, so that no failure of an evaluation can lose
    it. Older checkpoints are deleted only after the evaluation, and the newest is never deleted.

    Attributes:
        last_good: Step of the newest whole checkpoint, or None before the first one.
    """

    def __init__(self, directory: pathlib.Path, config: Config):
        """Opens the folder for writing and removes incomplete checkpoints of an interrupted run.

        Args:
            directory: Folder of checkpoints, which is created if it is missing.
            config: Complete config. `keep_latest` is the number of newest checkpoints that are
                kept, `keep_best` that of the best ones by `best_metric` and `best_mode`.
        """
        self._directory, self._config = directory, config
        self._topology = topology.current()
        directory.mkdir(parents=True, exist_ok=True)
        self._inode = directory.stat().st_ino
        if distributed.is_first():
            for leftover in directory.glob(f"*{_DELETED}"):
                shutil.rmtree(leftover, ignore_errors=True)
        self._writer = self._open_writer()
        self._failed = False  # whether the writer's last save failed
        self._metrics: dict[int, dict[str, float]] = {}  # by step, cached
        self._settled = False  # whether older checkpoints may be deleted
        self._pending: tuple[int, Any] | None = None
        self._stuck = False
        self.last_good: int | None = max(reading.steps(directory), default=None)

    def _open_writer(self) -> Any:
        writer = ocp.training.Checkpointer(self._directory.resolve(), cleanup_tmp_directories=True)
        # Orbax queries jax's preemption service too, with numbers of steps and from a thread. The
        # service would then stop the run at a count that may never come again; see `signals`.
        writer._manager.reached_preemption = lambda step: False
        return writer

    def save(self, step: int, state: PyTree, *, evaluates: bool = False) -> None:
        """Starts to save a state; training, or its evaluation, goes on while it is written.

        Args:
            step: Number of training steps that have been taken.
            state: Training state. Its values are read before this method returns.
            evaluates: Whether the state is evaluated next. If so, `evaluated` or `reject` must be
                called before another save, and no older checkpoint is deleted before that.

        Raises:
            DivergedError: The state holds NaN or infinity; nothing is written.
            UserError: The preceding save failed, for example because the disk is full.
        """
        self.wait()
        self._delete_unwanted()
        described = checksums.describe(state)
        # The plateau's best value may be infinite, as it is until the first evaluation.
        bad = [path for path in described.nonfinite if not path.startswith("plateau/")]
        if bad:
            raise self.diverged(f"{bad[0]} holds NaN or infinity after step {step}", step)
        manifest = {"leaves": described.leaves, "topology": self._topology}
        with DiskErrors(self._directory, step, self.last_good):
            # Orbax would create the folder anew, and the run would end without its old contents.
            if self._directory.stat().st_ino != self._inode:
                raise OSError("another folder has taken its place since the run started")
            if self._failed:
                # Orbax would raise the error of the failed save again at the next of that step.
                with contextlib.suppress(Exception):
                    self._writer.close()
                self._writer, self._failed = self._open_writer(), False
            response = self._writer.save_async(
                step,
                reading.with_elements(state),
                force=True,
                custom_metadata={"manifest": manifest, "digest": json_digest(manifest)},
            )
        if response is None:
            raise UserError(
                f"the checkpoint of step {step} was not saved to {self._directory}: Orbax left it "
                "out, and names no reason."
            )
        self._pending = (step, response)
        self._metrics[step], self._settled = {}, not evaluates

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        """Adds the evaluation of the newest checkpoint and deletes older ones that are not kept.

        Args:
            step: Step of the newest checkpoint.
            metrics: Value of each metric by name.

        Raises:
            UserError: The checkpoint or its metrics cannot be written.
        """
        self.wait()
        with DiskErrors(self._directory, step, self.last_good, "evaluation"):
            if distributed.is_first():
                evaluations.write(self._directory / str(step), metrics)
        self._metrics[step], self._settled = metrics, True
        self._delete_unwanted()

    def reject(self, step: int, what: str) -> DivergedError:
        """Moves the newest checkpoint aside after its evaluation revealed a divergence.

        Args:
            step: Step of the newest checkpoint.
            what: Evidence of the divergence, a clause.

        Returns:
            The error that ends the run, which names the preceding checkpoint.
        """
        self.wait()
        self._settled = False
        moved = distributed.first(lambda: reading.set_aside(self._directory, step - 1))
        self.last_good = distributed.first(
            lambda: max(reading.steps(self._directory), default=None)
        )
        where = "".join(f" (its state is in {target})" for target in moved)
        return DivergedError(what + where, self.last_good)

    def _delete_unwanted(self) -> None:
        """Deletes all but the `keep_latest` newest and the `keep_best` best checkpoints.

        No save may be in progress. A checkpoint that cannot be read is kept for inspection.
        """
        if not self._settled or not distributed.is_first():
            return
        config, ranked = self._config, []
        saved = reading.steps(self._directory)
        kept = set(saved[-config.keep_latest :])
        for step in saved:
            try:
                if step not in self._metrics:
                    self._metrics[step] = reading.read_metrics(self._directory, step)
            except UserError:
                kept.add(step)
                continue
            if config.best_metric in self._metrics[step]:
                value = self._metrics[step][config.best_metric]
                ranked.append((evaluations.rank(value, config.best_mode), step))
        kept |= {step for _, step in sorted(ranked)[len(ranked) - config.keep_best :]}
        for step in set(saved) - kept:
            # It is renamed first, because a partly deleted checkpoint would look damaged. A folder
            # that cannot be deleted now is retried after the next save.
            with contextlib.suppress(OSError):
                target = self._directory / f"{step}{_DELETED}"
                (self._directory / str(step)).rename(target)
                shutil.rmtree(target)

    def check_loss(self, loss: float | None, step: int) -> None:
        """Checks that training can continue from a loss.

        Args:
            loss: Loss of one step, or the mean over several; None where nothing was counted.
            step: Number of training steps that have been taken.

        Raises:
            DivergedError: The loss is not finite, or above `config.divergence.max_loss`.
        """
        if loss is None:
            return
        if not math.isfinite(loss):
            raise self.diverged(f"the loss is {loss} at step {step}", step)
        bound = self._config.divergence.max_loss
        if 0 < bound < loss:
            raise self.diverged(
                f"the loss is {loss:.6g} at step {step}, above config.divergence.max_loss={bound:g}"
            )

    def diverged(self, what: str, step: int | None = None) -> DivergedError:
        """Returns the error that ends a diverged run, which names the checkpoint that is kept.

        Args:
            what: Evidence of the divergence, a clause.
            step: Training step at which NaN or infinity was detected, so that its origin can be
                located. None if there is nothing to locate.
        """
        self.wait()
        return DivergedError(what, self.last_good, step=step)

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
            UserError: The save failed.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        self._failed = True
        with DiskErrors(self._directory, step, self.last_good):
            # If one of several processes cannot write, all of them wait for each other.
            try:
                response.result(timeout=None if distributed.count() == 1 else SAVE_S)
            except TimeoutError as error:
                self._stuck = True
                raise UserError(
                    f"the checkpoint of step {step} was not written to {self._directory} by all "
                    f"processes within {SAVE_S} s; is a disk full or a file system gone?"
                ) from error
        self.last_good, self._failed = step, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_) -> None:
        if self._stuck or (error is not None and distributed.explain(error) is not None):
            return  # the save in progress waits for a process that is gone or cannot go on
        try:
            self.close()
        except Exception:
            # Closing raises the error of the last save again; the first error counts.
            if kind is None:
                raise

    def close(self) -> None:
        """Finishes the save in progress and ends the writing threads."""
        try:
            self.wait()
            self._delete_unwanted()
        finally:
            self._writer.close()
