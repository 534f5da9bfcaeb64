"""Errors that users can cause and repair; each message is one sentence that says how."""

import difflib
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class UserError(ValueError):
    """Reports that a request cannot be fulfilled; the message names the value and what is allowed.

    The commands print the message alone, without a traceback, and exit with `exit_code`.

    Attributes:
        exit_code: Exit code of a command that ends with this error, 1.
    """

    exit_code = 1

    def __init__(self, message: str):
        """Stores the message.

        Args:
            message: One sentence. If it ends with a question mark inside quotes, the full stop
                behind it is removed.
        """
        super().__init__(message.replace("'?.", "'?"))


class UsageError(UserError):
    """Reports a mistake in the command line or in a config, before anything is started or written.

    Attributes:
        exit_code: Exit code of a command that ends with this error, 2.
    """

    exit_code = 2


def about_file(file: Path, error: Exception) -> str:
    """Describes what is wrong with a file in one line that names the file, without a full stop.

    Args:
        file: Path of the file.
        error: Error that reading the file raised.

    Returns:
        The description; line breaks in the error's text become spaces.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{file}: {error.strerror}"
    text = " ".join(str(error).split()).rstrip(".")
    # A name such as `a` or `16` may be a word of the sentence.
    plain = re.fullmatch(r"\w+", str(file)) and not text.startswith(f"{file}:")
    return text if mentions(text, str(file)) and not plain else f"{file}: {text}"


def mentions(text: str, name: str) -> bool:
    """Returns whether a text contains a name as a whole and not only as a part of other words.

    Args:
        text: Text of a message.
        name: Name of a file or of a setting.

    Example:
        >>> from rcnn_jax.errors import mentions
        >>> mentions("i is empty", "i"), mentions("Is a directory", "i")
        (True, False)
        >>> mentions("pages/a.png.txt is empty", "a.png")
        False
    """
    return re.search(rf"(?<![\w./\\-]){re.escape(name)}(?![\w/\\-]|\.\w)", text) is not None


def shortened(names: Iterable[str], most: int = 6, *, spare: int = 1) -> str:
    """Returns the first of several names, and how many there are besides.

    Args:
        names: The names.
        most: Largest number of names that are listed, if there are more than `spare` besides.
        spare: So many names besides are listed, too, as counting them is no shorter.

    Example:
        >>> from rcnn_jax.errors import shortened
        >>> shortened("abcdefghi"), shortened("abc")
        ('a, b, c, d, e, f and 3 more', 'a, b, c')
    """
    names = list(names)
    if len(names) <= most + spare:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most:,} more"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the end of an error sentence that suggests a similar word.

    Args:
        word: Word that was given.
        known: Words that are allowed.

    Returns:
        `; did you mean 'x'?`, or an empty string if no allowed word is similar.
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def nearest(name: str, allowed: Iterable[str], limit: int = 12) -> str:
    """Says which name was probably meant, as the end of an error message.

    Args:
        name: Name that was given.
        allowed: Names that are allowed.
        limit: Largest number of allowed names that are listed in full beside a suggestion.

    Returns:
        A clause such as `did you mean 'steps'? allowed: 'epochs', 'steps'`.
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
    """Returns whether an error was raised by this package itself and not by what it called.

    Args:
        error: The error as it was caught, with its traceback.

    Returns:
        True if the innermost frame of the traceback belongs to this package; false if it belongs to
        a library or to a fork.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).resolve().is_relative_to(_PACKAGE)


_STANDARD_LIBRARY = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
_INSTALLED = {"site-packages", "dist-packages"}


def describe(error: BaseException, path: str = "") -> str:
    """Describes an error inside a fork's code and where it was raised.

    Args:
        error: The error as it was caught.
        path: Import path that was being executed; see `fork_location`.

    Returns:
        A text such as `ZeroDivisionError: division by zero (my_fork/parts.py:12)`, in one line and
        without a full stop. The location is left out if no code of a fork took part.
    """
    # The text of a syntax error already holds its location, without the folder.
    text = (error.msg if isinstance(error, SyntaxError) else str(error)).strip()
    text = " ".join(text.split()).rstrip(".")
    name, place = type(error).__name__, fork_location(error, path)
    return (f"{name}: {text}" if text else name) + (f" ({place})" if place else "")


def fork_location(error: BaseException, path: str = "") -> str:
    """Returns the line of a fork's code at which an error was raised.

    It is the innermost frame of the traceback that belongs neither to this package nor to the
    standard library nor to an installed package. Without such a frame, the errors that this one was
    raised from are searched in the same way.

    Args:
        error: The error as it was caught; its traceback holds only the frames below the `except`.
        path: Import path such as `my_fork.parts:Mine`. Its package counts as a fork's code even if
            it is installed.

    Returns:
        `file:line`, or an empty string if no code of a fork took part. The file is relative to the
        working directory if it lies below it.
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
    """Yields the files and lines of a fork's code that an error passed, the innermost last."""
    trace = error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
        named = bool(package) and module.partition(".")[0] == package
        if not code.co_filename.startswith("<"):  # generated code and the import system
            file = Path(code.co_filename).resolve()
            if _is_of_a_fork(file, named):
                yield file, trace.tb_lineno
        trace = trace.tb_next
    # A file that cannot be parsed has no frame.
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
