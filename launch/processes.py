"""Starts the processes of a job on this machine, copies their output, and ends them together."""

import contextlib
import ctypes
import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

STOPPED = (130, 143)  # Exit codes of a process that was asked to stop, saved, and ended normally.
AFTER_TERM = 10.0  # Seconds between SIGTERM and SIGKILL, and of the last wait after SIGKILL.
PATIENCE = 2.0  # Seconds after a failure before a message says that the others are waited for.
CHUNK = 1 << 16
LONGEST_LINE = LARGEST_PIPE = 1 << 20
# Signal received -> signal passed on: a closed terminal (SIGHUP) is a request to stop, too.
PASSED_ON: dict[int, int] = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGUSR1: signal.SIGUSR1,
    signal.SIGHUP: signal.SIGTERM,
}
GLOO_CHATTER = re.compile(rb"\[Gloo\] Rank \d+ is connected to \d+ peer ranks\..*\s*")
PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """Reports in one sentence that the command cannot be started."""


class Stream:
    """One output of one process, copied in whole lines.

    Attributes:
        source: File descriptor to read from.
        target: File descriptor to write to.
        prefix: Prefix of each line.
        pending: Bytes of a line that has no end yet.
    """

    def __init__(self, source: int, target: int, prefix: bytes):
        self.source, self.target, self.prefix = source, target, prefix
        self.pending = b""
        os.set_blocking(source, False)

    def copy(self) -> bool:
        """Copies the output that is available.

        Returns:
            False at the end of the stream, otherwise true.

        Raises:
            BlockingIOError: No output is available.
        """
        chunk = os.read(self.source, CHUNK)
        *lines, self.pending = (self.pending + chunk).split(b"\n")
        self._write(lines)
        if not chunk or len(self.pending) > LONGEST_LINE:
            self.finish()
        return bool(chunk)

    def finish(self) -> None:
        """Writes an unfinished line."""
        if self.pending:
            self._write([self.pending])
            self.pending = b""

    def _write(self, lines: list[bytes]) -> None:
        kept = [self.prefix + line for line in lines if not GLOO_CHATTER.fullmatch(line)]
        write_all(self.target, b"".join(line + b"\n" for line in kept))


def write_all(target: int, data: bytes) -> None:
    """Writes all data; a closed reader or a full disk does not end the job.

    Args:
        target: File descriptor to write to.
        data: Bytes to write.
    """
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:  # somebody else made this terminal or pipe non-blocking
            select.select([], [target], [])
        except OSError:
            return


def say(sentence: str) -> None:
    """Prints a message of the launcher on stderr.

    Args:
        sentence: Text of the message.
    """
    write_all(2, f"local.py: {sentence}\n".encode())


class Job:
    """The processes of a job, from their start until all have ended.

    Entering the context starts all processes and handles the signals; after leaving it none of them
    is alive.

    Attributes:
        command: Words of the command.
        environments: Environment of each process.
        grace: Seconds that the other processes get to end after one has failed.
    """

    def __init__(self, command: list[str], environments: list[dict[str, str]], grace: float):
        self.command, self.environments, self.grace = command, environments, grace
        self.children: list[subprocess.Popen[bytes]] = []
        self.streams: list[list[Stream]] = []  # of each process, the two that it prints to
        self.ended: dict[int, int] = {}  # process -> return code, in the order of their ends
        self.watched: set[int] = set()  # processes whose end Linux reports
        self.reported: list[int] = []  # those of them that it has reported, in that order
        self.signals: list[int] = []
        self.complete = False  # all processes have been started
        self.selector = selectors.DefaultSelector()
        self.wake, self.waker = socket.socketpair()

    def __enter__(self) -> "Job":
        self._handle_signals()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        until = time.monotonic() + AFTER_TERM
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, until - time.monotonic()))

    def run(self) -> int:
        """Waits for the processes.

        Returns:
            The exit code of the job.
        """
        failed: int | None = None  # the first process that failed
        when = 0.0
        measures: list[tuple[float, Callable[[], None]]] = []  # times and actions on the others
        announced = False
        while len(self.ended) < len(self.children):
            self._copy_until(measures[0][0] if measures else None)
            for i in self._newly_ended():
                if failed is None and self.ended[i] not in (0, *STOPPED):
                    failed, when = i, time.monotonic()
                    measures = self._measures(i, when)
            if signal.SIGINT in self.signals and not announced:
                announced = True
                say("asked every process to stop; a second Ctrl-C kills them")
            if measures and time.monotonic() >= measures[0][0]:
                measures.pop(0)[1]()
                if not measures:
                    break
        if self.signals.count(signal.SIGINT) > 1:
            return 128 + signal.SIGINT
        if failed is None:
            return next((code for code in self.ended.values() if code), 0)
        sentence = self._end_of(failed)
        if len(self.children) > 1:
            others = f"the other {len(self.children) - 1}"
            sentence += f"; {others} ended within {time.monotonic() - when:.1f} s"
        say(sentence)
        code = self.ended[failed]
        return code if code > 0 else 128 - code

    def _handle_signals(self) -> None:
        # A byte for each signal wakes the loop, also for SIGCHLD at the end of a process.
        for end in (self.wake, self.waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        self.selector.register(self.wake, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in PASSED_ON:
            # Under nohup a closed terminal is ignored.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: self._receive(number))

    def _receive(self, number: int) -> None:
        """Passes a signal on immediately, since the loop may be blocked by a suspended terminal."""
        self.signals.append(number)
        if self.complete:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        if self.signals.count(signal.SIGINT) > 1:
            self._kill()
            return
        for child in self.children:
            child.send_signal(PASSED_ON[number])

    def _start(self) -> None:
        width = len(self.environments)
        die_with_parent = parent_death_signal()
        for i, environment in enumerate(self.environments):
            try:
                child = subprocess.Popen(
                    self.command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,  # a Ctrl-C in the terminal is passed on only from here
                    preexec_fn=die_with_parent,
                )
            except OSError as error:
                raise StartError(f"cannot start {self.command[0]!r}: {error.strerror}") from error
            self.children.append(child)
            # epoll reports in the order of the events: the first process that ended is known even
            # if the loop is late. Elsewhere, and on old kernels, all processes are polled in turn.
            with contextlib.suppress(AttributeError, OSError):
                self.selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, i)
                self.watched.add(i)
            prefix = f"[{i}] ".encode() if width > 1 else b""
            assert child.stdout is not None
            assert child.stderr is not None
            self.streams.append(
                [Stream(child.stdout.fileno(), 1, prefix), Stream(child.stderr.fileno(), 2, prefix)]
            )
            for stream in self.streams[i]:
                self.selector.register(stream.source, selectors.EVENT_READ, stream)
        self.complete = True
        for number in self.signals.copy():  # received while the processes were started
            self._pass_on(number)

    def _copy_until(self, deadline: float | None) -> None:
        """Copies the output of the processes until something happens or the deadline has passed."""
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        for key, _ in self.selector.select(wait):
            if isinstance(key.data, int):
                self.reported.append(key.data)
                self.selector.unregister(key.fileobj)
                os.close(key.fd)
                continue
            with contextlib.suppress(BlockingIOError):
                if key.data is None:
                    os.read(key.fd, CHUNK)
                elif not key.data.copy():
                    self.selector.unregister(key.fileobj)

    def _newly_ended(self) -> list[int]:
        """Returns the processes that ended since the last call; all of their output is copied."""
        newly = []
        others = [i for i in range(len(self.children)) if i not in self.watched]
        for i in [*self.reported, *others]:
            child = self.children[i]
            if i in self.ended or child.poll() is None:
                continue
            self.ended[i] = child.returncode
            newly.append(i)
            kill_group(child.pid)  # its child processes that are still alive
            for key in [k for k in self.selector.get_map().values() if k.data in self.streams[i]]:
                with contextlib.suppress(BlockingIOError):
                    for _ in range(LARGEST_PIPE // CHUNK):  # a detached child may write forever
                        if not key.data.copy():
                            break
                key.data.finish()
                self.selector.unregister(key.fileobj)
        return newly

    def _measures(self, failed: int, now: float) -> list[tuple[float, Callable[[], None]]]:
        """Returns the actions on processes that outlive the first failed one, with their times."""
        waiting = f"{self._end_of(failed)}; waiting at most {self.grace:g} s for the others"
        term = now + self.grace
        return [
            (now + min(PATIENCE, self.grace), lambda: say(waiting)),
            (term, lambda: self._pass_on(signal.SIGTERM)),
            (term + AFTER_TERM, self._kill),
            (term + 2 * AFTER_TERM, lambda: say("gave up waiting for a process to die")),
        ]

    def _kill(self) -> None:
        for i, child in enumerate(self.children):
            if i not in self.ended:
                kill_group(child.pid)

    def _end_of(self, index: int) -> str:
        code = self.ended[index]
        if code >= 0:
            return f"process {index} exited with code {code}"
        names = {int(number): number.name for number in signal.Signals}
        return f"process {index} was killed by {names.get(-code, f'signal {-code}')}"


def kill_group(group: int) -> None:
    """Kills a process and its process group.

    Args:
        group: Id of the process, which leads the group.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def parent_death_signal() -> Callable[[], None] | None:
    """Returns a function by which a new process is killed when the launcher dies.

    Returns:
        The function, to be called in the new process; None if the system is not Linux.
    """
    if sys.platform != "linux":
        return None
    libc, launcher = ctypes.CDLL(None), os.getpid()

    def call() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # the launcher died before the call
            os.kill(os.getpid(), signal.SIGKILL)

    return call
