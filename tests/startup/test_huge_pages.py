"""A door asks for memory in large pages, once, and leaves a user's decision alone."""

import os
import subprocess
import sys
import textwrap

import pytest

from rcnn_jax.startup import huge_pages

MADVISE = "always [madvise] never"
ASKED = f"{huge_pages.TUNABLE}=1"


@pytest.mark.parametrize(
    ("environment", "policy", "libc", "missing"),
    [
        ({}, MADVISE, "glibc 2.36", True),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, MADVISE, "glibc 2.35", True),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, MADVISE, "glibc 2.36", False),
        ({}, "[always] madvise never", "glibc 2.36", False),
        ({}, "always madvise [never]", "glibc 2.36", False),
        ({}, MADVISE, "glibc 2.34", False),
        ({}, MADVISE, "glibc 2.4", False),
        ({}, MADVISE, "glibc 3.0", True),
        ({}, MADVISE, "musl 2.36", False),
        ({}, MADVISE, "", False),
    ],
)
def test_when_they_are_asked_for(environment, policy, libc, missing):
    assert huge_pages.missing(environment, policy, libc) is missing


def test_other_tunables_stay(monkeypatch):
    monkeypatch.setattr(huge_pages, "here", lambda environment: True)
    empty, full = {}, {"GLIBC_TUNABLES": "glibc.malloc.check=1"}
    huge_pages.ask(empty)
    huge_pages.ask(full)
    assert empty == {"GLIBC_TUNABLES": ASKED}
    assert full == {"GLIBC_TUNABLES": f"glibc.malloc.check=1:{ASKED}"}


PROGRAM = textwrap.dedent(
    """
    import os
    import sys

    from absl import flags

    from rcnn_jax.startup import doors, huge_pages

    print("started", flush=True)
    # As on a machine where they can be had, whatever this one is.
    huge_pages.here = lambda environment: huge_pages.TUNABLE not in environment.get(
        huge_pages.VARIABLE, ""
    )
    FLAGS = flags.FlagValues()
    FLAG = flags.DEFINE_string("word", "", "A word.", flag_values=FLAGS)

    def main(argv):
        print(os.getpid(), FLAG.value, os.environ[huge_pages.VARIABLE], sys.flags.optimize)
        return 3

    doors.run(main, FLAGS)
    """
)


def start(tmp_path, *, tunables=None, flags=("-O",), stdin=None):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if k != huge_pages.VARIABLE}
    environment |= {} if tunables is None else {huge_pages.VARIABLE: tunables}
    target = [str(program), "--word=two words"] if stdin is None else ["-", "--word=two words"]
    with subprocess.Popen(
        [sys.executable, *flags, *target],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(stdin, timeout=60)
    return process, out.split("\n"), err


def test_a_door_starts_itself_once_more(tmp_path):
    process, said, err = start(tmp_path)
    assert process.returncode == 3, err
    # The same process, with the interpreter's flags and its own.
    assert said == ["started", "started", f"{process.pid} two words {ASKED} 1", ""]


def test_a_decision_of_the_user_stands(tmp_path):
    process, said, err = start(tmp_path, tunables="glibc.malloc.hugetlb=0")
    assert process.returncode == 3, err
    assert said == ["started", f"{process.pid} two words glibc.malloc.hugetlb=0 1", ""]


def test_a_program_that_cannot_be_read_again_goes_on(tmp_path):
    process, said, err = start(tmp_path, stdin=PROGRAM)
    assert said[0] == "started"
    assert said.count("started") == 1
    # Nothing was set either, and that is what this program trips over.
    assert process.returncode != 3
    assert "KeyError" in err


def test_debuggers_and_loaded_compilers_keep_the_process(monkeypatch):
    def start(*given):
        raise AssertionError(f"started once more: {given}")

    monkeypatch.setattr(os, "execv", start)
    monkeypatch.setattr(huge_pages, "here", lambda environment: True)
    assert "jax" in sys.modules
    huge_pages.start_with_them()
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setitem(sys.modules, "debugpy", sys)
    huge_pages.start_with_them()
