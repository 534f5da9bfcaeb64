"""Being asked to stop: the step in progress is finished and saved first, by all processes."""

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

# SIGTERM and SIGUSR1 are what schedulers send as a warning, SIGINT is Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

# Under which jax's service tells all processes that one of them has been warned.
_NOTICE = "RECEIVED_PREEMPTION_NOTICE"
_LOOK_S = 0.5  # how often a process that computes on the host looks for it

# jax's service stops at the count after the highest that any process has asked with, which is 0
# before the first; so it is asked with a count that starts at 1 in every start of a run, and grows
# also where a run goes back to an earlier step. Nothing else may ask it with a count of its own:
# see `saving.Checkpoints`.
_asked = itertools.count(1)


class StopDuringEvaluation(BaseException):
    """An evaluation was left because the run has been asked to stop.

    It is no `Exception`, so that a task's code that catches those does not swallow it.
    """


class StopRequest:
    """While entered, a signal asks the loop to stop instead of ending the process.

    A SIGINT after any first signal ends the process at once, for somebody who will not wait. Where
    there are several processes, a signal to one of them reaches all: jax's preemption service finds
    a count that none of them has asked with, and they stop there together. Once they have agreed to
    stop, the answer stays, whatever becomes of the step at which they did.
    """

    def __init__(self, minutes: float = 0.0, started: float | None = None):
        """Listens to nothing yet.

        Args:
            minutes: After how many minutes the run is asked to stop, as by a signal; 0: never. The
                clock is that of the first process.
            started: When they began, by `time.monotonic`; None: now.
        """
        self._minutes = minutes
        self._until = (time.monotonic() if started is None else started) + 60 * minutes
        self._why: str | None = None  # what asked this process first
        self._told: list[str | None] | None = None  # what asked each, once they have agreed
        self._inside = False  # code that is left at once
        # What other threads of this process say when they interrupt the main one: what asked for
        # the stop, or None where another process has been asked.
        self._said: collections.deque[str | None] = collections.deque()
        self._noticed = False
        self._previous: dict[signal.Signals, object] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            # That service listens to SIGTERM itself, and a handler here would take it away.
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
        """Lets the main thread know, also where it sleeps or waits; called by other threads."""
        self._said.append(why)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT and (self._why is not None or self.agreed):
            raise KeyboardInterrupt
        said = number == signal.SIGUSR1 and bool(self._said)
        why = self._said.popleft() if said else signal.Signals(number).name
        self._noticed = self._noticed or why is None
        if why is not None and not self.agreed:
            self._why = self._why or why
            if distributed.count() > 1:
                signal.raise_signal(signal.SIGTERM)  # the one signal that is passed on
        if self._inside:
            self._inside = False  # once: nothing that is on its way out is interrupted
            raise StopDuringEvaluation

    @property
    def agreed(self) -> bool:
        """Whether all processes know that they are to stop."""
        return self._told is not None

    def reached(self) -> bool:
        """Whether to save and stop now; all processes must ask at the same points of their work.

        Returns:
            The same in all processes; True for good once it has been.
        """
        # A process that is alone asks the service, too: a cloud may give notice without a signal.
        alone = distributed.count() == 1 and self._why is not None
        if not self.agreed and (
            alone or multihost_utils.reached_preemption_sync_point(next(_asked))
        ):
            self._agree()
        return self.agreed

    def check(self) -> None:
        """Leaves an evaluation between two batches; all processes must call it there.

        Raises:
            StopDuringEvaluation: In all processes: one of them has been asked to stop.
        """
        if self.reached():
            raise StopDuringEvaluation

    def interruptible(self, work: Callable[[], T]) -> T:
        """Calls something on the host that a stop may leave at once, whatever it is doing.

        All processes must call it. Where there are several, each leaves as soon as it has heard of
        the stop, and waits for the others to leave or to finish.

        Args:
            work: Uses no device: a process that leaves must not be waited for by another one's
                collective operation.

        Returns:
            What `work` returns.

        Raises:
            StopDuringEvaluation: In all processes, where any of them has left.
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
        """Passes on what the others of several processes have been asked, from a thread.

        jax's service tells a program of a stop only when it asks.
        """
        if distributed.count() == 1:
            yield
            return
        client, over = runtime.global_state.client, threading.Event()

        def listen() -> None:
            while not over.wait(_LOOK_S):
                # It is there or not; a connection that is lost is seen by the main thread.
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
        """What asked for the stop."""
        told = self._told or [self._why]
        if len(told) == 1 and told[0] is not None:
            return told[0]
        signals = signal.Signals.__members__
        named = [f"{w} to process {i}" if w in signals else w for i, w in enumerate(told) if w]
        return ", ".join(named) or "preemption notice"

    @property
    def exit_code(self) -> int:
        """What tells a scheduler that the run is unfinished, and whether to start it again.

        The same in all processes: a person's Ctrl-C counts, whichever of them got it.
        """
        interrupted = signal.SIGINT.name in (self._told or [self._why])
        return distributed.INTERRUPTED if interrupted else distributed.WARNED
