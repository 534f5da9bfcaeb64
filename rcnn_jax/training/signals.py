"""Being asked to stop: the step in progress is finished and saved first, by all processes."""

import signal
from types import FrameType
from typing import Self

from jax.experimental import multihost_utils

from rcnn_jax.training import distributed

# SIGTERM and SIGUSR1 are what schedulers send as a warning, SIGINT is Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """While entered, a signal asks the loop to stop instead of ending the process.

    A second SIGINT ends it at once, for somebody who will not wait. Where there are several
    processes, a signal to one of them reaches all: jax's preemption service finds a step that
    none of them has begun, and they stop there together.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
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

    def reached(self, step: int) -> bool:
        """Whether to save and stop now.

        Args:
            step: How many steps have been taken. All processes must ask after every step.

        Returns:
            The same in all processes.
        """
        if distributed.count() == 1 and self.signal is not None:
            return True
        # Asked by a process that is alone, too: a cloud may give notice without a signal.
        return multihost_utils.reached_preemption_sync_point(step)

    @property
    def reason(self) -> str:
        """What asked for the stop."""
        return self.signal.name if self.signal is not None else "preemption notice"

    @property
    def exit_code(self) -> int:
        """What tells a scheduler that the run is unfinished, and whether to start it again."""
        interrupted = self.signal == signal.SIGINT
        return distributed.INTERRUPTED if interrupted else distributed.WARNED
