"""What every command `python -m rcnn_jax.DOOR` does before and around its own work."""

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

# What the user typed as --config.KEY=VALUE, in order.
overrides: list[tuple[str, str]] = []


class Runtime(Protocol):
    """What connects this process to the others of its job, once a door has started it."""

    def explain(self, error: BaseException) -> tuple[int, str] | None:
        """The exit code and the message for an error that another process caused."""
        ...

    def leave(self, code: int, *, failed: bool) -> None:
        """Ends the connection, and where the others do not, this process with `code`."""
        ...


runtime: Runtime | None = None

flags.DEFINE_bool("traceback", False, "Show where an error was raised, not only its message.")


class EvaluationFlags(NamedTuple):
    """The flags of a door that looks at a trained run.

    Attributes:
        workdir: The folder of the run.
        step: Which checkpoint.
        split: Which split is evaluated.
        data_dir: Where original data sets lie, or None.
        output: The file for the result, or None.
    """

    workdir: flags.FlagHolder[str]
    step: flags.FlagHolder[str]
    split: flags.FlagHolder[str]
    data_dir: flags.FlagHolder[str | None]
    output: flags.FlagHolder[str | None]


def define_evaluation_flags(own: flags.FlagValues, *, split: str, output: str) -> EvaluationFlags:
    """Defines the flags of a door that looks at a trained run.

    Args:
        own: The flags of the door.
        split: The split unless another is given.
        output: Name of the result's file in the workdir, for the help.

    Returns:
        The flags; their values can be read once the door runs.
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
    """Defines the flag that says where original data sets lie."""
    return flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of original data sets; unless given, RCNN_JAX_DATA or a cache folder.",
        flag_values=own,
    )


def split_overrides(argv: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Takes `--config.key=value` (or `--config.key value`) out of a command line.

    absl knows only flags that were defined before; the keys of a config are known only after
    the config is loaded.

    Args:
        argv: The whole command line.

    Returns:
        The rest, and the pairs (dotted key, text).

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
    """Runs a door and turns a user's mistake into one sentence on standard error.

    Args:
        main: Takes the program's name and the arguments that are no flags; returns the exit code
            (None: 0).
        own: The flags of the door. They join absl's only here, so that a program may import
            several doors, which have flags of the same names.
        interrupted: What is said after Ctrl-C.
        words: Whether the door takes arguments that are no flags, between flags or behind them.
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
            # Whoever read, as `| head` does, has seen enough; what is left must not fail at exit.
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
        # absl leaves with 1 after --help, which scripts take for a failure.
        sys.exit(0)


def _user_error(error: Exception) -> int | None:
    """The exit code for a mistake of the user; None for an error of the program."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, app.UsageError):
        return 2
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EDQUOT,
        errno.ENOTDIR, errno.EISDIR,
    ):  # fmt: skip
        return 1
    # A ValueError that this package itself raised is about a value somebody gave; one from
    # inside a library is a fault of ours and keeps its traceback.
    told = isinstance(error, ValueError | FileNotFoundError | ImportError) and raised_here(error)
    return 1 if told else None


def _out_of_memory(error: Exception) -> tuple[int, str] | None:
    """The exit code and the message where memory did not suffice, of the host or of a device."""
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
    """Keeps what libraries say of their inner workings off the terminal; --verbosity=0 shows it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if not flags.FLAGS["verbosity"].present:
        # Whatever they log as an error they also raise, and it is said in one sentence then.
        logging.set_verbosity(logging.FATAL)
