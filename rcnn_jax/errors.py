"""Errors that a user caused and can mend: each message is one sentence that says how."""

import difflib
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class UserError(ValueError):
    """Something asked for cannot be done; the message names the value and what is allowed.

    The doors print the message alone, without a traceback, and exit with `exit_code`.
    """

    exit_code = 1

    def __init__(self, message: str):
        """Ends a sentence with one mark, also where it ends with a question."""
        super().__init__(message.replace("'?.", "'?"))


class UsageError(UserError):
    """The command line or a config is wrong: nothing has been started or written."""

    exit_code = 2


def about_file(file: Path, error: Exception) -> str:
    """What is wrong with a file as one line that names it, without a full stop."""
    text = f"{error.strerror or error}" if isinstance(error, OSError) else str(error)
    text = " ".join(text.split()).rstrip(".")
    return text if str(file) in text else f"{file}: {text}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error sentence: `; did you mean 'x'?`, or nothing where none is near."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def nearest(name: str, allowed: Iterable[str], limit: int = 12) -> str:
    """Says what was probably meant, to be appended to an error message.

    Args:
        name: What was given.
        allowed: What could have been given.
        limit: All allowed names are listed when they are no more than this.

    Returns:
        A clause such as `did you mean 'steps'? Allowed: 'epochs', 'steps'`.
    """
    allowed = sorted(set(allowed))
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    parts = [f"did you mean {close[0]!r}?"] if close else []
    if not allowed:
        parts.append("there are none")
    elif len(allowed) <= limit or not close:
        parts.append("allowed: " + ", ".join(repr(a) for a in allowed))
    return " ".join(parts)


_PACKAGE = Path(__file__).resolve().parent


def raised_here(error: BaseException) -> bool:
    """Whether this package itself raised an error, and not a library or a fork that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(_PACKAGE)


_STANDARD_LIBRARY = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
_INSTALLED = {"site-packages", "dist-packages"}


def describe(error: BaseException, path: str = "") -> str:
    """Says what an error inside a fork's code is, and where.

    Args:
        error: As it was caught.
        path: The import path that was at work, see `fork_location`.

    Returns:
        Such as `ZeroDivisionError: division by zero (my_fork/parts.py:12)`, in one line and without
        a full stop. The place is left out where no code of a fork took part.
    """
    # The text of a syntax error holds its place already, without the folder.
    text = (error.msg if isinstance(error, SyntaxError) else str(error)).strip()
    text = " ".join(text.split()).rstrip(".")
    name, place = type(error).__name__, fork_location(error, path)
    return (f"{name}: {text}" if text else name) + (f" ({place})" if place else "")


def fork_location(error: BaseException, path: str = "") -> str:
    """Finds the line of a fork's code at which an error was raised.

    It is the innermost frame of the traceback that belongs neither to this package nor to the
    standard library nor to an installed one; where there is none, the errors that it was raised
    from are looked at likewise.

    Args:
        error: As it was caught: only the frames below the `except` are in its traceback.
        path: An import path such as `my_fork.parts:Mine`. Its package counts as a fork's code also
            where it is installed.

    Returns:
        `file:line`, the file as seen from the working directory where it lies below it, or "" where
        no code of a fork took part.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        places = list(_frames(current, path.partition(":")[0].partition(".")[0]))
        if places:
            file, line = places[-1]
            here = Path.cwd()
            return f"{file.relative_to(here) if file.is_relative_to(here) else file}:{line}"
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return ""


def _frames(error: BaseException, package: str) -> Iterator[tuple[Path, int]]:
    """Files and lines of a fork's code that an error came through, the innermost last."""
    trace = error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
        named = bool(package) and module.partition(".")[0] == package
        if not code.co_filename.startswith("<"):  # as generated code and the importing machinery
            file = Path(code.co_filename).resolve()
            if _is_of_a_fork(file, named):
                yield file, trace.tb_lineno
        trace = trace.tb_next
    # The file that does not parse has no frame.
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        file = Path(error.filename).resolve()
        if _is_of_a_fork(file, bool(package)):
            yield file, error.lineno


def _is_of_a_fork(file: Path, named: bool) -> bool:
    if file.is_relative_to(_PACKAGE):
        return False
    if named:
        return True
    standard = any(file.is_relative_to(folder) for folder in _STANDARD_LIBRARY)
    return not standard and not _INSTALLED.intersection(file.parts)
