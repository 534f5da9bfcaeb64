"""Runs `rcnn_jax.train` and kills it, without a chance to clean up, at a chosen moment.

    python killed_train.py MOMENT [flags of train...]

MOMENT is `step:N` (just after step N), `saving:N` (the checkpoint of step N is written but does
not have its name yet), `saved:N` (it has just got its name), `evaluating:N` (in the evaluation
after step N), `late:N` (there, too, but when the checkpoint of step N has its name), `line:N` (half
of the log line of step N is on disk) or `never`. Of a job of several processes all are killed
there; with `@P` behind the moment, process P alone. `SIGTERM:N@P` and the like send that process a
signal after step N instead, `warned:@P` before the first one, `batch-SIGTERM:N@P` behind the first
batch of the evaluation after step N, and `host-SIGTERM:N@P` inside what that evaluation computes on
the host, where every process then waits for a minute. `vanish:N` moves the folder `run` away when
the checkpoint of step N is in it, `unreadable:N` finds that one damaged, and `nospace:N` cannot
give it its name.
"""

import errno
import json
import os
import signal
import sys
import threading
import time

from rcnn_jax import train
from rcnn_jax.startup import doors

waits = sys.argv[1].startswith("host-")  # in all processes
kind, _, number = sys.argv.pop(1).partition(":")
number, _, process = number.partition("@")
if process not in ("", os.environ.get("JAX_PROCESS_ID")):
    kind = "never"


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(argv: list[str]) -> int:
    from jax.errors import JaxRuntimeError

    from rcnn_jax.training import evaluation, step, writers
    from rcnn_jax.training.checkpoints import reading, saving
    from rcnn_jax.training.parallel import distributed, signals

    taken = 0
    compile_train_step, evaluate = step.compile_train_step, evaluation.evaluate
    write = writers.JsonLines.write

    def compile_counting(*args, **kwargs):
        if kind == "warned":
            os.kill(os.getpid(), signal.SIGTERM)
        train_step = compile_train_step(*args, **kwargs)

        def counting(state, batch):
            nonlocal taken
            taken = int(state.step) + 1
            if kind == "step" and taken == int(number) + 1:
                kill()
            if kind.startswith("SIG") and taken == int(number) + 1:
                os.kill(os.getpid(), signal.Signals[kind])
            if kind == "vanish" and taken == int(number) + 1:
                while not os.path.isdir(f"run/checkpoints/{number}"):
                    time.sleep(0.01)  # until what is being saved has its name
                os.rename("run", "elsewhere")
            return train_step(state, batch)

        return counting

    def evaluate_or_die(*args, **kwargs):
        if kind == "evaluating" and taken == int(number):
            kill()
        result = evaluate(*args, **kwargs)
        if kind == "late" and taken == int(number):
            folder = next(a.split("=")[1] for a in sys.argv if a.startswith("--workdir="))
            while not os.path.isdir(f"{folder}/checkpoints/{number}"):
                time.sleep(0.01)
            kill()
        return result

    check, interruptible = signals.StopRequest.check, signals.StopRequest.interruptible

    def warn_between_batches(self):
        global kind
        if kind.startswith("batch-") and taken == int(number):
            os.kill(os.getpid(), signal.Signals[kind.removeprefix("batch-")])
            kind = "never"
            while distributed.count() > 1 and not noticed():
                time.sleep(0.01)  # until the service has heard of it
        check(self)

    def noticed():
        try:
            return signals.runtime.global_state.client.key_value_try_get(signals._NOTICE)
        except JaxRuntimeError:
            return None

    def warn_on_the_host(self, work):
        def wait_and_work():
            if waits and taken == int(number):
                if kind.startswith("host-"):
                    os.kill(os.getpid(), signal.Signals[kind.removeprefix("host-")])
                threading.Event().wait(60)
                print("waited to the end")
            return work()

        return interruptible(self, wait_and_work)

    def write_half(self, entry):
        if kind == "line" and entry["step"] == int(number):
            self._file.write(json.dumps(entry)[:20])
            self._file.flush()
            kill()
        write(self, entry)

    step.compile_train_step = compile_counting
    evaluation.evaluate = evaluate_or_die
    signals.StopRequest.check = warn_between_batches
    signals.StopRequest.interruptible = warn_on_the_host
    writers.JsonLines.write = write_half
    if kind == "unreadable":
        read = reading._read

        def read_or_not(directory, step, *args):
            if step == int(number):
                raise reading.DamagedError("this process alone finds it damaged")
            return read(directory, step, *args)

        reading._read = read_or_not
    if kind == "nospace":
        saving.SAVE_S, distributed._FAIL_S = 3, 1
    if kind in ("saving", "saved", "nospace"):
        rename = os.rename

        def rename_or_die(source, target, *args, **kwargs):
            final = os.path.basename(str(target)) == number
            if final and kind == "saving":
                kill()
            if final and kind == "nospace":
                raise OSError(errno.ENOSPC, "No space left on device")
            rename(source, target, *args, **kwargs)
            if final:
                kill()

        os.rename = rename_or_die
    return train.main(argv)


doors.run(main, train.FLAGS)
