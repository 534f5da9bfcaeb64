#!/usr/bin/env python3
"""Measures and trains RCNN on one GPU, in one command, within a given time.

    python launch/gpu.py --data=FOLDER_OF_CIFAR10 --out=runs/gpu --minutes=25
    python launch/gpu.py --data=FOLDER_OF_CIFAR10 --out=/tmp/gpu --platform=cpu --quick

It needs jax, flax, optax, orbax-checkpoint, absl-py and numpy; torch is what is measured beside,
and is left out where it is missing. The project need not be installed. The same command again goes
on where the last one ended: what its files in `--out` have is not done again.

Exit code: 0 where everything is done; 3 where time was short and the same command would do more;
1 where a part failed, or for a mistake in the data; 2 for a mistake in the command; 130 where it
was interrupted.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import checkout
import gpu_data
import gpu_recipe
import gpu_summary
from absl import flags

from rcnn_jax.errors import UsageError, nearest
from rcnn_jax.output import results
from rcnn_jax.startup import doors

ROWS = "rows"
_NAMES = (*gpu_recipe.STAGES, ROWS)
_GRACE = 30.0  # seconds that a part may be late before it is stopped
_ENDING = 20.0  # seconds that one that is stopped may take to end
_QUICK_ROWS = (
    gpu_summary.PRODUCT,
    "gpu_rcnn_train_batch_512_24_bfloat16",
    "gpu_rcnn_inference_batch_512_24_bfloat16",
)

_OWN = flags.FlagValues()
_MINUTES = flags.DEFINE_float(
    "minutes", 25.0, "In how long everything is to end.", 0.5, flag_values=_OWN
)
_STAGES = flags.DEFINE_list(
    "stages", ["rcnn96:0.25", "rcnn160:0.35", "rows:0.4"],
    "What is done, in this order, each with its share of the time; what one leaves goes to those "
    "behind it.", flag_values=_OWN,
)  # fmt: skip
_SHARED = gpu_recipe.define_flags(_OWN)


def parse_stages(given: Sequence[str]) -> dict[str, float]:
    """What is done -> its share of the time.

    Raises:
        UsageError: There is no such part, a share is none, or something stands there twice.
    """
    shares: dict[str, float] = {}
    for part in given:
        name, _, text = part.partition(":")
        if name not in _NAMES:
            raise UsageError(f"--stages: {name!r}: {nearest(name, _NAMES)}.")
        try:
            share = float(text or 1)
        except ValueError:
            share = 0.0
        if not 0 < share < float("inf") or name in shares:
            raise UsageError(
                f"--stages={','.join(given)}: each of {', '.join(_NAMES)} stands there at most "
                "once, as NAME or NAME:SHARE with a share above 0."
            )
        shares[name] = share
    return shares


def command(stage: str, out: pathlib.Path, minutes: float) -> list[str]:
    """The command of a part.

    Args:
        stage: Its name.
        out: Folder of the results.
        minutes: In how long it has to end.
    """
    given = _SHARED
    if stage != ROWS:
        handed = [_OWN[holder.name].serialize() for holder in given if _OWN[holder.name].present]
        # A flag that may be given several times serializes as several lines.
        words = [word for text in handed for word in text.split("\n")]
        script = checkout.LAUNCH / "gpu_stage.py"
        return [sys.executable, str(script), f"--stage={stage}", f"--minutes={minutes}", *words]
    quick = given.quick.value
    return [
        sys.executable, str(checkout.BENCHMARKS / "run.py"), *(_QUICK_ROWS if quick else ["gpu_*"]),
        f"--platform={given.platform.value}", f"--output={out / gpu_summary.ROWS_FILE}",
        f"--minutes={minutes}", "--missing", f"--quick={str(quick).lower()}",
        # Times on a card vary little, there are many rows, and none may take all the time.
        "--rounds=5", "--window=0.3", "--limit=240",
    ]  # fmt: skip


def run(words: Sequence[str], env: Mapping[str, str], seconds: float) -> int:
    """Runs a part; one that does not end in time is stopped.

    Args:
        words: The command.
        env: Its environment.
        seconds: After which it is interrupted, and killed if that does not help.

    Returns:
        Its exit code, `gpu_recipe.UNFINISHED` where it was stopped.
    """
    process = subprocess.Popen(words, env=dict(env))
    try:
        return process.wait(timeout=max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return gpu_recipe.UNFINISHED
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_ENDING)
        process.kill()
        process.wait()


def rows_are_complete(out: pathlib.Path, quick: bool) -> bool:
    """Whether every row that is asked for was measured."""
    report = checkout.benchmark("report")
    measured = report.load(out / gpu_summary.ROWS_FILE)
    names = [n for n in checkout.benchmark("row").discover() if n.startswith("gpu_")]
    return all(report.has(measured, name, quick) for name in (_QUICK_ROWS if quick else names))


def main(argv: list[str]) -> int:
    """Does all parts, one after the other; returns the exit code."""
    del argv
    until = time.monotonic() + 60 * _MINUTES.value
    shares, given = parse_stages(_STAGES.value), _SHARED
    out = pathlib.Path(given.out.value)
    for stage in set(shares) - {ROWS}:
        recipe = gpu_recipe.make(stage, given.set.value, given.quick.value)
        # A mistake in the files is said before anything is begun.
        gpu_data.read(
            given.data.value,
            images=recipe.images,
            validation=given.validation.value,
            test_exact=given.test_exact.value,
        )
    machine = checkout.benchmark("machine")
    env = os.environ | {"JAX_PLATFORMS": machine.PLATFORMS[given.platform.value]}
    described = {"device": checkout.device(given.platform.value, env)}
    described |= machine.describe(given.platform.value)
    out.mkdir(parents=True, exist_ok=True)
    results.save(out / "machine.json", described, quiet=True)
    codes = {}
    for number, (stage, share) in enumerate(shares.items()):
        left = until - time.monotonic()
        seconds = left * share / sum(list(shares.values())[number:])
        if seconds < 1:
            print(f"\n{stage}: no time is left")
            codes[stage] = gpu_recipe.UNFINISHED
            continue
        print(f"\n{stage}: {seconds / 60:.1f} minutes", flush=True)
        late = min(seconds + _GRACE, left)
        codes[stage] = run(command(stage, out, seconds / 60), env, late)
        if codes[stage] in (130, -signal.SIGINT):
            return 130
    if codes.get(ROWS) == 0 and not rows_are_complete(out, given.quick.value):
        codes[ROWS] = gpu_recipe.UNFINISHED
    summary = gpu_summary.summarize(out)
    results.save(out / "summary.json", summary, quiet=True)
    gpu_summary.show(summary)
    return _end(codes, out)


def _end(codes: Mapping[str, int], out: pathlib.Path) -> int:
    """Says what is left to do; returns the exit code."""
    print(f"\nwritten to {out}")
    failed = [stage for stage, code in codes.items() if code not in (0, gpu_recipe.UNFINISHED)]
    unfinished = [stage for stage, code in codes.items() if code == gpu_recipe.UNFINISHED]
    if failed:
        print(f"failed, see above: {', '.join(failed)}", file=sys.stderr)
    if unfinished:
        print(f"not finished in the time: {', '.join(unfinished)}; the same command goes on")
    return 1 if failed else gpu_recipe.UNFINISHED if unfinished else 0


if __name__ == "__main__":
    doors.run(main, _OWN)
