"""Several processes are one run: the same bits saved, the same numbers, the same end.

In double precision, with dropout, augmentation, batch normalisation, averages and momentum on.
"""

import fcntl
import json
import pathlib
import re
import signal

import numpy as np
import pytest

from jobs import make_job
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.kernels import library
from rcnn_jax.training.checkpoints import reading
from rcnn_jax.training.parallel import distributed

KILLED = pathlib.Path(__file__).parents[1] / "faults" / "killed_train.py"
STEPS = 8
HERE = pathlib.Path(__file__).parent
FLAGS = [
    f"--config={HERE / 'small.py'}",
    "--workdir=run",
    f"--config.steps={STEPS}",
]
SHARDED = ["--config.mesh.data=1", "--config.mesh.fsdp=-1", "--config.fsdp.min_size=64"]

pytestmark = pytest.mark.faults


def ends(results, *allowed):
    """Checks that each process ended with one of the codes."""
    codes = [result.returncode for result in results]
    said = "\n".join(f"[{i}] {r.stdout[-1500:]}\n{r.stderr[-1500:]}" for i, r in enumerate(results))
    assert all(code in allowed for code in codes), f"{codes}\n{said}"


def learned(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    damaged = []
    variables = reading.read_variables(workdir / "checkpoints", damaged)
    assert not damaged
    return variables


def lines(workdir: pathlib.Path) -> list[dict]:
    """The numbers of metrics.jsonl, but for what a clock gave."""
    clocks = ("images_per_s", "step_s", "data_wait_share", "memory_mib", "split")
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in clocks} for line in found]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, compiled, door_server):
    """What one process on one device leaves."""
    folder = tmp_path_factory.mktemp("alone")
    run = make_job(folder, compiled, door_server)
    ends(run("train", *FLAGS, processes=1), 0)
    ends(run("evaluate", "--workdir=run", processes=1), 0)
    return folder / "run"


def assert_the_same_run(
    workdir: pathlib.Path, expected: pathlib.Path, rtol: float = 1e-9, atol: float = 1e-12
):
    ours, theirs = learned(workdir), learned(expected)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_allclose(array, theirs[path], rtol=rtol, atol=atol, err_msg=path)
    ours, theirs = lines(workdir), lines(expected)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=max(1e-6, rtol))


@pytest.mark.parametrize(
    ("processes", "devices", "flags"),
    [
        (4, 1, ["--config.mesh.fsdp=2", *SHARDED[2:], "--config.data.residency=stream"]),
        (2, 2, ["--config.parallelism=pmap", "--config.data.residency=device"]),
    ],
    ids=["4x1 fsdp 2 stream", "2x2 pmap device"],
)
def test_one_run_whatever_the_number_of_processes(job, alone, tmp_path, processes, devices, flags):
    results = job("train", *FLAGS, *flags, processes=processes, devices=devices)
    ends(results, 0)
    assert f"in {processes} processes" in results[0].stdout
    # Threads of Gloo may write their sentence into each other's lines.
    gloo = {"Gloo", "Rank", "is", "connected", "to", "peer", "ranks", "Expected", "number", "of"}
    for other in results[1:]:
        said = set(re.findall(r"[^\W\d]+", other.stdout)) - gloo
        assert not said, f"only the first process prints, another said: {other.stdout}"
    assert_the_same_run(tmp_path / "run", alone)


def test_batch_statistics_are_those_of_all_processes(
    job, tmp_path, tmp_path_factory, compiled, door_server
):
    flags = [f"--config={HERE / 'small.py'}:normed", "--workdir=run", "--config.steps=4"]
    ends(job("train", *flags, processes=2), 0)
    folder = tmp_path_factory.mktemp("alone-normed")
    ends(make_job(folder, compiled, door_server)("train", *flags, processes=1), 0)
    assert_the_same_run(tmp_path / "run", folder / "run")


@pytest.mark.skipif(bool(library.problem()), reason=library.problem())
def test_compiled_kernels_in_several_processes(
    job, tmp_path, tmp_path_factory, compiled, door_server
):
    flags = [f"--config={HERE / 'small.py'}:kernels", "--workdir=run", "--config.steps=2"]
    flags += ["--config.evaluate_every=2", "--config.checkpoint_every=2"]
    ends(job("train", *flags, processes=2, devices=2), 0)
    folder = tmp_path_factory.mktemp("alone-kernels")
    ends(make_job(folder, compiled, door_server)("train", *flags, processes=1), 0)
    kernels = json.loads((tmp_path / "run/provenance.jsonl").read_text().splitlines()[0])["kernels"]
    assert kernels.startswith("compiled")
    # In float32: sums over four devices are added in another order.
    assert_the_same_run(tmp_path / "run", folder / "run", rtol=2e-3, atol=2e-4)


def test_the_number_of_processes_may_change_at_every_start(job, alone, tmp_path):
    """4, 2, 1 and 4 again; killed in between, once while it shards what it saves."""
    for moment, processes, flags in (
        ("saved:2@0", 4, SHARDED),
        ("saved:4@0", 2, []),
        ("saved:6@0", 1, []),
        ("never", 4, ["--config.parallelism=pmap"]),
    ):
        results = job(KILLED, moment, *FLAGS, *flags, processes=processes)
        if moment == "never":
            ends(results, 0)
        else:
            assert results[0].returncode == -signal.SIGKILL, results[0].stderr
            ends(results[1:], distributed.LOST_PEER, -signal.SIGABRT)
            assert reading.steps(tmp_path / "run" / "checkpoints")[-1] == int(moment[6])
    assert "resuming from the checkpoint of step 6" in results[0].stdout
    assert_the_same_run(tmp_path / "run", alone)


def test_evaluation_counts_exactly_on_any_topology(job, alone, tmp_path):
    """From another folder than the training's, and a test split that nothing divides evenly."""
    expected = json.loads((alone / "evaluation.json").read_text())
    assert expected["n"] == 360
    output = tmp_path / "result.json"
    for processes, devices in ((2, 1), (1, 3)):
        results = job(
            "evaluate", f"--workdir={alone}", f"--output={output}",
            "--config.evaluation_batch_size=97", processes=processes, devices=devices,
        )  # fmt: skip
        ends(results, 0)
        found = json.loads(output.read_text())
        assert found["n"] == 360
        assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-6)
        assert found["details"] == expected["details"]
        output.unlink()


@pytest.mark.parametrize("sent", ["SIGTERM", "SIGINT"])
def test_a_warning_to_one_process_stops_all_at_the_same_step(job, tmp_path, sent):
    flags = [*FLAGS[:2], "--config.steps=20000", "--config.evaluate_every=20000"]
    flags += ["--config.log_every=20000", "--config.checkpoint_every=0"]
    results = job(KILLED, f"{sent}:3@1", *flags, processes=2)
    # A scheduler must not start again what a person stopped, whichever process got the Ctrl-C.
    ends(results, distributed.INTERRUPTED if sent == "SIGINT" else distributed.WARNED)
    saved = reading.steps(tmp_path / "run" / "checkpoints")
    assert len(saved) == 1
    reason = "SIGINT to process 1" if sent == "SIGINT" else "preemption notice"
    assert f"{reason}: saved step {saved[0]} of 20000" in results[0].stdout
    if sent == "SIGTERM":
        (resumed,) = job(KILLED, f"SIGUSR1:{saved[0] + 2}@0", *flags, processes=1)
        assert resumed.returncode == distributed.WARNED, resumed.stderr
        assert f"resuming from the checkpoint of step {saved[0]}" in resumed.stdout
        assert f"SIGUSR1: saved step {saved[0] + 3} of" in resumed.stdout


@pytest.mark.parametrize("where", ["batch", "host"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_warning_inside_an_evaluation_is_answered_there(job, tmp_path, processes, where):
    """Between two batches, or in what is computed on the host, where all wait for a minute."""
    flags = [*FLAGS, "--config.evaluate_every=2", "--config.evaluation_batch_size=4"]
    results = job(KILLED, f"{where}-SIGTERM:2@{processes - 1}", *flags, processes=processes)
    ends(results, distributed.WARNED)
    assert (
        f"saved step 2 of {STEPS} in run and stopped, and its evaluation will be done at the next"
        in results[0].stdout
    )
    assert "waited to the end" not in "".join(result.stdout for result in results)
    assert reading.steps(tmp_path / "run" / "checkpoints") == [2]
    if processes == 2 and where == "host":
        results = job("train", *flags, processes=1)
        ends(results, 0)
        assert "evaluating the state of step 2, which the last start did not" in results[0].stdout
        evaluated = [
            line["step"] for line in lines(tmp_path / "run") if "learning_rate" not in line
        ]
        assert evaluated == [2, 4, 6, 8]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_warning_at_a_step_that_diverges_is_not_forgotten(job, tmp_path, processes):
    """No step may be saved, and none is looked at before the warning asks for it."""
    flags = [*FLAGS[:2], "--config.steps=20000", "--config.evaluate_every=20000"]
    flags += ["--config.log_every=20000", "--config.checkpoint_every=0"]
    flags += ["--config.divergence.max_loss=1e-6", "--config.divergence.action=rollback"]
    results = job(KILLED, f"SIGTERM:3@{processes - 1}", *flags, processes=processes)
    ends(results, distributed.WARNED)
    assert "stopped at a step that diverged, of which nothing is saved" in results[0].stdout
    assert "rolled back" not in results[0].stdout
    assert not reading.steps(tmp_path / "run" / "checkpoints")


@pytest.mark.one_row
def test_minutes_that_are_over_stop_all_processes_at_the_same_step(job, tmp_path):
    flags = [*FLAGS[:2], "--config.steps=20000", "--config.evaluate_every=20000"]
    flags += ["--config.log_every=20000", "--config.checkpoint_every=0"]
    results = job("train", *flags, "--config.max_minutes=0.001", processes=2)
    ends(results, distributed.WARNED)
    (saved,) = reading.steps(tmp_path / "run" / "checkpoints")
    assert f"config.max_minutes=0.001 have passed: saved step {saved} of" in results[0].stdout


@pytest.mark.one_row
def test_a_worker_that_dies_ends_the_others_and_the_next_start_goes_on(job, tmp_path):
    """On the same topology the end is bit-identical to that of an unbroken run."""
    results = job(KILLED, "step:5@1", *FLAGS, processes=2)
    assert results[1].returncode == -signal.SIGKILL
    ends(results[:1], distributed.LOST_PEER, -signal.SIGABRT)
    if results[0].returncode == distributed.LOST_PEER:
        assert "another process of this job is gone" in results[0].stderr
        assert "Traceback" not in results[0].stderr
    results = job("train", *FLAGS, processes=2)
    ends(results, 0)
    assert re.search(r"resuming from the checkpoint of step [24] ", results[0].stdout)
    unbroken = [flag.replace("=run", "=unbroken") for flag in FLAGS]
    ends(job("train", *unbroken, processes=2), 0)
    manifests = [
        reading._manifest(tmp_path / name / "checkpoints", STEPS)["leaves"]
        for name in ("run", "unbroken")
    ]
    assert manifests[0] == manifests[1]


@pytest.mark.one_row
def test_damage_that_one_process_sees_is_damage_for_all(job, tmp_path):
    """Process 1 alone cannot read the newest checkpoint; both take the one before."""
    ends(job(KILLED, "saved:6@0", *FLAGS, processes=1), -signal.SIGKILL)
    results = job(KILLED, "unreadable:6@1", *FLAGS, *SHARDED, processes=2)
    ends(results, 0)
    assert "resuming from the checkpoint of step 4" in results[0].stdout
    assert "warning: this process alone finds it damaged" in results[0].stderr
    assert "moved the damaged checkpoint to" in results[0].stderr
    assert results[1].stderr.count("warning: ") == 0
    assert [path.name.partition("-")[0] for path in (tmp_path / "run" / "damaged").iterdir()] == [
        "6"
    ]


@pytest.mark.one_row
def test_a_warning_before_the_first_step_of_a_resumed_job_counts(job, tmp_path):
    """The job has more steps than it can take before the warning is noticed."""
    flags = [*FLAGS[:2], "--config.steps=20000", "--config.evaluate_every=20000"]
    flags += ["--config.log_every=20000"]
    ends(job(KILLED, "saved:4@0", *flags, processes=1), -signal.SIGKILL)
    results = job(KILLED, "warned:@1", *flags, "--config.checkpoint_every=0", processes=2)
    ends(results, distributed.WARNED)
    assert "resuming from the checkpoint of step 4" in results[0].stdout
    saved = reading.steps(tmp_path / "run" / "checkpoints")
    assert f"preemption notice: saved step {saved[-1]} of 20000" in results[0].stdout


@pytest.mark.one_row
def test_a_disk_that_is_full_for_one_process_ends_the_job(job, tmp_path):
    results = job(KILLED, "nospace:4@0", *FLAGS, processes=2)
    assert results[0].returncode == 1, results[0].stderr
    ends(results[1:], distributed.LOST_PEER, -signal.SIGABRT)
    assert re.search(
        "error: (no space left on the disk|the checkpoint of step 4 was not written)",
        results[0].stderr,
    )
    assert reading.steps(tmp_path / "run" / "checkpoints") == [2]


@pytest.mark.one_row
def test_a_job_that_diverges_goes_back_in_all_its_processes(job, tmp_path):
    flags = [
        *FLAGS, "--config.schedule.name=stepwise", "--config.schedule.boundaries=(0.6,)",
        "--config.schedule.factor=1e300", "--config.divergence.action=rollback",
        "--config.divergence.rate_factor=1e-5", "--config.divergence.attempts=1",
    ]  # fmt: skip
    results = job("train", *flags, processes=2)
    ends(results, 1)
    assert "rolled back to step 4, attempt 1 of 1" in results[0].stdout
    assert all(result.stderr.count("error: training has diverged") == 1 for result in results)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ValueError("UNKNOWN: Gloo all-reduce failed: [pair.cc:538] Read error [127.0.0.1]:64: "
                    "Connection reset by peer"), True),
        (RuntimeError("UNAVAILABLE: Task 1 heartbeat timeout."), True),
        (RuntimeError("INTERNAL: NCCL operation failed: cuda error: out of memory"), False),
        (RuntimeError("UNIMPLEMENTED: Gloo does not support this type"), False),
        (ConnectionRefusedError("[Errno 111] Connection refused"), False),
        (BrokenPipeError("[Errno 32] Broken pipe"), False),
        (RuntimeError("wandb: connection reset"), False),
        (FileNotFoundError("/data/gloomy/closed"), False),
    ],
)  # fmt: skip
def test_what_another_process_has_caused_is_told_from_what_this_one_has(monkeypatch, error, lost):
    assert distributed.explain(error) is None, "a process that is alone has lost nobody"
    monkeypatch.setattr(distributed, "count", lambda: 2)
    found = distributed.explain(error)
    assert (found is not None) == lost
    if lost:
        assert found[0] == distributed.LOST_PEER
        assert "another process of this job is gone" in found[1]


def test_agreements_leave_nothing_behind_and_tell_errors(job):
    """100 of them in two processes, and a mistake that the first one makes."""
    results = job(HERE / "agreeing.py", processes=2)
    ends(results, 0)
    for number, result in enumerate(results):
        lines = [line for line in result.stdout.splitlines() if "Gloo" not in line]
        assert lines == [
            f"gathered [[0, 99], [1, 99]] in {number}",
            "first UsageError what the first cannot do",
            "first UserError process 0: KeyError: 'x'" if number else "first KeyError 'x'",
            *(["left 1"] if number == 0 else []),
        ]


def test_a_process_that_is_alone_has_the_runtime_too(door):
    result = door(HERE / "alone.py", XLA_FLAGS="--xla_force_host_platform_device_count=3")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["sum 3.0", "stop False", "gathered [None]"]


def test_a_second_job_in_the_workdir_is_refused_in_all_its_processes(job, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with open(workdir / ".lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        results = job("train", *FLAGS, processes=2)
    ends(results, 1)
    for result in results:
        assert result.stderr.count("error: ") == 1
        assert "in use by another training run (process 4711)" in result.stderr
    assert not (workdir / "config.json").exists()


def test_a_mistake_is_one_sentence_in_each_process(job, tmp_path):
    results = job("train", *FLAGS, "--config.model.hiden=(8,)", processes=2)
    ends(results, 2)
    assert all("hidden" in r.stderr and "Traceback" not in r.stderr for r in results)
    results = job("train", *FLAGS, "--config.batch_size=15", processes=2)
    ends(results, 2)
    assert "config.batch_size=15 is not divisible by the 2 devices" in results[1].stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES without JAX_COORDINATOR_ADDRESS and"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
            "'two'",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
            "JAX_PROCESS_ID=2 must be from 0 to JAX_NUM_PROCESSES - 1 = 1",
        ),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, "put srun before the command"),
        # Launchers that jax does not recognise: each process would train all of the run.
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
            "process 1 of 2 that Open MPI started.* give all of them JAX_COORDINATOR_ADDRESS=HOST",
        ),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, "process 0 of 4 that an MPI launcher started"),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "TORCHELASTIC_RUN_ID": "none"},
            "process 1 of 2 that torchrun started",
        ),
    ],
)
def test_variables_that_contradict_each_other(monkeypatch, environment, says):
    for name in (*distributed.VARIABLES, "SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=says):
        distributed.initialize(preemption=False)
    assert not distributed.is_running()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        # Open MPI 5 numbers its processes; the coordinator is the user's to name.
        (
            {
                "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1",
                "OMPI_COMM_WORLD_SIZE": "3",
                "OMPI_COMM_WORLD_RANK": "0",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            },
            {"num_processes": 3, "process_id": 0, "local_device_ids": 0},
        ),
        # What is left over in a shell, or a single process, is no job.
        ({"WORLD_SIZE": "2", "RANK": "0"}, {"num_processes": 1, "process_id": 0}),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, {"num_processes": 1, "process_id": 0}),
        (
            {"JAX_NUM_PROCESSES": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
            {"num_processes": 1, "process_id": 0},
        ),
    ],
)
def test_the_numbers_of_a_launcher(monkeypatch, environment, expected):
    asked = {}

    def initialize(**arguments):
        asked.update(arguments)
        raise RuntimeError("not here")

    for name in (*distributed.VARIABLES, "SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    monkeypatch.setattr(distributed.jax.config, "update", lambda name, value: None)
    with pytest.raises(UserError, match="not here"):
        distributed.initialize(preemption=False)
    assert expected.items() <= asked.items()


@pytest.mark.parametrize(("processes", "longest"), [(1, 1e6), (2, 60)])
def test_a_process_alone_may_be_suspended_for_days(monkeypatch, processes, longest):
    """Another one that is silent for so long is taken to be gone."""
    asked = {}

    def initialize(**arguments):
        asked.update(arguments)
        raise RuntimeError("not here")

    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    values = ("127.0.0.1:1", str(processes), "0")
    for name, value in zip(distributed.VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed.jax.distributed, "initialize", initialize)
    monkeypatch.setattr(distributed.jax.config, "update", lambda name, value: None)
    with pytest.raises(UserError, match="not here"):
        distributed.initialize(preemption=False)
    silent = asked["heartbeat_timeout_seconds"]
    assert silent > longest if processes == 1 else silent <= longest
