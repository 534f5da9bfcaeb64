"""What a checkpoint says of the machine whose arithmetic it continues."""

import pytest

from rcnn_jax.configuration import environment
from rcnn_jax.kernels import library
from rcnn_jax.training.checkpoints import topology


def test_nothing_has_changed_where_nothing_has(monkeypatch):
    before = topology.current()
    monkeypatch.setenv(environment.WINOGRAD, "1")  # what it is where it is not set
    assert topology.changes(before) == []


def test_other_arithmetic_of_convolutions_is_said(monkeypatch):
    before = topology.current()
    monkeypatch.setenv(environment.WINOGRAD, "0")
    assert topology.changes(before) == ["minimal filters was 'F(4, 3), F(6, 3)' and is ''"]


def test_other_kernels_are_said(monkeypatch):
    if library.problem():
        pytest.skip(library.problem())
    before = topology.current()
    monkeypatch.setenv(environment.KERNELS, "0")
    (change,) = topology.changes(before)
    assert change.startswith("kernels was 'compiled, ")
    assert change.endswith("' and is ''")
    # An older version had none.
    del before["kernels"]
    assert topology.changes(before) == []
    monkeypatch.delenv(environment.KERNELS)
    (change,) = topology.changes(before)
    assert change.startswith("kernels was '' and is 'compiled, ")


def test_what_was_not_written_down_is_a_difference():
    before = topology.current()
    del before["minimal filters"]
    (change,) = topology.changes(before)
    assert change.startswith("minimal filters was None and is ")


def test_another_cpu_is_said():
    before = topology.current() | {"cpu": "AMD EPYC 7763 64-Core Processor, AVX2"}
    (change,) = topology.changes(before)
    assert change.startswith("cpu was 'AMD EPYC 7763 64-Core Processor, AVX2' and is ")


def test_a_cpu_that_an_older_version_did_not_note_is_no_difference():
    before = topology.current()
    del before["cpu"]
    assert topology.changes(before) == []


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["model name\t: Xeon", "flags\t\t: sse4_2 avx avx2 avx512f"], "Xeon, AVX-512"),
        (["model name\t: EPYC", "flags\t\t: fma avx sse4_2 avx2"], "EPYC, AVX2"),
        (["model name\t: A", "flags\t: avx", "model name\t: B", "flags\t: avx2"], "A, AVX"),
        (["CPU part\t: 0xd40", "Features\t: fp asimd sve"], "SVE"),
        (["processor\t: 0"], None),
        (None, None),  # no such file
    ],
)
def test_the_cpu_is_named_with_its_widest_vectors(lines, expected, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    if lines is not None:
        cpuinfo.write_text("\n".join(lines))
    assert topology.cpu(cpuinfo) == expected
