"""The folder of a run: its lock, also where a file system has none."""

import errno
import fcntl
import os

import pytest

from rcnn_jax.errors import UserError
from rcnn_jax.training.workdir import Workdir

pytestmark = pytest.mark.one_row


def refuse(monkeypatch, number):
    def flock(file, operation):
        del file, operation
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_disk_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys, number):
    refuse(monkeypatch, number)
    with Workdir(tmp_path / "run").claim():
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--workdir={tmp_path / 'run'} has no locks ({os.strerror(number)})" in said


def test_a_lock_that_fails_otherwise_is_one_sentence(tmp_path, monkeypatch):
    refuse(monkeypatch, errno.EIO)
    with (
        pytest.raises(UserError, match=r"cannot be locked: Input/output error\.$"),
        Workdir(tmp_path / "run").claim(),
    ):
        pass
