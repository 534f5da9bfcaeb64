"""Errors of checkpoints, with messages for the user."""

import pathlib
import re

import jax
import jax.numpy as jnp

from rcnn_jax.errors import UserError
from rcnn_jax.training import parameters
from rcnn_jax.training.interface import PyTree


class DamagedError(UserError):
    """Raised if a checkpoint cannot be read back as it was written."""


class ForeignError(UserError):
    """Raised if a checkpoint belongs to another model, optimiser or task."""


class DivergedError(UserError):
    """Raised if the loss or the state is no longer finite; such a state is never saved.

    Attributes:
        step: Training step at which NaN or infinity was detected. None if there is nothing to
            locate, as for a loss above its bound.
        last_good: Step of the newest checkpoint, or None before the first one.
    """

    def __init__(
        self,
        what: str,
        last_good: int | None,
        *,
        step: int | None = None,
        where: str = "",
        blames_rate: bool = True,
    ):
        """Builds the message.

        Args:
            what: Evidence of the divergence, a clause.
            last_good: Step of the newest checkpoint, or None before the first one.
            step: Training step at which NaN or infinity was detected. None if there is nothing to
                locate.
            where: Origin of the divergence, a clause. "" means that it is unknown.
            blames_rate: Whether a lower learning rate may help; the message then advises one.
        """
        self.step = step
        self.last_good = last_good
        self._what = what
        kept = (
            f"the last good checkpoint, of step {last_good}, is kept"
            if last_good is not None
            else "no checkpoint had been written"
        )
        advice = (
            " Try a lower config.schedule.value, a config.schedule.warmup_fraction or "
            "config.optimizer.clip_norm, in another workdir."
        )
        parts = "; ".join(part for part in (what, where, kept) if part)
        super().__init__(f"training has diverged: {parts}.{advice if blames_rate else ''}")

    def located(self, where: str, *, blames_rate: bool) -> "DivergedError":
        """Returns the same error with the origin of the divergence in its message.

        Args:
            where: Origin of the divergence, a clause.
            blames_rate: Whether a lower learning rate may help.
        """
        return DivergedError(
            self._what, self.last_good, step=self.step, where=where, blames_rate=blames_rate
        )


class DiskErrors:
    """Context that turns errors of a full disk or a missing folder into one sentence."""

    def __init__(
        self,
        directory: pathlib.Path,
        step: int,
        last_good: int | None,
        what: str = "checkpoint",
    ):
        """Stores what is written, for the message.

        Args:
            directory: Folder of checkpoints.
            step: Step of the checkpoint that is written.
            last_good: Step of the newest whole checkpoint, or None before the first one.
            what: Part that is written: the "checkpoint" itself, or its "evaluation".
        """
        self._directory, self._last_good = directory, last_good
        self._what = f"the {what} of step {step}"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not isinstance(error, Exception) or isinstance(error, UserError):
            return False
        text = f"{type(error).__name__}: {error}"
        kept = (
            f"the checkpoint of step {self._last_good} is untouched"
            if self._last_good is not None
            else "there is no earlier checkpoint"
        )
        if "No space left" in text or "ENOSPC" in text or "Disk quota" in text:
            raise UserError(
                f"no space left on the disk of {self._directory}: {self._what} was not saved; "
                f"{kept}. Free some space and run the same command."
            ) from error
        if isinstance(error, OSError) or not self._directory.is_dir():
            raise UserError(
                f"{self._directory} cannot be written: {self._what} was not saved "
                f"({text.splitlines()[0][:200]}); {kept}."
            ) from error
        return False


# Parts of messages by the library that reads arrays and by the operating system.
_MACHINE = re.compile(
    "PERMISSION_DENIED|RESOURCE_EXHAUSTED|Permission denied|Too many open files|Stale file handle"
    "|Cannot allocate memory"
)


def check_machine(folder: pathlib.Path, error: Exception) -> None:
    """Checks that a checkpoint that cannot be read is itself the cause.

    Args:
        folder: Folder of the checkpoint.
        error: Error that reading it raised.

    Raises:
        UserError: The machine is the cause: it lacks memory, file handles or permissions.
    """
    if isinstance(error, MemoryError) or _MACHINE.search(str(error)):
        raise UserError(
            f"the checkpoint {folder} cannot be read here ({short(error)}); it is left as it is."
        ) from error


def short(error: Exception) -> str:
    """Returns the type and the first line of an error, for the end of a sentence.

    Args:
        error: Any error.
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def check_same_model(folder: pathlib.Path, leaves: dict[str, list], abstract: PyTree) -> None:
    """Compares the leaves of a checkpoint with those that it is to be restored into.

    Args:
        folder: Folder of the checkpoint.
        leaves: Lists [shape, dtype, checksum] by path, from the manifest of the checkpoint.
        abstract: Expected shapes and types.

    Raises:
        ForeignError: The leaves differ; the message states the first differences.
    """
    expected = {}
    for path, leaf in parameters.flatten(abstract).items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        expected[path] = (list(leaf.shape), str(leaf.dtype))
    faults = [f"{path} is missing" for path in expected.keys() - leaves.keys()]
    faults += [f"{path} is not part of it" for path in leaves.keys() - expected.keys()]
    for path in expected.keys() & leaves.keys():
        shape, dtype = leaves[path][:2]
        if (shape, dtype) != expected[path]:
            faults.append(
                f"{path} has shape {tuple(shape)} {dtype} where the config's model has "
                f"{tuple(expected[path][0])} {expected[path][1]}"
            )
    if faults:
        faults.sort(key=lambda text: (not text.startswith("params/"), text))
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise ForeignError(
            f"the checkpoint {folder} is of another model than config.json and the data state: "
            + "; ".join(faults[:3])
            + more
            + "."
        )
