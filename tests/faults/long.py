"""The long fault suite: kills a run again and again at random moments and counts what was lost.

    python tests/faults/long.py --kills=50 --seed=0

Each kill is a SIGKILL to `python -m rcnn_jax.train`, alone or to one of two processes of a job, at
a moment drawn from the whole life of the process: imports, compilation, steps, saves, evaluations.
Checkpoints are written every 5 of 300 steps, so that many kills fall into a write. A run that ends
is compared, leaf by leaf and bit by bit, with one that nobody killed, and another is begun until
the kills are used up. Then every file of a checkpoint is damaged in many places.

Prints a table for tests/README.md; the exit code is 1 if anything promised did not hold.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 300
FLAGS = [
    "--config=rcnn_digits",
    "--config.model.features=8",
    "--config.model.steps=1",
    "--config.model.norm=batch",
    "--config.model.dropout=0.3",
    "--config.data.augment=random_affine(10.0, 0.1, 1.0)",
    "--config.batch_size=32",
    "--config.epochs=0",
    f"--config.steps={STEPS}",
    "--config.evaluate_every=50",
    "--config.checkpoint_every=5",
    "--config.log_every=1",
    "--config.ema_decay=0.9",
]
LAUNCHER = pathlib.Path(__file__).parents[2] / "launch" / "local.py"


def command(workdir: pathlib.Path, processes: int) -> list[str]:
    train = [sys.executable, "-m", "rcnn_jax.train", *FLAGS, f"--workdir={workdir}"]
    if processes == 1:
        return train
    return [
        sys.executable,
        str(LAUNCHER),
        f"--processes={processes}",
        "--platform=cpu",
        "--",
        *train,
    ]


def logged(workdir: pathlib.Path) -> int:
    """The last step that the run has told of."""
    try:
        lines = (workdir / "metrics.jsonl").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return 0
    steps = []
    for line in lines:
        try:
            steps.append(json.loads(line)["step"])
        except ValueError:
            continue
    return max(steps, default=0)


def leaves(workdir: pathlib.Path) -> dict:
    from rcnn_jax.training.checkpoints import reading

    return reading._manifest(workdir / "checkpoints", STEPS)["leaves"]


def victims(launcher: int, processes: int) -> list[int]:
    """The processes that may be killed: the run itself, or those of the job."""
    if processes == 1:
        return [launcher]
    children = pathlib.Path(f"/proc/{launcher}/task/{launcher}/children")
    try:
        return [int(pid) for pid in children.read_text().split()]
    except OSError:
        return []


def kill_at_random(folder: pathlib.Path, processes: int, kills: int, dice: random.Random) -> dict:
    """Kills runs until the kills are used up, and lets the last one end."""
    whole = folder / f"unbroken{processes}"
    subprocess.run(command(whole, processes), check=True, stdout=subprocess.DEVNULL)
    began = time.monotonic()  # of a second run: what the first has compiled is kept
    again = folder / f"unbroken{processes}-again"
    subprocess.run(command(again, processes), check=True, stdout=subprocess.DEVNULL)
    life = time.monotonic() - began
    assert leaves(again) == leaves(whole), "two unbroken runs differ"
    expected = leaves(whole)
    found = {"kills": 0, "runs": 0, "inside a write": 0, "steps repeated": [], "wrong": 0}
    found |= {"refused": 0, "life_s": life}
    workdir = folder / f"run{processes}-0"
    while found["kills"] < kills or not (workdir / "ended").exists():
        before = logged(workdir)
        with open(folder / "output", "w+") as output:
            process = subprocess.Popen(
                command(workdir, processes), stdout=output, stderr=subprocess.STDOUT, text=True
            )
            if found["kills"] < kills:
                try:
                    process.wait(dice.uniform(0.2, life))
                except subprocess.TimeoutExpired:
                    targets = victims(process.pid, processes)
                    if targets:
                        os.kill(dice.choice(targets), signal.SIGKILL)
                        found["kills"] += 1
                        partial = list((workdir / "checkpoints").glob("*tmp*"))
                        found["inside a write"] += bool(partial)
            code = process.wait()
            output.seek(0)
            text = output.read()
        resumed = re.search(r"resuming from the checkpoint of step (\d+)", text)
        if resumed:
            found["steps repeated"].append(max(before - int(resumed[1]), 0))
        found["wrong"] += "warning: " in text.replace("warning: training", "")
        if code == 0:
            found["runs"] += 1
            found["wrong"] += leaves(workdir) != expected
            (workdir / "ended").touch()
            if found["kills"] < kills:
                workdir = folder / f"run{processes}-{found['runs']}"
        elif code not in (-signal.SIGKILL, 128 + signal.SIGKILL):
            found["refused"] += 1
            print(f"exit code {code}:\n{text[-1500:]}", file=sys.stderr)
    return found


def damage(folder: pathlib.Path, trials: int, dice: random.Random) -> dict:
    """Flips bits, cuts and removes files of the newest checkpoint; it must never go unseen."""
    from rcnn_jax.configuration import loading
    from rcnn_jax.experiment import training_run
    from rcnn_jax.training.checkpoints import reading
    from rcnn_jax.training.workdir import Workdir

    workdir = Workdir(folder / "unbroken1")
    run = training_run.prepare_training(loading.from_json(workdir.config), workdir, None)
    abstract = run.recipe.abstract_state(run.devices)
    whole = reading.restore(workdir.checkpoints, STEPS, abstract)
    expected = reading.checksums.describe(whole.state).leaves
    files = [path for path in (workdir.checkpoints / str(STEPS)).rglob("*") if path.is_file()]
    found = {"trials": 0, "seen": 0, "harmless": 0, "unseen": 0}
    for trial in range(trials):
        file = dice.choice(files)
        data = file.read_bytes()
        kind = ("bit", "bit", "bit", "cut", "remove")[trial % 5]
        if not data:
            continue
        if kind == "bit":
            place = dice.randrange(len(data))
            altered = bytearray(data)
            altered[place] ^= 1 << dice.randrange(8)
            file.write_bytes(altered)
        elif kind == "cut":
            file.write_bytes(data[: dice.randrange(len(data))])
        else:
            file.unlink()
        found["trials"] += 1
        try:
            restored = reading.restore(workdir.checkpoints, STEPS, abstract)
            same = reading.checksums.describe(restored.state).leaves == expected
            same = same and restored.metrics == whole.metrics
            found["harmless" if same else "unseen"] += 1
        except reading.DamagedError:
            found["seen"] += 1
        file.write_bytes(data)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of a run of one process")
    parser.add_argument("--job_kills", type=int, default=10, help="of one of two processes")
    parser.add_argument("--damage", type=int, default=300, help="damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=pathlib.Path, help="for the runs; a temporary one if unset"
    )
    given = parser.parse_args()
    folder = given.folder or pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    dice, began = random.Random(given.seed), time.monotonic()
    rows, bad = [], 0
    for processes, kills in ((1, given.kills), (2, given.job_kills)):
        if not kills:
            continue
        found = kill_at_random(folder, processes, kills, dice)
        repeated = found["steps repeated"] or [0]
        who = "the run" if processes == 1 else "one of two processes of a job"
        tried = f"{found['kills']} kills, {found['inside a write']} of them inside a write"
        lost = f"{sum(repeated)} steps taken twice, at most {max(repeated)} at once"
        rows.append(
            f"| SIGKILL to {who} at a random moment | the next start goes on; the end has the bits "
            f"of an unbroken run | {tried}; {found['runs']} runs ended | no run; {lost}; "
            f"{found['wrong']} wrong, {found['refused']} refused |"
        )
        bad += found["wrong"] + found["refused"]
        print(rows[-1], flush=True)
    if given.damage:
        found = damage(folder, given.damage, dice)
        rows.append(
            f"| a file of a checkpoint with a flipped bit, cut short or removed | never restored "
            f"as if whole | {found['trials']} | {found['seen']} seen, {found['harmless']} without "
            f"effect on any leaf, {found['unseen']} unseen |"
        )
        bad += found["unseen"]
    print(f"\n{datetime.date.today()}, `python tests/faults/long.py --kills={given.kills} "
          f"--job_kills={given.job_kills} --damage={given.damage} --seed={given.seed}`, "
          f"{time.monotonic() - began:.0f} s\n")  # fmt: skip
    print("| fault | promised | tried | lost |\n|---|---|---|---|")
    print("\n".join(rows))
    if given.folder is None:
        shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
