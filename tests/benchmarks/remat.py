"""Memory and time of a training gradient against the number of iterations, by recomputation.

    python tests/benchmarks/remat.py --output=remat.json

RCNN-96 with LRN, one gradient on a batch of 24-pixel images. Each cell of the table is measured in
a process of its own, because the highest memory of a process never goes down again: the memory
that the compiler states for intermediate values, the highest memory of the process above what it
held before the gradient was compiled, the time to compile and the median time of a gradient.
"""

import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

from absl import app, flags

_OUTPUT = flags.DEFINE_string("output", None, "File for the figures, as JSON.")
_STEPS = flags.DEFINE_list("steps", ["1", "2", "4", "8", "16", "32"], "Numbers of iterations.")
_BATCH = flags.DEFINE_integer("batch", 32, "Images.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed gradients a cell, after one that is not.")
_FEATURES = flags.DEFINE_integer("features", 96, "Feature maps K.")
_CELL = flags.DEFINE_string("cell", None, "Measure one cell: METHOD,STEPS. Used by the table.")

METHODS = {
    "unrolled": {"unroll": True},
    "loop": {"unroll": False},
    "loop, remat": {"unroll": False, "remat": True},
    "loop, chunks": {"remat": "chunks"},
}
_MIB = 2**20


def measure(method: str, steps: int) -> dict[str, float]:
    """Measures one cell in this process."""
    import jax
    import jax.numpy as jnp
    import optax

    from rcnn_jax.models.rcnn import RCNN

    model = RCNN(classes=10, features=_FEATURES.value, steps=steps, dropout=0.0, **METHODS[method])
    x = jax.random.normal(jax.random.key(0), (_BATCH.value, 24, 24, 3))
    label = jnp.zeros(_BATCH.value, jnp.int32)
    init = jax.jit(lambda key: model.init(key, x, train=False))
    params = jax.block_until_ready(init(jax.random.key(1)))["params"]

    def loss(params):
        logits = model.apply({"params": params}, x, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    gradient = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
    compiled = time.perf_counter() - began
    times = []
    for _ in range(_REPEATS.value + 1):
        began = time.perf_counter()
        jax.block_until_ready(gradient(params))
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "temporary_mib": gradient.memory_analysis().temp_size_in_bytes / _MIB,
        "peak_mib": (peak - held) / _MIB,
        "compile_s": compiled,
        "gradient_s": statistics.median(times[1:]),
    }


def main(argv: list[str]) -> None:
    """Measures all cells and prints the table."""
    if _CELL.value:
        method, steps = _CELL.value.rsplit(",", 1)
        print(json.dumps(measure(method, int(steps))))
        return
    flag = "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
    env = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.2f}")
    print("| T | method | intermediate MiB | peak MiB | compile s | gradient s |")
    print("|---|---|---|---|---|---|")
    rows = []
    for steps in _STEPS.value:
        for method in METHODS:
            flags_again = [f for f in argv[1:] if not f.startswith("--output")]
            options = [f"--{f.name}={f.value}" for f in (_BATCH, _REPEATS, _FEATURES)]
            command = [sys.executable, argv[0], f"--cell={method},{steps}", *options, *flags_again]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
            row = {"steps": int(steps), "method": method, **json.loads(done.stdout)}
            rows.append(row)
            print(
                f"| {steps} | {method} | {row['temporary_mib']:.0f} | {row['peak_mib']:.0f} "
                f"| {row['compile_s']:.1f} | {row['gradient_s']:.3f} |",
                flush=True,
            )
    if _OUTPUT.value:
        result = {"load_before": load, "batch": _BATCH.value, "cells": rows}
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
