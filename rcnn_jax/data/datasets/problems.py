"""Faults of single files of a user: the first one ends the run, or each is left out and counted."""

import sys

from rcnn_jax.data.records.damage import CHOICES

REMEDY = "damaged=skip at the end of the data set's name, behind a ? or &, goes on without it"
"""The way out that is named with a fault."""

_NAMED = 5  # number of skipped problems that are printed one by one


class Problems:
    """Collects problems with single files: raises the first, or prints them on stderr.

    Example:
        >>> from rcnn_jax.data.datasets.problems import Problems
        >>> problems = Problems("skip", "lines")
        >>> problems.meet("mine/a.txt: the text is empty")
        >>> problems.finish("'train' of mine", left=8)
    """

    def __init__(self, choice: str, noun: str) -> None:
        """Starts without any problem.

        Args:
            choice: `stop` to raise at the first problem, or `skip` to go on.
            noun: What examples are called in messages, in the plural.

        Raises:
            ValueError: If `choice` is another one.
        """
        if choice not in CHOICES:
            raise ValueError(
                f"the option damaged of a data set of {noun} is one of {', '.join(CHOICES)}, got "
                f"{choice!r}"
            )
        self.choice = choice
        self._noun = noun
        self._met: list[str] = []

    def meet(self, problem: str) -> None:
        """Counts a problem, because of which an example is left out.

        Args:
            problem: Sentence without a full stop that names the file.

        Raises:
            ValueError: If problems end the run.
        """
        if self.choice == "stop":
            raise ValueError(f"{problem}; {REMEDY}")
        self._met.append(problem)

    def finish(self, what: str, left: int) -> None:
        """Prints the first problems, and how many there were, as warnings.

        Args:
            what: The split and the file or folder that it was read from, for messages.
            left: Number of examples that are left.

        Raises:
            ValueError: If no example is left; the message names the first problem.
        """
        if not left:
            first = f": {self._met[0]}" if self._met else ""
            raise ValueError(f"no {self._noun[:-1]} is left of the split {what}{first}")
        lines = [f"{problem}; it is left out" for problem in self._met[:_NAMED]]
        if self._met:
            lines.append(
                f"{len(self._met):,} problems were met in the split {what}, {left:,} {self._noun} "
                "are left"
            )
        for line in lines:
            print(f"warning: {line}", file=sys.stderr, flush=True)
