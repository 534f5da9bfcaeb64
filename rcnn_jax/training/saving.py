"""Saves checkpoints while training goes on.

What a checkpoint holds, and how it is read again, is in `checkpoints.py`.
"""

import math
import pathlib
from typing import Any, Self

from rcnn_jax.errors import UserError
from rcnn_jax.training import checksums, distributed, topology
from rcnn_jax.training.checkpoint_errors import DiskErrors, DivergedError
from rcnn_jax.training.checkpoints import ocp, steps
from rcnn_jax.training.interface import Config, PyTree

SAVE_S = 600  # how long the processes of a job wait for what they are writing together


class Checkpoints:
    """The checkpoints of one run, in a folder with one subfolder a step."""

    def __init__(self, directory: pathlib.Path, config: Config):
        """Opens the folder for writing; what a killed run left half written is removed.

        Args:
            directory: The folder; made where it is missing.
            config: `keep_latest` newest checkpoints are kept, and the `keep_best` best by
                `best_metric` and `best_mode`.
        """
        sign = -1.0 if config.best_mode == "min" else 1.0
        self._directory = directory
        self._max_loss = config.divergence.max_loss
        self._topology = topology.current()
        directory.mkdir(parents=True, exist_ok=True)
        self._inode = directory.stat().st_ino
        policies = ocp.training.preservation_policies
        self._writer = ocp.training.Checkpointer(
            directory.resolve(),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(config.keep_latest),
                    policies.BestN(
                        get_metric_fn=lambda metrics: sign * metrics[config.best_metric],
                        n=config.keep_best,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )
        self._pending: tuple[int, Any] | None = None
        self._stuck = False
        self.last_good: int | None = max(steps(directory), default=None)

    def save(self, step: int, state: PyTree, metrics: dict[str, float]) -> None:
        """Starts to save a state; training goes on while it is written.

        Args:
            step: How many steps have been taken.
            state: The training state. Its values are read before this returns.
            metrics: Of the evaluation at this step, empty if there was none.

        Raises:
            DivergedError: The state holds NaN or infinity; nothing is written.
            UserError: The save before this one failed, for example because the disk is full.
        """
        self.wait()
        described = checksums.describe(state)
        # The plateau's best value is infinite until the first evaluation, and may be.
        bad = [path for path in described.nonfinite if not path.startswith("plateau/")]
        if bad:
            raise self.diverged(f"{bad[0]} holds NaN or infinity after step {step}", step)
        manifest = {
            "leaves": described.leaves,
            "metrics": metrics,
            "topology": self._topology,
        }
        with DiskErrors(self._directory, step, self.last_good):
            # Orbax would make the folder anew, and the run would end without what was in it.
            if self._directory.stat().st_ino != self._inode:
                raise OSError("another folder has taken its place since the run started")
            response = self._writer.save_async(
                step,
                state,
                force=True,
                metrics=metrics or None,
                custom_metadata={"manifest": manifest, "digest": checksums.digest(manifest)},
            )
        self._pending = (step, response)

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
        if 0 < self._max_loss < loss:
            raise self.diverged(
                f"the loss is {loss:.6g} at step {step}, above "
                f"config.divergence.max_loss={self._max_loss:g}"
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
        finally:
            self._writer.close()
