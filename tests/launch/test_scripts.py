"""The shell scripts of launch/: what can be said without a scheduler, and where one is tried."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
HERE = "tests/launch"
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("launch", HERE)
    for path in (ROOT / folder).iterdir()
    if path.suffix in (".sh", ".sbatch")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash(script):
    subprocess.run(["bash", "-n", script], check=True, cwd=ROOT)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", "-x", "-P", HERE, script], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    [
        ("launch/mpirun.sh", [], "there is no command"),
        ("launch/mpirun.sh", ["-n", "2", "python"], "there is no command"),
        ("launch/mpirun.sh", ["-n", "2", "--", "python"], "Open MPI 4"),
        ("launch/slurm.sbatch", [], "set VENV"),
        ("launch/tpu_vm.sh", ["train"], "usage: TPU=name"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, script, arguments, named):
    """With an mpirun of another make first on PATH."""
    other = tmp_path / "mpirun"
    other.write_text("#!/bin/sh\necho 'HYDRA build details:'\n")
    other.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VENV": str(tmp_path)}
    environment |= {"SLURM_JOB_ID": "1"}
    result = subprocess.run(
        ["bash", ROOT / script, *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ({}, r"started at 127\.0\.0\.1:\d+$"),
        ({"JAX_COORDINATOR_ADDRESS": "node0:29500"}, "started at node0:29500$"),
    ],
)
def test_open_mpi_5_is_told_where_process_0_is(tmp_path, where, named):
    """With an mpirun that says what it would start with."""
    mpirun = tmp_path / "mpirun"
    mpirun.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'mpirun (Open MPI) 5.0.11' && exit\n"
        'echo "$@" | grep -q -e "-x JAX_COORDINATOR_ADDRESS" &&\n'
        'echo "started at $JAX_COORDINATOR_ADDRESS"\n'
    )
    mpirun.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **where}

    def run(*flags):
        return subprocess.run(
            ["bash", ROOT / "launch/mpirun.sh", "-n", "2", *flags, "--", "python"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    result = run()
    assert (result.returncode, result.stderr) == (0, "")
    assert re.match(named, result.stdout.strip())
    for flag in (["--hostfile", "hosts"], ["--host=a,b"], ["-H", "a,b"]):
        result = run(*flag)
        assert result.returncode == (0 if where else 2)
        assert ("needs JAX_COORDINATOR_ADDRESS=HOST:PORT" in result.stderr) == (not where)


@pytest.mark.parametrize("name", ["slurm", "mpirun"])
def test_a_real_scheduler(name):
    script = f"{HERE}/{name}.sh"
    if os.environ.get("RCNN_JAX_SCHEDULERS") != "1":
        pytest.skip(f"installs Debian packages, as root; run it by: bash {script}")
    result = subprocess.run(
        ["bash", ROOT / script],
        env={**os.environ, "XLA_FLAGS": "", "VENV": sys.prefix},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if result.returncode == 77:
        pytest.skip(result.stdout.splitlines()[-1])
    assert result.returncode == 0, result.stdout
