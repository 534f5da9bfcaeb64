"""A trace of some training steps, for the viewers of XProf, TensorBoard and Perfetto."""

import pathlib
from typing import NamedTuple

import jax

from rcnn_jax.errors import UsageError


class Span(NamedTuple):
    """Training steps that are traced.

    Attributes:
        first: First step, at least 1.
        last: Last step, at least `first`.
    """

    first: int
    last: int


def parse(text: str) -> Span:
    """Reads a span of steps from the command line.

    Args:
        text: `FROM:TO`, two whole numbers of training steps.

    Raises:
        UsageError: The text is no such span.

    Example:
        >>> from rcnn_jax.training.profiling import parse
        >>> parse("10:12")
        Span(first=10, last=12)
    """
    words = text.split(":")
    if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(
            f"--profile={text}: FROM:TO are two whole numbers of training steps, such as 10:12."
        )
    span = Span(*map(int, words))
    if not 1 <= span.first <= span.last:
        raise UsageError(
            f"--profile={text}: steps are counted from 1, and the last is not before the first."
        )
    return span


class Profile:
    """Traces a span of steps into a folder; each process writes files of its own."""

    def __init__(self, span: Span | None, folder: pathlib.Path):
        """Begins nothing yet.

        Args:
            span: Steps that are traced. None traces nothing.
            folder: Folder that the trace is written to.
        """
        self._span, self._folder, self._under_way = span, folder, False

    def starts(self, step: int) -> bool:
        """Returns whether the trace begins before this step."""
        return self._span is not None and step == self._span.first

    def ends(self, step: int) -> bool:
        """Returns whether a trace that is under way ends after this step."""
        return self._under_way and self._span is not None and step == self._span.last

    def start(self) -> None:
        """Starts the trace, when everything before has been computed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
        self._under_way = True

    def stop(self) -> str:
        """Ends the trace, when its last step has been computed; returns a line that names it."""
        self.close()
        return f"trace of steps {' to '.join(map(str, self._span or ()))}: {self._folder}"

    def close(self) -> None:
        """Ends a trace that is under way."""
        if self._under_way:
            self._under_way = False
            jax.profiler.stop_trace()
