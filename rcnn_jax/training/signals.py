"""Being asked to stop: the step in progress is finished and saved first, by all processes."""

import itertools
import signal
from types import FrameType
from typing import Self

from jax.experimental import multihost_utils

from rcnn_jax.training import distributed

# SIGTERM and SIGUSR1 are what schedulers send as a warning, SIGINT is Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


# jax's service stops at the step after the highest that any process has asked with, which is 0
# before the first; so it is asked with a count that starts at 1 in every start of a run, and grows
# also where a run goes back to an earlier step.
_asked = itertools.count(1)


class StopRequest:
    """While entered, a signal asks the loop to stop instead of ending the process.

    A second SIGINT ends it at once, for somebody who will not wait. Where there are several
    processes, a signal to one of them reaches all: jax's preemption service finds a step that
    none of them has begun, and they stop there together.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._told: list[str | None] = []  # of several processes: which signal each one got
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            # That service listens to SIGTERM itself, and a handler here would take it away.
            if distributed.count() == 1 or number != signal.SIGTERM:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if distributed.count() > 1:
            signal.raise_signal(signal.SIGTERM)  # the one signal that is passed on

    def reached(self) -> bool:
        """Whether to save and stop now; all processes must ask after every step.

        Returns:
            The same in all processes.
        """
        if distributed.count() == 1 and self.signal is not None:
            return True
        # Asked by a process that is alone, too: a cloud may give notice without a signal.
        if not multihost_utils.reached_preemption_sync_point(next(_asked)):
            return False
        self._told = distributed.gather(None if self.signal is None else self.signal.name)
        return True

    @property
    def reason(self) -> str:
        """What asked for the stop."""
        if self.signal is not None and not self._told:
            return self.signal.name
        named = [f"{name} to process {i}" for i, name in enumerate(self._told) if name]
        return ", ".join(named) or "preemption notice"

    @property
    def exit_code(self) -> int:
        """What tells a scheduler that the run is unfinished, and whether to start it again.

        The same in all processes: a person's Ctrl-C counts, whichever of them got it.
        """
        interrupted = signal.SIGINT.name in self._told or self.signal == signal.SIGINT
        return distributed.INTERRUPTED if interrupted else distributed.WARNED
