"""Commands run as forks of one process that has imported everything, alone or as one job."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile

# Most of the time of a short run is the compiler's; a test that needs the programs that users get
# sets the second one.
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
AS_USERS = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


def make_job(cwd: pathlib.Path, compiled: str, server: subprocess.Popen):
    """See the fixture `job`; in a folder of the caller's choice."""

    def run(name: str | pathlib.Path, *arguments: object, processes: int, devices: int = 1):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        env = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_COMPILATION_CACHE_DIR": compiled,
            **QUICK,
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(processes),
        }
        target = str(name) if isinstance(name, pathlib.Path) else f"rcnn_jax.{name}"
        return run_forks(
            server,
            cwd,
            [target, *map(str, arguments)],
            [env | {"JAX_PROCESS_ID": str(number)} for number in range(processes)],
        )

    return run


def run_forks(server, cwd, argv, environments):
    """Has the server run one command once for each environment, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        requests = [
            {
                "argv": argv,
                "cwd": str(cwd),
                "env": env,
                "out": f"{folder}/out{number}",
                "err": f"{folder}/err{number}",
                "seconds": 300,
            }
            for number, env in enumerate(environments)
        ]
        server.stdin.write(json.dumps(requests) + "\n")
        server.stdin.flush()
        codes = json.loads(server.stdout.readline())
        return [
            subprocess.CompletedProcess(
                argv, code, pathlib.Path(r["out"]).read_text(), pathlib.Path(r["err"]).read_text()
            )
            for code, r in zip(codes, requests, strict=True)
        ]
