"""Errors that a user caused and can mend: each message is one sentence that says how."""

import difflib
from collections.abc import Iterable
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
