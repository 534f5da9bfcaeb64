"""Saves checkpoints while training goes on, and deletes those that are no longer wanted.

What a checkpoint holds, and how it is read again, is in `reading.py`.
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

SAVE_S = 600  # how long the processes of a job wait for what they are writing together
_DELETED = ".deleted"  # ends the name of a checkpoint that is being deleted


class Checkpoints:
    """The checkpoints of one run, in a folder with one subfolder a step.

    A state is saved first and evaluated then, so that nothing that happens in an evaluation can
    lose it. Older checkpoints are deleted only after that, and the newest never is.
    """

    def __init__(self, directory: pathlib.Path, config: Config):
        """Opens the folder for writing; what a killed run left half written is removed.

        Args:
            directory: The folder; made where it is missing.
            config: `keep_latest` newest checkpoints are kept, and the `keep_best` best by
                `best_metric` and `best_mode`.
        """
        self._directory, self._config = directory, config
        self._topology = topology.current()
        directory.mkdir(parents=True, exist_ok=True)
        self._inode = directory.stat().st_ino
        if distributed.is_first():
            for leftover in directory.glob(f"*{_DELETED}"):
                shutil.rmtree(leftover, ignore_errors=True)
        self._writer = ocp.training.Checkpointer(directory.resolve(), cleanup_tmp_directories=True)
        # Orbax asks jax's service for a warning, too, with numbers of steps, and from a thread. The
        # service then stops the run at a count that may never come again: see `signals`.
        self._writer._manager.reached_preemption = lambda step: False
        self._metrics: dict[int, dict[str, float]] = {}  # of checkpoints that this process knows
        self._settled = False  # the newest one is as good as those before it
        self._pending: tuple[int, Any] | None = None
        self._stuck = False
        self.last_good: int | None = max(reading.steps(directory), default=None)

    def save(self, step: int, state: PyTree, *, evaluates: bool = False) -> None:
        """Starts to save a state; training, or its evaluation, goes on while it is written.

        Args:
            step: How many steps have been taken.
            state: The training state. Its values are read before this returns.
            evaluates: Whether it is evaluated next: then `evaluated` or `reject` is called before
                anything else is saved, and no older checkpoint is deleted before.

        Raises:
            DivergedError: The state holds NaN or infinity; nothing is written.
            UserError: The save before this one failed, for example because the disk is full.
        """
        self.wait()
        self._delete_unwanted()
        described = checksums.describe(state)
        # The plateau's best value is infinite until the first evaluation, and may be.
        bad = [path for path in described.nonfinite if not path.startswith("plateau/")]
        if bad:
            raise self.diverged(f"{bad[0]} holds NaN or infinity after step {step}", step)
        manifest = {"leaves": described.leaves, "topology": self._topology}
        with DiskErrors(self._directory, step, self.last_good):
            # Orbax would make the folder anew, and the run would end without what was in it.
            if self._directory.stat().st_ino != self._inode:
                raise OSError("another folder has taken its place since the run started")
            response = self._writer.save_async(
                step,
                reading.with_elements(state),
                force=True,
                custom_metadata={"manifest": manifest, "digest": json_digest(manifest)},
            )
        self._pending = (step, response)
        self._metrics[step], self._settled = {}, not evaluates

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        """Adds what the evaluation of the newest checkpoint gave, and deletes unwanted older ones.

        Args:
            step: Its step.
            metrics: name -> value.

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
        """Moves the newest checkpoint aside: its evaluation shows that training has diverged.

        Args:
            step: Its step.
            what: What was found.

        Returns:
            The error that ends the run, naming the checkpoint before it.
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
        """Keeps the `keep_latest` newest and the `keep_best` best; nothing else may be in writing.

        A checkpoint that cannot be read is left for whoever looks into it.
        """
        if not self._settled or not distributed.is_first():
            return
        config, ranked = self._config, []
        there = reading.steps(self._directory)
        kept = set(there[-config.keep_latest :])
        for step in there:
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
        for step in set(there) - kept:
            # Under another name first: half of a checkpoint would be taken for a damaged one. What
            # cannot be deleted now is tried again after the next save.
            with contextlib.suppress(OSError):
                target = self._directory / f"{step}{_DELETED}"
                (self._directory / str(step)).rename(target)
                shutil.rmtree(target)

    def check_loss(self, loss: float, step: int) -> None:
        """Checks that a loss is one to go on from.

        Args:
            loss: Of one step, or the mean of some.
            step: How many steps have been taken.

        Raises:
            DivergedError: It is not finite, or above `config.divergence.max_loss`.
        """
        if not math.isfinite(loss):
            raise self.diverged(f"the loss is {loss} at step {step}", step)
        bound = self._config.divergence.max_loss
        if 0 < bound < loss:
            raise self.diverged(
                f"the loss is {loss:.6g} at step {step}, above config.divergence.max_loss={bound:g}"
            )

    def diverged(self, what: str, step: int | None = None) -> DivergedError:
        """The error that ends a run which has diverged, naming the checkpoint that is kept.

        Args:
            what: What was found.
            step: At which NaN or infinity was met in training, so that it can be located.
        """
        self.wait()
        return DivergedError(what, self.last_good, step=step)

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
            UserError: It failed.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        with DiskErrors(self._directory, step, self.last_good):
            # Where one of several processes cannot write, it and all others wait for each other.
            try:
                response.result(timeout=None if distributed.count() == 1 else SAVE_S)
            except TimeoutError as error:
                self._stuck = True
                raise UserError(
                    f"the checkpoint of step {step} was not written to {self._directory} by all "
                    f"processes within {SAVE_S} s; is a disk full or a file system gone?"
                ) from error
        self.last_good = step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_) -> None:
        if self._stuck or (error is not None and distributed.explain(error) is not None):
            return  # what is being written waits for a process that is gone or cannot go on
        try:
            self.close()
        except Exception:
            # Closing tells once more what went wrong with the last save; the first telling counts.
            if kind is None:
                raise

    def close(self) -> None:
        """Finishes what is being written and ends the writing threads."""
        try:
            self.wait()
            self._delete_unwanted()
        finally:
            self._writer.close()
