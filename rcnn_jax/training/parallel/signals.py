"""Stop requests: all processes finish the step in progress, save it and stop together."""

import collections
import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self, TypeVar

# The key-value store has no public name, as in `distributed`.
from jax._src import distributed as runtime
from jax.experimental import multihost_utils

from rcnn_jax.training.parallel import distributed

T = TypeVar("T")

# Schedulers send SIGTERM or SIGUSR1 as a warning; SIGINT is Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

# Key under which jax's service tells all processes that one of them has been warned.
_NOTICE = "RECEIVED_PREEMPTION_NOTICE"
_LOOK_S = 0.5  # interval at which a process that computes on the host checks the key

# jax's service stops at the count after the highest that any process has asked with, which is 0
# before the first query. The counts therefore start at 1 in every start of a run, and grow even if
# a run goes back to an earlier step. Nothing else may query the service with other counts; see
# `saving.Checkpoints`.
_asked = itertools.count(1)


class StopDuringEvaluation(BaseException):
    """Raised where an evaluation is abandoned because the run has been asked to stop.

    It is not an `Exception`, so that a task's code that catches those does not suppress it.
    """


class StopRequest:
    """Context in which a signal asks the loop to stop instead of ending the process.

    A SIGINT after any first signal ends the process immediately, for a user who does not want to
    wait. If there are several processes, a signal to one of them reaches all: jax's preemption
    service chooses a count that none of them has asked with yet, and they stop there together. Once
    they have agreed to stop, `reached` stays True, whatever becomes of the step at which they did.
    """

    def __init__(self, minutes: float = 0.0, started: float | None = None):
        """Prepares the request; signals are handled only once it is entered.

        Args:
            minutes: Time after which the run is asked to stop, as by a signal, in minutes by the
                clock of the first process. 0 means no time limit.
            started: Time at which the minutes began, by `time.monotonic`. None means now.
        """
        self._minutes = minutes
        self._until = (time.monotonic() if started is None else started) + 60 * minutes
        self._why: str | None = None  # first cause of a stop request to this process
        self._told: list[str | None] | None = None  # cause of each process, once they have agreed
        self._inside = False  # whether interruptible code is running
        # Messages of other threads of this process that interrupt the main thread: the cause of
        # the stop, or None if another process has been asked to stop.
        self._said: collections.deque[str | None] = collections.deque()
        self._noticed = False
        self._previous: dict[signal.Signals, object] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            # The service handles SIGTERM itself, and a handler here would replace its handler.
            if distributed.count() == 1 or number != signal.SIGTERM:
                self._previous[number] = signal.signal(number, self._handle)
        if self._minutes and distributed.is_first():
            left = max(0.0, self._until - time.monotonic())
            why = f"config.max_minutes={self._minutes:g} have passed"
            self._timer = threading.Timer(left, self._interrupt, (why,))
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _interrupt(self, why: str | None) -> None:
        """Wakes the main thread, even if it sleeps or waits; called by other threads."""
        self._said.append(why)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT and (self._why is not None or self.agreed):
            raise KeyboardInterrupt
        by_thread = number == signal.SIGUSR1 and bool(self._said)
        why = self._said.popleft() if by_thread else signal.Signals(number).name
        self._noticed = self._noticed or why is None
        if why is not None and not self.agreed:
            self._why = self._why or why
            if distributed.count() > 1:
                signal.raise_signal(signal.SIGTERM)  # the only signal that is passed on
        if self._inside:
            self._inside = False  # interrupts only once, so that unwinding is not interrupted
            raise StopDuringEvaluation

    @property
    def agreed(self) -> bool:
        """Whether all processes know that they are to stop."""
        return self._told is not None

    def reached(self) -> bool:
        """Returns whether to save and stop now.

        All processes must call it at the same points of their work.

        Returns:
            The same value in all processes. Once it has been True, it stays True.
        """
        # A single process queries the service, too: a cloud may give notice without a signal.
        alone = distributed.count() == 1 and self._why is not None
        if not self.agreed and (
            alone or multihost_utils.reached_preemption_sync_point(next(_asked))
        ):
            self._agree()
        return self.agreed

    def check(self) -> None:
        """Ends an evaluation between two batches; all processes must call it there.

        Raises:
            StopDuringEvaluation: One of the processes has been asked to stop. All processes raise
                it.
        """
        if self.reached():
            raise StopDuringEvaluation

    def interruptible(self, work: Callable[[], T]) -> T:
        """Calls a function on the host that a stop request may interrupt at any point.

        All processes must call it. If there are several, each leaves as soon as it learns of the
        stop request, and waits for the others to leave or to finish.

        Args:
            work: Function to call. It must not use a device, so that a process that leaves does not
                block a collective operation of another one.

        Returns:
            The result of `work`.

        Raises:
            StopDuringEvaluation: At least one process has left. All processes raise it.
        """
        left, result = False, None
        try:
            with self._listening():
                self._inside = True
                if self._why is not None or self._noticed:
                    raise StopDuringEvaluation
                result = work()
                self._inside = False
        except StopDuringEvaluation:
            left = True
        finally:
            self._inside = False
        if any(distributed.gather(left)):
            self._agree()
            raise StopDuringEvaluation
        return result  # pyright: ignore[reportReturnType]

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Runs a thread that passes on stop requests to the other processes.

        jax's service informs a program of a stop only when the program asks.
        """
        if distributed.count() == 1:
            yield
            return
        client, over = runtime.global_state.client, threading.Event()

        def listen() -> None:
            while not over.wait(_LOOK_S):
                # The key exists or not. The main thread notices a lost connection.
                with contextlib.suppress(Exception):
                    client.key_value_try_get(_NOTICE)  # pyright: ignore[reportOptionalMemberAccess]
                    self._interrupt(None)
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _agree(self) -> None:
        if self._told is None:
            self._told = distributed.gather(self._why)

    @property
    def reason(self) -> str:
        """Cause of the stop request, such as the name of the signal."""
        causes = self._told or [self._why]
        if len(causes) == 1 and causes[0] is not None:
            return causes[0]
        signals = signal.Signals.__members__
        named = [f"{w} to process {i}" if w in signals else w for i, w in enumerate(causes) if w]
        return ", ".join(named) or "preemption notice"

    @property
    def exit_code(self) -> int:
        """Exit code that tells a scheduler that the run is unfinished and whether to restart it.

        It is the same in all processes: a Ctrl-C by a user counts, whichever of them received it.
        """
        interrupted = signal.SIGINT.name in (self._told or [self._why])
        return distributed.INTERRUPTED if interrupted else distributed.WARNED
