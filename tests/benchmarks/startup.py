"""Time from the start of a process to its first training step, by cache of compiled programs.

    python tests/benchmarks/startup.py --output=startup.json

Each start is a process of `rcnn_jax.train`, watched until it says that the first step is taken,
and then killed. `off` compiles and keeps nothing, `cold` fills an empty cache, `warm` finds what
`cold` left there. The three alternate. RCNN-64 on digits, and RCNN-96 on random images of the size
of CIFAR-10's, which are read from nowhere: the time is that of imports, compilation and one step.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from rcnn_jax.data.spec import DatasetSpec, Feature

CASES = {
    "RCNN-64, digits": ["--config=rcnn_digits"],
    "RCNN-96, 32x32x3": [
        "--config=rcnn_cifar10",
        "--config.data.name=startup:PHOTOGRAPHS",
        "--config.data.train=train",
        "--config.data.validation=validation",
    ],
}
WAYS = ("off", "cold", "warm")
_CHILD = "--child"


def _read(root: pathlib.Path, split: str) -> dict[str, np.ndarray]:
    del root
    rng = np.random.default_rng(len(split))
    return {
        "image": rng.integers(0, 256, (512, 32, 32, 3)).astype(np.uint8),
        "label": rng.integers(0, 10, 512).astype(np.int32),
    }


PHOTOGRAPHS = DatasetSpec(
    name="photographs",
    version="1.0.0",
    features={"image": Feature((32, 32, 3), "uint8"), "label": Feature((), "int32", classes=10)},
    splits={"train": 512, "validation": 512, "test": 512},
    files=lambda root, split: [],
    read=_read,
)


def child() -> None:
    """Trains, with the cache in the folder that the command names."""
    from rcnn_jax import train
    from rcnn_jax.configuration import environment
    from rcnn_jax.startup import compilation_cache, doors

    del sys.argv[1]
    folder = sys.argv.pop(1)

    def main(argv: list[str]) -> int:
        if folder == "off":
            os.environ[environment.COMPILATION_CACHE] = "0"
        compilation_cache.enable(None if folder == "off" else folder)
        return train.main(argv)

    doors.run(main, train.FLAGS)


def seconds_to_first_step(flags: list[str], folder: str) -> float:
    """Starts one process and kills it after its first step."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, __file__, _CHILD, folder, *flags, f"--workdir={workdir}/run"]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("first step"):
                    taken = time.perf_counter() - began
                    process.kill()
                    return taken
    raise RuntimeError(f"no first step was taken by: {' '.join(command)}")


def main() -> None:
    """Measures all starts and prints the table."""
    parser = argparse.ArgumentParser(description="Time to the first step.")
    parser.add_argument("--output", help="File for the figures, as JSON.")
    parser.add_argument("--repeats", type=int, default=5, help="Starts of each kind.")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.2f}")
    times = {case: {way: [] for way in WAYS} for case in CASES}
    for _ in range(options.repeats):
        for case, flags in CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                for way in WAYS:
                    taken = seconds_to_first_step(flags, "off" if way == "off" else folder)
                    times[case][way].append(taken)
    print("| net | cache | median s | lowest s | highest s |")
    print("|---|---|---|---|---|")
    for case, ways in times.items():
        for way, taken in ways.items():
            middle = statistics.median(taken)
            print(f"| {case} | {way} | {middle:.1f} | {min(taken):.1f} | {max(taken):.1f} |")
    if options.output:
        result = {"load_before": load, "seconds": times}
        pathlib.Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    child() if sys.argv[1:2] == [_CHILD] else main()
