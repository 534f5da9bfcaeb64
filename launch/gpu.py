#!/usr/bin/env python3
"""Measures and trains RCNN on one GPU with one command, within a given time.

    python launch/gpu.py --data=FOLDER_OF_CIFAR10 --out=runs/gpu --minutes=25
    python launch/gpu.py --data=FOLDER_OF_CIFAR10 --out=/tmp/gpu --platform=cpu --quick

It needs jax, flax, optax, orbax-checkpoint, absl-py and numpy; the comparison with torch is left
out if torch is missing. The project need not be installed. The same command continues where the
previous one ended: results in the files of `--out` are not computed again.

Exit code: 0 if everything is done; 3 if time was short and the same command would do more; 1 if a
part failed or the data have a mistake; 2 for a mistake in the command; 130 after an interruption.
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
_GRACE = 30.0  # seconds by which a part may exceed its time before it is stopped
_ENDING = 20.0  # seconds that a stopped part may take to end
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
    """Parses the parts to run and their shares of the time.

    Args:
        given: Parts as `NAME` or `NAME:SHARE`; the share defaults to 1.

    Returns:
        The share of each part by its name, in the given order.

    Raises:
        UsageError: There is no such part, a share is not a finite number above 0, or a part is
            given twice.
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
    """Makes the command line of a part.

    Args:
        stage: Name of the part.
        out: Folder of the results.
        minutes: Time limit of the part in minutes.

    Returns:
        The words of the command line.
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
        # Times on a GPU vary little, there are many rows, and none may use up all the time.
        "--rounds=5", "--window=0.3", "--limit=240",
    ]  # fmt: skip


def run(words: Sequence[str], env: Mapping[str, str], seconds: float) -> int:
    """Runs a part and stops it if it exceeds its time.

    Args:
        words: Words of the command line.
        env: Environment of the process.
        seconds: Time after which the part is interrupted, and killed if it does not end then.

    Returns:
        The exit code of the part, or `gpu_recipe.UNFINISHED` if it was stopped.
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
    """Returns whether every requested row has been measured.

    Args:
        out: Folder of the results.
        quick: Whether only the tiny rows of `--quick` are requested.
    """
    report = checkout.benchmark("report")
    measured = report.load(out / gpu_summary.ROWS_FILE)
    names = [n for n in checkout.benchmark("row").discover() if n.startswith("gpu_")]
    return all(report.has(measured, name, quick) for name in (_QUICK_ROWS if quick else names))


def main(argv: list[str]) -> int:
    """Runs all parts, one after the other, and prints a summary.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code, which the module's docstring explains.

    Raises:
        UserError: The command or the data have a mistake.
    """
    del argv
    until = time.monotonic() + 60 * _MINUTES.value
    shares, given = parse_stages(_STAGES.value), _SHARED
    out = pathlib.Path(given.out.value)
    for stage in set(shares) - {ROWS}:
        recipe = gpu_recipe.make(stage, given.set.value, given.quick.value)
        # A mistake in the files is reported before any part starts.
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
    """Prints what is left to do; returns the exit code."""
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
