"""What a checkpoint says of the machine whose arithmetic it continues."""

from rcnn_jax import switches
from rcnn_jax.training import topology


def test_nothing_has_changed_where_nothing_has(monkeypatch):
    before = topology.current()
    monkeypatch.setenv(switches.WINOGRAD, "1")  # what it is where it is not set
    assert topology.changes(before) == []


def test_other_arithmetic_of_convolutions_is_said(monkeypatch):
    before = topology.current()
    monkeypatch.setenv(switches.WINOGRAD, "0")
    assert topology.changes(before) == ["minimal filters was 'F(4, 3), F(6, 3)' and is ''"]


def test_what_was_not_written_down_is_a_difference():
    before = topology.current()
    del before["minimal filters"]
    (change,) = topology.changes(before)
    assert change.startswith("minimal filters was None and is ")
