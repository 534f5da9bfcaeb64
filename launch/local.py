#!/usr/bin/env python3
"""Starts one job as several processes on this machine and ends them together.

    python launch/local.py --processes=2 -- python -m rcnn_jax.train --config=... --workdir=...

The command behind `--` is started once for each process with JAX_COORDINATOR_ADDRESS (a free port
of 127.0.0.1), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Each line of output is prefixed with `[process]
`. SIGINT, SIGTERM and SIGUSR1 are passed to every process, once; a second SIGINT kills them. When a
process fails, the others get --grace seconds to end by themselves, then SIGTERM, then SIGKILL.

Exit code: that of the first process that failed (128 + signal if it was ended by a signal); else
143 or 130 if the job was stopped; else 0. It is 2 for a mistake in this command.

Signals go to the command itself, not to its child processes: a wrapper script should `exec` its
last command. On Linux the processes are killed when the launcher dies; elsewhere they would survive
a launcher that is killed by SIGKILL.
"""

import argparse
import math
import os
import socket
import subprocess
import sys
from typing import NoReturn

from processes import Job, StartError, say

COUNT_FLAG = "--xla_force_host_platform_device_count"


class UsageError(Exception):
    """Reports a mistake in the command as one sentence."""


def main(argv: list[str]) -> int:
    """Runs the job.

    Args:
        argv: The command line without the program's name.

    Returns:
        The exit code.
    """
    try:
        arguments, command = parse(argv)
        environments = process_environments(arguments, dict(os.environ))
        with Job(command, environments, arguments.grace) as job:
            return job.run()
    except (UsageError, StartError) as error:
        say(str(error))
        return 2


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits the command line into the launcher's arguments and the command behind `--`.

    Args:
        argv: The command line without the program's name.

    Returns:
        The launcher's arguments and the words of the command.

    Raises:
        UsageError: An argument is unknown or out of range, or there is no command.
    """
    launcher_words, command = argv, []
    if "--" in argv:
        launcher_words, command = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    parser = Parser(
        description=__doc__,
        usage="%(prog)s --processes=N [flags] -- command...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=positive, required=True, help="how many processes")
    parser.add_argument(
        "--devices_per_process",
        type=positive,
        help="devices of each process; on a CPU left to XLA_FLAGS unless given, else 1",
    )
    parser.add_argument(
        "--platform",
        choices=["auto", "cpu", "gpu"],
        default="auto",
        help="auto takes GPUs where `nvidia-smi -L` lists any",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=30.0,
        help="seconds that the others get to end by themselves once one has failed (30)",
    )
    arguments = parser.parse_args(launcher_words)
    if not command:
        raise UsageError("there is no command: put it behind `--`, as in -- python -m ...")
    return arguments, command


class Parser(argparse.ArgumentParser):
    """Argument parser that reports a mistake as one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raises an error instead of printing the usage.

        Args:
            message: Message of `argparse`.

        Raises:
            UsageError: In every case.
        """
        hint = "; the command stands behind --" if message.startswith("unrecognized") else ""
        raise UsageError(message + hint)


def positive(text: str) -> int:
    """Parses a positive integer.

    Args:
        text: Text of the argument.

    Returns:
        The number, at least 1.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, is {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Parses a finite number of seconds.

    Args:
        text: Text of the argument.

    Returns:
        The number, at least 0.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, is {text!r}")
    return value


def process_environments(
    arguments: argparse.Namespace, outer: dict[str, str]
) -> list[dict[str, str]]:
    """Makes the environment of each process.

    Args:
        arguments: The launcher's arguments from `parse`.
        outer: Environment of the launcher.

    Returns:
        The environments in the order of the processes.

    Raises:
        UsageError: There are fewer GPUs than the processes need.
    """
    processes, each = arguments.processes, arguments.devices_per_process
    job = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": str(processes),
        # Otherwise Python buffers what it writes into a pipe until there are some kilobytes.
        "PYTHONUNBUFFERED": outer.get("PYTHONUNBUFFERED") or "1",
    }
    environments: list[dict[str, str]] = [{"JAX_PROCESS_ID": str(i)} for i in range(processes)]
    gpus = [] if arguments.platform == "cpu" else visible_gpus(outer)
    if arguments.platform == "auto" and not allows_gpus(outer.get("JAX_PLATFORMS", "")):
        gpus = []
    if gpus or arguments.platform == "gpu":
        each = each or 1
        if processes * each > len(gpus):
            raise UsageError(
                f"{processes} processes with {each} GPUs each need {processes * each} GPUs, "
                f"and {len(gpus)} are visible"
            )
        for i, environment in enumerate(environments):
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[i * each : (i + 1) * each])
            # Otherwise jax uses a single GPU if it finds the variables of a SLURM step.
            environment["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(each)))
    elif each:
        job["XLA_FLAGS"] = f"{outer.get('XLA_FLAGS', '')} {COUNT_FLAG}={each}".strip()
    if arguments.platform == "cpu":
        job["JAX_PLATFORMS"] = "cpu"
    return [outer | job | environment for environment in environments]


def free_port() -> int:
    """Returns a TCP port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def visible_gpus(outer: dict[str, str]) -> list[str]:
    """Returns the GPUs that this process may use.

    Args:
        outer: Environment of the launcher.

    Returns:
        The names of the GPUs in the form of CUDA_VISIBLE_DEVICES; empty without GPUs.
    """
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    named = outer.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(i) for i in range(count)]
    # As CUDA reads it: entries after an index that is not a device are ignored.
    gpus: list[str] = []
    for name in (part.strip() for part in named.split(",")):
        if not name or (name.lstrip("-").isdigit() and not 0 <= int(name) < count):
            break
        gpus.append(name)
    return gpus if count else []


def allows_gpus(platforms: str) -> bool:
    """Returns whether JAX_PLATFORMS lets jax use GPUs.

    Args:
        platforms: Value of JAX_PLATFORMS; empty if it is not set.
    """
    return not platforms or not {"cuda", "gpu"}.isdisjoint(platforms.split(","))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
