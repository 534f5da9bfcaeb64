"""Being asked to stop: heard at once, and for good; of jobs see `multiprocess/test_job.py`."""

import os
import signal
import threading

import pytest

from rcnn_jax.training.parallel import distributed, signals
from rcnn_jax.training.parallel.signals import StopDuringEvaluation, StopRequest

pytestmark = pytest.mark.one_row


def ask(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, distributed.WARNED),
        (signal.SIGUSR1, distributed.WARNED),
        (signal.SIGINT, distributed.INTERRUPTED),
    ],
)
def test_the_answer_stays_and_a_later_ctrl_c_ends_at_once(number, code):
    with StopRequest() as stop:
        assert not stop.reached()
        ask(number)
        assert stop.reached()
        ask(signal.SIGUSR1)
        assert stop.reached()
        assert (stop.reason, stop.exit_code) == (number.name, code)
        with pytest.raises(KeyboardInterrupt):
            ask(signal.SIGINT)
        assert stop.reached()


def test_what_the_service_says_once_is_kept(monkeypatch):
    """The service gives notice at one count alone, and the step may diverge and be repeated."""
    said = iter([False, True, False, False])
    monkeypatch.setattr(
        signals.multihost_utils, "reached_preemption_sync_point", lambda count: next(said)
    )
    with StopRequest() as stop:
        assert [stop.reached() for _ in range(4)] == [False, True, True, True]
        assert (stop.reason, stop.exit_code) == ("preemption notice", distributed.WARNED)
        with pytest.raises(StopDuringEvaluation):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            ask(signal.SIGINT)


def test_work_on_the_host_is_left_at_once_whatever_it_catches():
    def work():
        try:
            ask(signal.SIGTERM)
            threading.Event().wait(60)
        except Exception:  # noqa: BLE001  (as a task's own code may)
            return "swallowed"
        return "waited"

    with StopRequest() as stop:
        assert stop.interruptible(lambda: 5) == 5
        stop.check()
        for _ in range(2):  # asked for before it begins, it does not begin
            with pytest.raises(StopDuringEvaluation):
                stop.interruptible(work)
        with pytest.raises(StopDuringEvaluation):
            stop.check()
        assert stop.reason == "SIGTERM"


def test_minutes_that_have_passed_are_a_warning_also_inside_work_on_the_host():
    handlers = [signal.getsignal(number) for number in signals.SIGNALS]
    with StopRequest(minutes=1e-3) as stop:
        with pytest.raises(StopDuringEvaluation):
            stop.interruptible(lambda: threading.Event().wait(60))
        assert stop.reason == "config.max_minutes=0.001 have passed"
        assert stop.exit_code == distributed.WARNED
    with StopRequest(minutes=5, started=-1e9) as stop, pytest.raises(StopDuringEvaluation):
        stop.interruptible(lambda: threading.Event().wait(60))  # they were over before
    with StopRequest(minutes=5) as stop:
        assert not stop.reached()
    assert [signal.getsignal(number) for number in signals.SIGNALS] == handlers
