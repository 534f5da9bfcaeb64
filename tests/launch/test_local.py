"""One job as several processes on this machine; the processes here are a few lines of Python."""

import itertools
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
# Without the site packages a process starts in hundredths of a second.
PYTHON = [sys.executable, "-S"]
CHILD = "import os, signal, sys; i = int(os.environ['JAX_PROCESS_ID'])\n"
FOREVER = "while True: signal.pause()\n"
HOLD = "holder = open('held', 'w')\n"
# Process 1 ends first: process 0 holds `first`, which can be read once it has.
IN_TURN = """
import select
link = open("link", "rw"[i])
if i == 1:
    print(os.getpid(), file=link, flush=True)
    open("go").read()
else:
    first = os.pidfd_open(int(link.readline()))
    open("go", "w").close()
"""


class Launcher:
    """Starts `launch/local.py` on processes that run some lines of Python."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *flags: str,
        child: str = "",
        command: list[str] | None = None,
        processes: int = 2,
        launcher: str = "",
        **environment: str,
    ) -> subprocess.Popen[str]:
        own = [str(LAUNCH / "local.py")]
        if launcher:  # lines that run in the launcher first
            own = ["-c", f"import sys; sys.path.insert(0, {str(LAUNCH)!r})\nimport processes, local"
                   f"\n{launcher}\nsys.exit(local.main(sys.argv[1:]))"]  # fmt: skip
        command = command or [*PYTHON, "-c", CHILD + child]
        # As in a terminal, also where what runs the tests ignores it, as nohup does.
        heard = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        process = subprocess.Popen(
            [*PYTHON, *own, f"--processes={processes}", "--platform=cpu", *flags, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XLA_FLAGS": "", "PYTHONUNBUFFERED": "", **environment},
            cwd=self.folder,
        )
        signal.signal(signal.SIGHUP, heard)
        self.started.append(process)
        return process

    def run(self, *flags: str, **options) -> subprocess.CompletedProcess[str]:
        process = self.start(*flags, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def started_and_ready(self, *flags: str, **options) -> subprocess.Popen[str]:
        """Starts two processes and waits until both have printed `ready`."""
        process = self.start(*flags, **options)
        assert process.stdout is not None
        limit = threading.Timer(60, process.kill)
        limit.start()
        lines = sorted(process.stdout.readline() for _ in range(2))
        limit.cancel()
        assert lines == ["[0] ready\n", "[1] ready\n"]
        return process


@pytest.fixture
def launcher(tmp_path) -> Iterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture
def in_turn(tmp_path) -> None:
    """Lets processes run `IN_TURN`."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells who ended first")
    for name in ("link", "go"):
        os.mkfifo(tmp_path / name)


@pytest.fixture
def held(tmp_path) -> Iterator[int]:
    """The reading end of a named pipe, `held`: at its end when nobody holds it open any more."""
    os.mkfifo(tmp_path / "held")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    yield reader
    os.close(reader)


def is_released(reader: int) -> bool:
    """Whether every holder of the pipe ends within a minute."""
    return bool(select.select([reader], [], [], 60)[0]) and os.read(reader, 1) == b""


def test_each_process_knows_the_job(launcher):
    child = "print({k: v for k, v in os.environ.items() if k.startswith(('JAX_', 'XLA_'))})"
    outer = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false", "JAX_ENABLE_X64": "1"}
    result = launcher.run("--devices_per_process=3", child=child, processes=3, **outer)
    assert result.returncode == 0, result.stderr
    jobs = [eval(line[4:]) for line in sorted(result.stdout.splitlines())]  # noqa: S307
    addresses = {job.pop("JAX_COORDINATOR_ADDRESS") for job in jobs}
    assert len(addresses) == 1
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", addresses.pop())
    for i, job in enumerate(jobs):
        assert job == {
            "JAX_NUM_PROCESSES": "3",
            "JAX_PROCESS_ID": str(i),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": "1",
            "XLA_FLAGS": f"{outer['XLA_FLAGS']} --xla_force_host_platform_device_count=3",
        }


def test_lines_stay_whole_and_have_a_prefix(launcher):
    """Each process writes its letter in pieces that end anywhere, and no end of the last line."""
    child = """
letter = "ab"[i]
for stream, length in ((1, 70_001), (2, 30)):
    for _ in range(20):
        for piece in (letter * length, letter, "\\n"):
            os.write(stream, piece.encode())
os.write(1, b"\\n[Gloo] Rank 0 is connected to 1 peer ranks. Expected number of connected "
         b"peer ranks is : 1\\n[Gloo] Rank 1 lost\\nend " + letter.encode())
"""
    result = launcher.run(child=child)
    assert result.returncode == 0
    for stream, length in ((result.stdout, 70_002), (result.stderr, 31)):
        assert stream.endswith("\n")
        lines = stream.splitlines()
        for i, letter in enumerate("ab"):
            own = [line.removeprefix(f"[{i}] ") for line in lines if line.startswith(f"[{i}] ")]
            last = ["", "[Gloo] Rank 1 lost", f"end {letter}"] if stream is result.stdout else []
            assert own == 20 * [letter * length] + last
        assert all(re.match(r"\[[01]\] ", line) for line in lines)


def test_a_single_process_prints_as_it_is(launcher):
    result = launcher.run(child="print('out'); print('err', file=sys.stderr)", processes=1)
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n", "err\n")


def test_output_comes_while_the_processes_run(launcher):
    """A pipe would keep the lines of a Python that does not know that they are awaited."""
    launcher.started_and_ready(child="print('ready')\n" + FOREVER)


@pytest.mark.parametrize(
    ("sent", "received"),
    [("SIGTERM", "SIGTERM"), ("SIGUSR1", "SIGUSR1"), ("SIGINT", "SIGINT"), ("SIGHUP", "SIGTERM")],
)
def test_a_signal_reaches_every_process(launcher, sent, received):
    """Also when it was meant for a terminal's foreground group: each has a session of its own."""
    child = """
def stop(number, frame):
    print(signal.Signals(number).name, os.getsid(0) == os.getpid())
    sys.exit(130 if number == signal.SIGINT else 143)
for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
    signal.signal(getattr(signal, name), stop)
print("ready")
"""
    process = launcher.started_and_ready(child=child + FOREVER)
    process.send_signal(getattr(signal, sent))
    out, err = process.communicate(timeout=60)
    assert sorted(out.splitlines()) == [f"[{i}] {received} True" for i in range(2)]
    assert process.returncode == (130 if sent == "SIGINT" else 143)
    # Ended in order, so nobody is blamed.
    assert "process" not in err.replace("asked every process to stop", "")


def test_a_second_ctrl_c_kills(launcher, held):
    child = HOLD + "signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready')\n" + FOREVER
    process = launcher.started_and_ready(child=child)
    process.send_signal(signal.SIGINT)
    assert "a second Ctrl-C kills" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert is_released(held)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "was killed by SIGKILL"),
        ("os.abort()", 134, "was killed by SIGABRT"),
        ("sys.exit(3)", 3, "exited with code 3"),
    ],
)
def test_when_one_fails_the_others_are_ended(launcher, tmp_path, end, code, said):
    """By SIGTERM first: the one that answers it in order does not hide the failure."""
    os.mkfifo(tmp_path / "link")
    child = f"""
signal.signal(signal.SIGTERM, lambda *_: (print("told"), sys.exit(143)))
link = open("link", "wr"[i])  # both have come so far
if i == 1:
    {end}
"""
    result = launcher.run("--grace=0.1", child=child + FOREVER)
    assert result.returncode == code
    assert result.stdout == "[0] told\n"
    last = result.stderr.splitlines()[-1]
    assert re.fullmatch(rf"local\.py: process 1 {said}; the other 1 ended within \d+\.\d s", last)


def test_a_process_that_does_not_answer_is_killed(launcher, held):
    child = """
if i == 1:
    sys.exit(9)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
    fast = "processes.AFTER_TERM = 0.1"
    result = launcher.run("--grace=0.1", child=HOLD + child + FOREVER, launcher=fast)
    assert result.returncode == 9
    assert "gave up" not in result.stderr
    assert is_released(held)


@pytest.mark.usefixtures("in_turn")
def test_the_others_may_end_by_themselves(launcher):
    """They see the end of the one that failed, as of a connection, and report it."""
    child = """
signal.signal(signal.SIGTERM, lambda *_: print("told"))
if i == 1:
    sys.exit(5)
select.select([first], [], [])
print("lost the link")
sys.exit(1)
"""
    result = launcher.run(child=IN_TURN + child)
    assert (result.returncode, result.stdout) == (5, "[0] lost the link\n")
    assert re.fullmatch(
        r"local\.py: process 1 exited with code 5; the other 1 ended within \d+\.\d s\n",
        result.stderr,
    )


@pytest.mark.usefixtures("in_turn")
def test_the_first_is_blamed_also_by_a_late_launcher(launcher, tmp_path):
    """Both have ended, in the order 1, 0, when the launcher looks again."""
    os.mkfifo(tmp_path / "late")
    child = """
with open(f"pid-{i}", "w") as file:
    file.write(str(os.getpid()))
print("ready")
if i == 1:
    open("late").read()
    sys.exit(5)
select.select([first], [], [])
sys.exit(6)
"""
    process = launcher.started_and_ready(child=IN_TURN + child)
    watched = [os.pidfd_open(int((tmp_path / f"pid-{i}").read_text())) for i in range(2)]
    with (tmp_path / "late").open("w"):
        process.send_signal(signal.SIGSTOP)
    for one in watched:
        assert select.select([one], [], [], 60)[0]
        os.close(one)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 5


@pytest.mark.usefixtures("in_turn")
@pytest.mark.parametrize("code", [0, 130, 143])
def test_an_orderly_end_gives_the_others_all_the_time(launcher, code):
    """The last checkpoint may take longer than the grace of a failure."""
    child = f"""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if i == 1:
    sys.exit({code})
select.select([first], [], [])
print(signal.sigtimedwait([signal.SIGTERM], 0.2))  # meanwhile it writes the checkpoint
sys.exit({code})
"""
    result = launcher.run("--grace=0", child=IN_TURN + child)
    assert (result.returncode, result.stdout, result.stderr) == (code, "[0] None\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_killed_launcher_takes_the_processes_with_it(launcher, held):
    process = launcher.started_and_ready(child=HOLD + "print('ready')\n" + FOREVER)
    process.kill()
    assert is_released(held)


def test_what_a_process_leaves_behind_is_killed(launcher, held):
    """It would hold the output open and keep its memory."""
    child = HOLD + "if os.fork() == 0:\n    " + FOREVER
    result = launcher.run(child=child)
    assert result.returncode == 0
    assert is_released(held)


def test_a_reader_that_goes_away_does_not_end_the_job(launcher):
    """As `| head` does."""
    child = """
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(143)))
print("ready")
"""
    process = launcher.started_and_ready(child=child + FOREVER)
    process.stdout.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    process.stdout = None


@pytest.mark.one_row
def test_training_in_two_processes_is_stopped_and_saved(launcher, tmp_path, compiled):
    flags = ["--config=rcnn_digits", "--workdir=run", "--config.epochs=0", "--config.steps=4000"]
    flags += [f"--config.{key}" for key in ("model.features=8", "model.steps=1", "batch_size=32")]
    process = launcher.start(
        command=[sys.executable, "-m", "rcnn_jax.train", *flags],
        JAX_COMPILATION_CACHE_DIR=compiled,
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
    )
    lines = iter(process.stdout.readline, "")
    before = list(itertools.takewhile(lambda line: not line.startswith("[0] first step"), lines))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "2 x cpu in 2 processes" in "".join(before)
    assert "[1] " not in "".join(before)  # one process speaks for all
    assert "[Gloo]" not in "".join(before) + out + err
    step = re.search(r"^\[0\] .*saved step (\d+) of 4000", out, re.MULTILINE)
    assert step is not None, out
    assert (tmp_path / "run" / "checkpoints" / step[1]).is_dir()
