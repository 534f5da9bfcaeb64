"""Which form of each kernel a program uses, and why: noted while the program is traced."""

import collections
import contextlib
import dataclasses
import sys
from collections.abc import Iterator

from rcnn_jax.kernels import library

COMPILED = "compiled"
"""The form in C++."""

XLA = "XLA"
"""The form that XLA compiles."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """The choice of a form for one operation of a program.

    Attributes:
        kernel: Name of the kernel, such as `convolution 3 x 3`.
        form: `COMPILED` or `XLA`.
        why: The rule that excluded the compiled form, such as `5 x 5 window`; empty for
            `COMPILED`.
    """

    kernel: str
    form: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Collection:
    """The choices that were made while programs were traced.

    Attributes:
        counts: Number of operations for each choice, in the order in which they first occurred. An
            operation that is traced twice, such as the body of a loop and its gradient, counts
            twice; a program that is taken from a cache without tracing does not count.
    """

    counts: collections.Counter[Choice] = dataclasses.field(default_factory=collections.Counter)

    def rows(self) -> list[tuple[str, str]]:
        """Returns a row for each kernel: its name, and the forms with their number and reason."""
        forms: dict[str, list[str]] = {}
        for choice, count in sorted(
            self.counts.items(), key=lambda item: (item[0].kernel, item[0].form != COMPILED)
        ):
            why = choice.why
            if choice.form == COMPILED:
                why = library.instruction_set()
            forms.setdefault(choice.kernel, []).append(
                f"{count} {choice.form}" + (f" ({why})" if why else "")
            )
        return [(kernel, ", ".join(texts)) for kernel, texts in forms.items()]


_collections: list[Collection] = []
_told: set[str] = set()


def note(kernel: str, form: str, why: str = "") -> None:
    """Notes the form that an operation takes, where the choice is made.

    The first operation of a process that would take the compiled form, had the library been built,
    says so in one line on stderr.

    Args:
        kernel: Name of the kernel, such as `convolution 3 x 3`.
        form: `COMPILED` or `XLA`.
        why: The reason for `XLA`, such as what `library.problem` returned.
    """
    if form == XLA and why and why == library.missing() and why not in _told:
        _told.add(why)
        print(f"note: kernels are compiled by XLA, which is slower: {why}", file=sys.stderr)
    for collection in _collections:
        collection.counts[Choice(kernel, form, why)] += 1


def compiled(kernel: str, why_not: str) -> bool:
    """Returns whether an operation takes the compiled form, and notes the form.

    Args:
        kernel: Name of the kernel, such as `convolution 3 x 3`.
        why_not: The reason for XLA's form, empty for none; see `rcnn_jax.kernels.choice`.
    """
    note(kernel, XLA if why_not else COMPILED, why_not)
    return not why_not


@contextlib.contextmanager
def collect() -> Iterator[Collection]:
    """Collects what is noted inside a `with` block.

    Yields:
        The collection, which grows while programs are traced.

    Example:
        >>> from rcnn_jax.kernels import forms
        >>> with forms.collect() as collected:
        ...     forms.note("convolution 3 x 3", forms.XLA, "5 x 5 window")
        >>> collected.rows()
        [('convolution 3 x 3', '1 XLA (5 x 5 window)')]
    """
    collection = Collection()
    _collections.append(collection)
    try:
        yield collection
    finally:
        _collections[:] = [each for each in _collections if each is not collection]


def summary() -> str:
    """Returns whether compiled kernels are in use: `compiled, AVX-512`, or why XLA's forms are.

    Raises:
        UsageError: If an environment variable of the kernels has a value that it may not have.
    """
    problem = library.problem()
    return f"XLA's forms: {problem}" if problem else f"compiled, {library.instruction_set()}"
