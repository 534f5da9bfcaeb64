"""Several processes as one run: how they connect, agree and end.

Every run uses jax's distributed runtime, including a run of one process. Values pass between
processes through the key-value store of the runtime and not through the devices, so that an
agreement compiles nothing and cannot interleave with a training step.
"""

import collections
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax

# The key-value store has no public name; Orbax reaches it in the same way.
from jax._src import clusters
from jax._src import distributed as runtime

from rcnn_jax.errors import UsageError, UserError

T = TypeVar("T")

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Launchers that start several processes and that jax does not recognise (Open MPI since version 5),
# by the variables they set: number of processes, number of this one, its number on the node.
_LAUNCHERS = {
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "MVAPICH": ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    "an MPI launcher": ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
    "torchrun": ("WORLD_SIZE", "RANK", "LOCAL_RANK"),
}
# Exit codes of a run that was asked to stop, has saved a checkpoint and is not finished. A warning
# by the scheduler has one code whatever the signal, so that one rule requeues the run; Ctrl-C,
# which a person presses, has another.
WARNED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT
# Exit code if another process is gone (EX_TEMPFAIL). The same command continues the run.
LOST_PEER = 75

_CONNECT_S = 300  # processes of one job start within this time
_SILENT_S = 30  # a process without a heartbeat for this time is considered gone
# A process that runs alone has no peers. It may be suspended for days and then go on.
_SILENT_ALONE_S = 10_000_000
_AGREE_S = 3600  # bound of work by one process, such as claiming a workdir, while others wait
_END_S = 300  # wait for the others after the last step, while they may still be writing
_FAIL_S = 10  # wait for the others after an error, which they may run into as well
# Message of a collective operation that failed because a peer is gone, as XLA reports it of Gloo,
# NCCL and the coordination service: a status, then the event.
_LOST = re.compile(
    r"(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): .*"
    r"(connection (reset|closed|refused)|socket closed|heartbeat|remote (process|error)"
    r"|gloo .* failed: .*(timed out|read error|write error)|nccl.*(timeout|aborted)"
    r"|task .{0,40}(failed|unhealthy|disconnected)|shutdown barrier)",
    re.IGNORECASE,
)

_numbers = itertools.count()  # numbers of the agreements, the same in all processes
# Messages of the first process that it has not deleted yet, as pairs (number, key). The other
# processes never delete any, so the length is bounded.
_told: collections.deque[tuple[int, str]] = collections.deque(maxlen=10_000)


def initialize(*, preemption: bool) -> None:
    """Connects the processes of this job, or starts alone; must precede any other use of jax.

    The environment decides. A job is described by `JAX_COORDINATOR_ADDRESS` (host:port of process
    0), `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, all three, as `launch/local.py` sets them; by the
    first of them alone under a launcher that numbers its processes (Open MPI 5, MPICH, MVAPICH,
    torchrun); or by what SLURM's srun, Open MPI 4, Kubernetes or a TPU pod provide for jax to
    detect. Without any of these, and with `JAX_NUM_PROCESSES=1`, the process runs alone.

    Args:
        preemption: Whether a SIGTERM is a warning that is passed on to all processes. False means
            that it ends this process.

    Raises:
        UsageError: The environment variables contradict each other, or a launcher has started
            several processes that would each train by themselves.
        UserError: Process 0 cannot be reached. (If another process never connects, jax ends process
            0 after five minutes with exit code 134.)
    """
    if runtime.global_state.client is not None:
        return
    address, processes, process, local = _environment()
    jax.config.update("jax_enable_preemption_service", preemption)
    found_by_jax = address is None and processes != 1 and _detects_cluster()
    if address is None and processes != 1 and not found_by_jax:
        _refuse_twins()
    alone = not found_by_jax and (address is None or processes == 1)
    if found_by_jax:
        arguments: dict[str, Any] = {}
    elif alone:
        # A process that runs alone needs no network between its devices.
        jax.config.update("jax_cpu_collectives_implementation", None)
        address = f"127.0.0.1:{_free_port()}"
        arguments = {
            "coordinator_address": address,
            "num_processes": 1,
            "process_id": 0,
            "coordinator_bind_address": address,
            "cluster_detection_method": "deactivate",
        }
    else:
        arguments = {
            "coordinator_address": address,
            "num_processes": processes,
            "process_id": process,
            "local_device_ids": local,
            "cluster_detection_method": "deactivate",
        }
    if "coordinator_address" in arguments:
        _leave_out_of_proxies(arguments["coordinator_address"].rpartition(":")[0])
    if process:
        _wait_for_coordinator(arguments["coordinator_address"])
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=_CONNECT_S,
            heartbeat_timeout_seconds=_SILENT_ALONE_S if alone else _SILENT_S,
            shutdown_timeout_seconds=_END_S,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            "jax's distributed runtime did not start (coordinator "
            f"{arguments.get('coordinator_address', 'found by jax')}): {reason}"
        ) from error
    if preemption and count() == 1:
        # Until training handles signals, a SIGTERM ends a process that runs alone immediately.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    elif preemption:
        signal.signal(signal.SIGUSR1, lambda number, frame: signal.raise_signal(signal.SIGTERM))


def _leave_out_of_proxies(host: str) -> None:
    """Excludes a host from proxies, because processes of a job connect to each other directly."""
    for name in ("no_proxy", "NO_PROXY"):
        names = [part for part in os.environ.get(name, "").split(",") if part]
        if host not in names:
            os.environ[name] = ",".join([*names, host])


def _wait_for_coordinator(address: str) -> None:
    """Waits until process 0 can be reached.

    Without this wait jax would end this process with a stack trace if process 0 never starts.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + _CONNECT_S
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
                return
        except (OSError, ValueError) as error:
            if time.monotonic() > until:
                raise UserError(
                    f"process 0 cannot be reached at {VARIABLES[0]}={address} after "
                    f"{_CONNECT_S} s ({error}): was it started, and is the port free and open?"
                ) from error
        time.sleep(0.2)


def _launcher() -> tuple[str, int, int, int | None] | None:
    """Returns the launcher that started several processes, and the numbers it gave to this one."""
    for name, variables in _LAUNCHERS.items():
        size, rank, local = (os.environ.get(variable, "") for variable in variables)
        if name == "torchrun" and "TORCHELASTIC_RUN_ID" not in os.environ:
            continue  # left over in a shell, these common names say nothing
        if size.isdecimal() and rank.isdecimal() and int(size) > 1:
            return name, int(size), int(rank), int(local) if local.isdecimal() else None
    return None


def _refuse_twins() -> None:
    """Raises an error where a launcher's processes would each train the same run."""
    started = _launcher()
    if started is not None:
        name, size, rank, _ = started
        raise UsageError(
            f"this is process {rank} of {size} that {name} started, which jax cannot connect by "
            f"itself: give all of them {VARIABLES[0]}=HOST:PORT, a free port of the machine of "
            f"process 0 (launch/README.md), or {VARIABLES[1]}=1 for {size} runs of their own."
        )


def _environment() -> tuple[str | None, int | None, int | None, int | None]:
    """Returns the coordinator, the number of processes, this one's, and that on its node."""
    values, local = {name: os.environ.get(name) for name in VARIABLES}, None
    started = _launcher()
    if started is not None and [v is None for v in values.values()] == [False, True, True]:
        _, size, rank, local = started
        values |= dict(zip(VARIABLES[1:], (str(size), str(rank)), strict=True))
    address, *numbers = values.values()
    try:
        processes, process = (None if text is None else int(text) for text in numbers)
    except ValueError:
        raise UsageError(
            f"{VARIABLES[1]}={numbers[0]!r} and {VARIABLES[2]}={numbers[1]!r} must be whole "
            "numbers."
        ) from None
    if processes == 1:
        return address, 1, 0, None
    missing = [name for name, value in values.items() if value is None]
    if 0 < len(missing) < 3:
        raise UsageError(
            f"{' and '.join(set(VARIABLES) - set(missing))} without {' and '.join(missing)}: a "
            "process of a job needs all three; see launch/README.md."
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise UsageError(
            f"{VARIABLES[2]}={process} must be from 0 to {VARIABLES[1]} - 1 = {processes - 1}."
        )
    return address, processes, process, local


def _detects_cluster() -> bool:
    """Returns whether jax detects the other processes of the job by itself."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if "SLURM_JOB_ID" in os.environ and "SLURM_STEP_NODELIST" not in os.environ and tasks != "1":
        raise UsageError(
            f"the SLURM job {os.environ['SLURM_JOB_ID']} has {tasks} tasks, and this process was "
            "not started by srun: put srun before the command (launch/slurm.sbatch), or set "
            f"{VARIABLES[1]}=1 to run this process alone."
        )
    return any(
        kind.is_env_present()
        for kind in clusters.ClusterEnv._cluster_types
        if not kind.opt_in_only_method
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_running() -> bool:
    """Returns whether `initialize` has connected this process."""
    return runtime.global_state.client is not None


def count() -> int:
    """Returns the number of processes."""
    return runtime.global_state.num_processes if is_running() else 1


def is_first() -> bool:
    """Returns whether this is the process that prints and writes files."""
    return not is_running() or runtime.global_state.process_id == 0


def say(text: str) -> None:
    """Prints a line, once for all processes.

    Args:
        text: The line.
    """
    if is_first():
        print(text, flush=True)


def warn(text: str) -> None:
    """Prints a warning on standard error, once for all processes.

    Args:
        text: The warning without its prefix.
    """
    if is_first():
        print(f"warning: {text}", file=sys.stderr, flush=True)


def first(work: Callable[[], T]) -> T:
    """Calls a function in the first process and returns its result in all processes.

    All processes must call it, in the same order.

    Args:
        work: Function that only the first process calls. Its result must be representable as JSON.

    Returns:
        The result of `work`. If there are several processes, it has passed through JSON.

    Raises:
        UserError: `work` raised it. All processes raise it. Any other exception of `work` is raised
            unchanged in the first process and as a UserError in the others.
    """
    if count() == 1:
        return work()
    number = next(_numbers)
    key = f"rcnn_jax/first/{number}"
    _told.append((number, key))
    if not is_first():
        reply = json.loads(_wait_for(key))
        if "error" in reply:
            error = UsageError if reply["usage"] else UserError
            raise error(reply["error"])
        return reply["result"]
    try:
        result = work()
    except UserError as error:
        _tell(key, {"error": str(error), "usage": isinstance(error, UsageError)})
        raise
    except Exception as error:
        _tell(key, {"error": f"process 0: {type(error).__name__}: {error}", "usage": False})
        raise
    _tell(key, {"result": result})
    return json.loads(json.dumps(result))


def gather(value: Any) -> list[Any]:
    """Collects a value from each process and returns all of them in every process.

    All processes must call it, in the same order.

    Args:
        value: Value of this process, which must be representable as JSON.

    Returns:
        The values in the order of the processes. If there are several processes, they have passed
        through JSON.
    """
    if count() == 1:
        return [value]
    number = next(_numbers)
    _tell(f"rcnn_jax/gather/{number}/{runtime.global_state.process_id}", value)
    # One process reads all values and the others read one text: 2 N requests instead of N * N.
    everyone = f"rcnn_jax/gathered/{number}"
    _told.append((number, everyone))
    if is_first():
        keys = [f"rcnn_jax/gather/{number}/{process}" for process in range(count())]
        _tell(everyone, [json.loads(_wait_for(key)) for key in keys])
        _forget(number)
    return json.loads(_wait_for(everyone))


def _forget(number: int) -> None:
    """Deletes messages before agreement `number`, which all processes have reached by now."""
    client: Any = runtime.global_state.client
    while _told and _told[0][0] < number:
        client.key_value_delete(_told.popleft()[1])
    for process in range(count()):
        client.key_value_delete(f"rcnn_jax/gather/{number}/{process}")


def _tell(key: str, value: Any) -> None:
    client: Any = runtime.global_state.client
    client.key_value_set(key, json.dumps(value))


def _wait_for(key: str) -> str:
    client: Any = runtime.global_state.client
    return client.blocking_key_value_get(key, _AGREE_S * 1000)


def explain(error: BaseException) -> tuple[int, str] | None:
    """Interprets an error that another process caused by ending.

    Args:
        error: Any exception.

    Returns:
        The exit code and the message, or None for an error of this process.
    """
    ours = isinstance(error, UserError | OSError)
    if count() == 1 or ours or not _LOST.match(str(error).replace("\n", " ")):
        return None
    return LOST_PEER, (
        f"another process of this job is gone ({str(error).splitlines()[0][:160]}); its own "
        "output says why. The same command goes on from the newest checkpoint"
    )


def leave(code: int, *, failed: bool) -> None:
    """Ends the connection to the other processes; if that fails, ends this process immediately.

    Otherwise a process that has failed would wait for the others to end, and they for it.

    Args:
        code: Exit code of this process.
        failed: Whether this process ends before its work is done, which the others may not know.
    """
    if not is_running():
        return
    if count() > 1:
        client: Any = runtime.global_state.client
        together = False
        if code != LOST_PEER:
            with contextlib.suppress(Exception):
                client.wait_at_barrier("rcnn_jax/leave", (_FAIL_S if failed else _END_S) * 1000)
                together = True
        if not together:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or LOST_PEER)
    jax.distributed.shutdown()
