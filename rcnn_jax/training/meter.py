"""Speed and mean metrics of the steps between two log lines."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax

from rcnn_jax.training.evaluation import means
from rcnn_jax.training.interface import Sums

_AHEAD = 8
"""Steps that may be under way. XLA lets only so many programs wait for a CPU and holds up whoever
starts one more, be it the thread that prepares data. A run that wanted for nothing then seemed to
wait for data three tenths of its time, where 0.003 is true."""


class Meter:
    """Collects what steps return. Between log lines it waits for that of some steps ago alone."""

    def __init__(self, unit: str, batch_size: int):
        """Starts the clock.

        Args:
            unit: What is counted in a second.
            batch_size: How many of them a step takes.
        """
        self._key, self._batch_size = f"{unit}_per_s", batch_size
        self._sums: list[Sums] = []
        self._untimed = 0
        self._restart(0.0)

    def add(self, sums: Sums) -> None:
        """Takes what one step returned; it may still be computing.

        Waits until no more than `_AHEAD` steps are.
        """
        self._sums.append(sums)
        jax.block_until_ready(self._sums[-1 - _AHEAD : -_AHEAD])

    def begin(self, waited_s: float) -> None:
        """Starts to measure after the step just added, which was spent on compilation.

        Args:
            waited_s: Seconds that the run has waited for data so far.
        """
        jax.block_until_ready(self._sums)
        self._untimed = len(self._sums)
        self._restart(waited_s)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done inside, an evaluation or a checkpoint, out of the measured time."""
        # What the steps still owe is theirs, not the evaluation's.
        jax.block_until_ready(self._sums[-1:])
        self._elapsed += time.monotonic() - self._since
        try:
            yield
        finally:
            self._since = time.monotonic()

    def _restart(self, waited_s: float) -> None:
        self._elapsed, self._since, self._waited = 0.0, time.monotonic(), waited_s

    def read(self, waited_s: float) -> dict[str, Any]:
        """Returns what a log line says, and begins the next one.

        Args:
            waited_s: Seconds that the run has waited for data so far.

        Returns:
            Examples a second (None where only compilation was measured), share of the time spent
            waiting for data, the last learning rate, and the mean of each metric over the steps
            since the last line.
        """
        taken, self._sums = jax.device_get(self._sums), []
        elapsed = self._elapsed + time.monotonic() - self._since
        timed = (len(taken) - self._untimed) * self._batch_size
        wait = min((waited_s - self._waited) / elapsed, 1.0) if timed else 0.0
        self._untimed = 0
        self._restart(waited_s)
        pairs: dict[str, list[tuple[float, float]]] = {}
        for sums in taken:
            for name, (total, count) in sums.items():
                pairs.setdefault(name, []).append((float(total), float(count)))
        metrics = means(pairs)
        metrics.pop("learning_rate")
        return {
            self._key: timed / elapsed if timed else None,
            "data_wait_share": wait,
            "learning_rate": pairs["learning_rate"][-1][0],  # that of the last step
            "loss": metrics.pop("loss"),
            **metrics,
        }
