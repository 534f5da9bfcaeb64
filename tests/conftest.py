"""What holds for every test: four CPU devices, strict shapes, real data only where it is set."""

import os

# Before jax starts: the device tests spread a batch over four CPU devices.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()

import gc
import pathlib
import subprocess
import sys

import jax
import jaxtyping
import numpy as np
import pytest

from jobs import AS_USERS, QUICK, make_job, run_forks

# Shape annotations of public array functions are checked in tests, never in a user's run.
ARRAY_ROOMS = [f"rcnn_jax.{room}" for room in ("layers", "models", "decoding", "metrics")]
jaxtyping.install_import_hook(ARRAY_ROOMS, "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of a test's time is the compiler's; what is compiled here runs for milliseconds.
jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="module")
def _nothing_old_is_collected():
    """Leaves what earlier modules made, gigabytes of compiled programs, out of later collections.

    Python would look through all of it for every collection of its oldest generation.
    """
    gc.freeze()


@pytest.fixture(autouse=True)
def _numbers_of_its_own(request):
    """A module's `RNG` starts anew for each test, so that none depends on those before it."""
    module = getattr(request, "module", None)
    if isinstance(getattr(module, "RNG", None), np.random.Generator):
        module.RNG = np.random.default_rng(1)


@pytest.fixture
def x64():
    """Runs one test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of raw data sets; a test that needs it is skipped where it is not set."""
    root = os.environ.get("RCNN_JAX_DATA")
    if not root:
        pytest.skip("RCNN_JAX_DATA is not set")
    return pathlib.Path(root)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where real data are promised, a test that skips is a test that did not look at them."""
    del call
    report = yield
    promised = os.environ.get("RCNN_JAX_DATA") and item.get_closest_marker("realdata")
    if promised and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"RCNN_JAX_DATA is set, but the test skipped: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> str:
    """A cache of compiled programs that all processes of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    return str((folder.parent if in_worker else folder) / "compiled")


@pytest.fixture(scope="session")
def door_server(compiled):
    """A process that has imported everything and runs doors in forks of itself."""
    server = pathlib.Path(__file__).parent / "door_server.py"
    with subprocess.Popen(
        [sys.executable, server],
        env={**os.environ, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": compiled}
        | {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "ERROR"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def door(tmp_path, compiled, door_server):
    """Runs `python -m rcnn_jax.NAME`, or a script, in an empty folder, on one device.

    In a fork of a process that has imported what doors import; in one of its own, started as a
    user's is, where `fresh` asks for it or the environment must be there before jax is imported.
    """

    def run(name: str | pathlib.Path, *arguments: object, fresh: bool = False, **environment: str):
        env = {**os.environ, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": compiled}
        env |= QUICK | environment
        script = isinstance(name, pathlib.Path)
        command = [*([] if script else ["-m"]), str(name) if script else f"rcnn_jax.{name}"]
        arguments = [str(argument) for argument in arguments]
        if fresh or not {"XLA_FLAGS", *AS_USERS}.issuperset(environment):
            return subprocess.run(
                [sys.executable, *command, *arguments],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        return run_forks(door_server, tmp_path, [command[-1], *arguments], [env])[0]

    return run


@pytest.fixture
def job(tmp_path, compiled, door_server):
    """Runs a door, or a script, as several processes of one job; gives back what each left."""
    return make_job(tmp_path, compiled, door_server)
