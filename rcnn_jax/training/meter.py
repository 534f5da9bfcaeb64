"""Throughput and mean metrics of the training steps between two log lines."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax

from rcnn_jax.training import evaluation, memory
from rcnn_jax.training.interface import Sums

_AHEAD = 8
"""Number of training steps that may be in flight. XLA limits how many programs wait for a CPU and
blocks whoever dispatches another one, including the thread that prepares data. Without this bound,
a run that never lacked data appeared to wait for it three tenths of its time, where 0.003 is the
true share."""


class Meter:
    """Collects the sums that steps return, and waits only for those of some steps ago."""

    def __init__(self, unit: str, batch_size: int):
        """Starts the clock.

        Args:
            unit: Unit in which throughput is counted, such as "images".
            batch_size: Number of units that a step processes.
        """
        self._key, self._batch_size = f"{unit}_per_s", batch_size
        self._sums: list[Sums] = []
        self._untimed = 0
        self._restart(0.0)

    def add(self, sums: Sums) -> None:
        """Adds the sums that one step returned, which may still be in computation.

        Blocks until at most `_AHEAD` steps are in flight.

        Args:
            sums: Pairs (sum, count) by name.
        """
        self._sums.append(sums)
        jax.block_until_ready(self._sums[-1 - _AHEAD : -_AHEAD])

    def begin(self, waited_s: float) -> None:
        """Restarts the clock after the step just added, whose time was spent on compilation.

        Args:
            waited_s: Seconds that the run has waited for data so far.
        """
        jax.block_until_ready(self._sums)
        self._untimed = len(self._sums)
        self._restart(waited_s)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the enclosed block, an evaluation or a checkpoint, from the measured time."""
        # The pending computation of the steps counts as theirs, not as the evaluation's.
        jax.block_until_ready(self._sums[-1:])
        self._elapsed += time.monotonic() - self._since
        try:
            yield
        finally:
            self._since = time.monotonic()

    def _restart(self, waited_s: float) -> None:
        self._elapsed, self._since, self._waited = 0.0, time.monotonic(), waited_s

    def read(self, waited_s: float) -> dict[str, Any]:
        """Returns the values of a log line and begins the next one.

        Args:
            waited_s: Seconds that the run has waited for data so far.

        Returns:
            The number of examples a second and the seconds of a step (None if only compilation was
            measured), the share of the time spent waiting for data, the largest memory so far in
            MiB, that of the device only where it is known, the last learning rate, and the mean of
            each metric over the steps since the last line, None where these counted nothing for it.
        """
        taken, self._sums = jax.device_get(self._sums), []
        elapsed = self._elapsed + time.monotonic() - self._since
        steps = len(taken) - self._untimed
        timed = steps * self._batch_size
        wait = min((waited_s - self._waited) / elapsed, 1.0) if timed else 0.0
        self._untimed = 0
        self._restart(waited_s)
        pairs: dict[str, list[tuple[float, float]]] = {}
        for sums in taken:
            for name, (total, count) in sums.items():
                pairs.setdefault(name, []).append((float(total), float(count)))
        metrics: dict[str, Any] = {
            name: None if evaluation.is_undefined(pairs[name]) else value
            for name, value in evaluation.means(pairs).items()
        }
        metrics.pop("learning_rate")
        host, device = memory.peak()
        return {
            self._key: timed / elapsed if timed else None,
            "step_s": elapsed / steps if steps else None,
            "data_wait_share": wait,
            "memory_mib": host,
            **({} if device is None else {"device_memory_mib": device}),
            "learning_rate": pairs["learning_rate"][-1][0],  # that of the last step
            "loss": metrics.pop("loss"),
            **metrics,
        }


def mean(pair: tuple[Any, Any]) -> float | None:
    """Divides one sum by its count.

    Args:
        pair: Pair (sum, count) of scalars, of one step.

    Returns:
        The mean. None if nothing was counted and the sum is finite: none of the examples of the
        batch has a loss, as when all of its lines are too short for their texts.
    """
    pairs = [(float(pair[0]), float(pair[1]))]
    return None if evaluation.is_undefined(pairs) else evaluation.means({"": pairs})[""]
