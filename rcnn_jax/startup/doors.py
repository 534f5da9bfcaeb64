"""Start and end of every command `python -m rcnn_jax.COMMAND`: flags, messages, exit codes."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from absl import app, flags, logging

from rcnn_jax.configuration.schema import DEFAULTS
from rcnn_jax.errors import UserError, raised_here
from rcnn_jax.startup import huge_pages

# Pairs (KEY, VALUE) of --config.KEY=VALUE on the command line, in order.
overrides: list[tuple[str, str]] = []


class Runtime(Protocol):
    """Connection of this process to the others of its job, once a command has established it."""

    def explain(self, error: BaseException) -> tuple[int, str] | None:
        """Interprets an error that another process caused.

        Args:
            error: Any exception.

        Returns:
            The exit code and the message, or None for an error of this process.
        """
        ...

    def leave(self, code: int, *, failed: bool) -> None:
        """Ends the connection; if the other processes do not, ends this process with `code`.

        Args:
            code: Exit code of this process.
            failed: Whether this process ends before its work is done.
        """
        ...


runtime: Runtime | None = None

flags.DEFINE_bool("traceback", False, "Show where an error was raised, not only its message.")


class EvaluationFlags(NamedTuple):
    """Flags of a command that evaluates a trained run.

    Attributes:
        workdir: Folder of the run.
        step: Checkpoint to restore: "best", "latest" or a number of training steps.
        split: Split that is evaluated.
        data_dir: Folder of original data sets. None selects the default; see `rcnn_jax.data.roots`.
        output: File for the result. None means a file in the workdir.
    """

    workdir: flags.FlagHolder[str]
    step: flags.FlagHolder[str]
    split: flags.FlagHolder[str]
    data_dir: flags.FlagHolder[str | None]
    output: flags.FlagHolder[str | None]


def define_evaluation_flags(own: flags.FlagValues, *, split: str, output: str) -> EvaluationFlags:
    """Defines the flags of a command that evaluates a trained run.

    Args:
        own: Flags of the command, which are extended in place.
        split: Default of the flag `split`.
        output: Name of the result's default file in the workdir, for the help.

    Returns:
        The flags, whose values can be read once the command runs.
    """

    def text(name: str, default: str | None, about: str) -> Any:
        return flags.DEFINE_string(name, default, about, flag_values=own)

    return EvaluationFlags(
        workdir=text("workdir", "runs/rcnn_digits", "Folder of the run."),
        step=text(
            "step", "best", "Which checkpoint: best on validation, latest or a number of steps."
        ),
        split=text(
            "split",
            split,
            "train, validation or test as the config defines them, or any split's name.",
        ),
        data_dir=define_data_dir(own),
        output=text("output", None, f"File for the result; WORKDIR/{output}."),
    )


def define_data_dir(own: flags.FlagValues) -> flags.FlagHolder[str | None]:
    """Defines the flag for the folder of original data sets.

    Args:
        own: Flags of the command, which are extended in place.

    Returns:
        The flag, whose value can be read once the command runs.
    """
    return flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of original data sets; unless given, RCNN_JAX_DATA or a cache folder.",
        flag_values=own,
    )


def split_overrides(argv: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Extracts `--config.key=value` (or `--config.key value`) from a command line.

    absl accepts only flags that were defined before, but the keys of a config are known only after
    the config is loaded.

    Args:
        argv: The whole command line.

    Returns:
        The other words, and the pairs (dotted key, text).

    Raises:
        app.UsageError: A key has no value.
    """
    rest, pairs, position = [], [], 0
    while position < len(argv):
        word = argv[position]
        name, equals, text = word.lstrip("-").partition("=")
        if word.startswith("-") and name.startswith("config."):
            if not equals:
                position += 1
                if position == len(argv) or argv[position].startswith("--"):
                    raise app.UsageError(f"{word}: a value is missing, as in {word}=VALUE.")
                text = argv[position]
            pairs.append((name.removeprefix("config."), text))
        else:
            rest.append(word)
        position += 1
    return rest, pairs


def run(
    main: Callable[[list[str]], int | None],
    own: flags.FlagValues,
    interrupted: str = "interrupted",
    *,
    words: bool = False,
) -> None:
    """Runs a command and reports a mistake of its user as one sentence on standard error.

    Args:
        main: Function that takes the name of the program and the arguments that are not flags, and
            returns the exit code. None means 0.
        own: Flags of the command. They are added to absl's flags only here, so that a program may
            import several commands, which have flags of the same names.
        interrupted: Message that is printed after Ctrl-C.
        words: Whether the command takes arguments that are not flags, among the flags or after
            them.
    """
    huge_pages.start_with_them()
    flags.FLAGS.append_flag_values(own)
    flags.FLAGS.set_gnu_getopt(words)
    for name in own:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])

    def attempt(argv: list[str]) -> tuple[int, bool]:
        try:
            if len(argv) > 1 and not words:
                raise app.UsageError(
                    f"{argv[1]!r} is no flag; flags are written --name=value, see --help."
                )
            return main(argv) or 0, False
        except KeyboardInterrupt:
            print(interrupted, file=sys.stderr)
            return 128 + signal.SIGINT, True
        except BrokenPipeError:
            # The reader, such as `| head`, has closed the pipe; flushing at exit must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE, True
        except Exception as error:
            caused = None if runtime is None else runtime.explain(error)
            code, message = caused or _out_of_memory(error) or (_user_error(error), str(error))
            if code is None or flags.FLAGS.traceback:
                if runtime is None:
                    raise
                traceback.print_exc()
                return code or 1, True
            message = " ".join(message.split("\n")) if code == 2 else message
            print(f"error: {message}", file=sys.stderr)
            return code, True

    def guarded(argv: list[str]) -> int:
        code, failed = attempt(argv)
        if runtime is not None:
            runtime.leave(code, failed=failed)
        return code

    def parse(argv: list[str]) -> list[str]:
        rest, pairs = split_overrides(argv)
        overrides[:] = pairs
        arguments = _parse(rest)
        own.mark_as_parsed()
        return arguments

    app.run(guarded, flags_parser=parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        known = error.flagname.partition(".")[0] in DEFAULTS
        hint = f"; a key of the config is set by --config.{error.flagname}" if known else ""
        print(f"error: {error}{hint} (see --help)", file=sys.stderr)
        sys.exit(2)
    except flags.Error as error:
        print(f"error: {error} (see --help)", file=sys.stderr)
        sys.exit(2)
    except SystemExit:
        # absl exits with 1 after --help, which scripts interpret as a failure.
        sys.exit(0)


def _user_error(error: Exception) -> int | None:
    """Returns the exit code for a mistake of the user, or None for an error of the program."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, app.UsageError):
        return 2
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EDQUOT,
        errno.ENOTDIR, errno.EISDIR,
    ):  # fmt: skip
        return 1
    # A ValueError raised by this package concerns a value that the user gave. One raised inside a
    # library is a fault of this package and keeps its traceback.
    by_user = isinstance(error, ValueError | FileNotFoundError | ImportError) and raised_here(error)
    return 1 if by_user else None


def _out_of_memory(error: Exception) -> tuple[int, str] | None:
    """Returns the exit code and the message for an error of insufficient memory, or None."""
    reason = str(error)
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in reason[:200]:
        return None
    reason = (reason.splitlines() or [""])[0][:200].rstrip(".")
    return 1, (
        f"there is not enough memory ({reason}): make config.batch_size, "
        "config.evaluation_batch_size or config.decoding.beam_width smaller, set "
        "config.accumulate, or name a smaller model; --traceback says where."
    )


def quiet_libraries() -> None:
    """Suppresses log messages of libraries on the terminal; --verbosity=0 shows them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if not flags.FLAGS["verbosity"].present:
        # An error that libraries log is also raised, and then reported in one sentence.
        logging.set_verbosity(logging.FATAL)
