"""Runs doors in forks of a process that has already imported what they import.

Importing jax, Flax, Optax and Orbax takes a door two seconds, and the tests open a hundred. Each
line on standard input is a list of requests that are run side by side, each a JSON object with
`argv` (a module's name or a script's path first), `cwd`, `env`, `out` and `err` (files) and
`seconds`; the answer is the list of exit codes, negative for a signal. No backend is started before
the fork: flags of the compiler are read by each.
"""

import json
import os
import runpy
import signal
import sys
import traceback


def import_what_doors_import() -> None:
    """All but the doors themselves, which a fork runs as `__main__`."""
    import rcnn_jax.experiment.evaluation_run
    import rcnn_jax.experiment.training_run
    import rcnn_jax.output.results
    import rcnn_jax.summary.listing
    import rcnn_jax.training.parallel.signals
    import rcnn_jax.training.recalibration
    import rcnn_jax.training.writers  # noqa: F401


def run(request: dict) -> int:
    """Runs a door in this process, which is its own."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    # jax has read its variables when the server imported it.
    quick = request["env"].get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1"
    sys.modules["jax"].config.update("jax_disable_most_optimizations", quick)
    for name, number, mode in (("out", 1, "w"), ("err", 2, "w")):
        with open(request[name], mode) as file:
            os.dup2(file.fileno(), number)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    signal.alarm(request["seconds"])
    target, *_ = sys.argv = request["argv"]
    try:
        if target.endswith(".py"):
            sys.path[0] = os.path.dirname(target)
            runpy.run_path(target, run_name="__main__")
        else:
            sys.path[0] = os.getcwd()
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  (shown, as the interpreter shows it)
        traceback.print_exc()
        return 1


def serve() -> None:
    """Answers one request after the other until standard input ends."""
    import_what_doors_import()
    for line in sys.stdin:
        pids = []
        for request in json.loads(line):
            pid = os.fork()
            if pid == 0:
                code = run(request)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            pids.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    serve()
