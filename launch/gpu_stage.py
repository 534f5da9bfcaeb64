"""Trains one network of `gpu.py` in a separate process and writes the results.

python launch/gpu_stage.py --stage=rcnn96 --data=FOLDER --out=runs/gpu --minutes=8
python launch/gpu_stage.py --stage=rcnn96 --data=FOLDER --out=runs/gpu --evaluate
"""

import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import checkout
import gpu_data
import gpu_net
import gpu_recipe
import gpu_training
import jax
import numpy as np
from absl import flags

from rcnn_jax.errors import UserError
from rcnn_jax.output import results
from rcnn_jax.startup import doors
from rcnn_jax.training import parameters
from rcnn_jax.training.checkpoints import reading, saving

_OWN = flags.FlagValues()
_STAGE = flags.DEFINE_enum("stage", "rcnn96", gpu_recipe.STAGES, "The net.", flag_values=_OWN)
_MINUTES = flags.DEFINE_float("minutes", 8.0, "In how long.", 0.0, flag_values=_OWN)
_EVALUATE = flags.DEFINE_bool(
    "evaluate", False, "Evaluate what was trained; train nothing.", flag_values=_OWN
)
_SHARED = gpu_recipe.define_flags(_OWN)
_KEPT = SimpleNamespace(
    keep_latest=1,
    keep_best=0,
    best_metric="error",
    best_mode="min",
    divergence=SimpleNamespace(max_loss=0.0),
)
ABOUT = {
    "seconds": "of training alone: all steps, and the host's work for them; without reading and "
    "placing the data, compiling, two dispatches by which epochs were chosen, and evaluations",
    "error": "of the weights after the last step, whatever the curve was before",
    "seconds_to_published": "seconds at the first point of the curve whose error is at most the "
    "published one; null: none is",
    "float32": "is what jax makes of it unless told: TF32 in products on cards that have it",
}


def run_stage(
    stage: str,
    recipe: gpu_recipe.Recipe,
    data: gpu_data.Data,
    out: pathlib.Path,
    *,
    seeds: int,
    minutes: float,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains a network with each of the requested seeds that has no results yet.

    Args:
        stage: Name of the stage.
        recipe: Recipe of the training.
        data: Images to train and evaluate on.
        out: Folder of the results, in which `STAGE.json` is written.
        seeds: Number of seeds, which are 0, 1, ...
        minutes: Time limit in minutes, which the seeds share evenly.
        say: Function that gets messages about the progress.

    Returns:
        The results as they are written.

    Raises:
        UserError: The folder holds results of another recipe or of other images.
    """
    until = time.monotonic() + 60 * minutes
    path = out / f"{stage}.json"
    asked = {"recipe": dataclasses.asdict(recipe), "data": dict(data.about)}
    there = _read(path, asked)
    runs = [run for run in there.get("runs", ()) if run["finished"]]
    left = [seed for seed in range(seeds) if seed not in [run["seed"] for run in runs]]
    result = {"stage": stage, "complete": not left, **asked, "about": ABOUT, "runs": runs}
    if not left:
        say(f"{path} is there and complete")
        return result
    out.mkdir(parents=True, exist_ok=True)
    trainer = gpu_training.get_ready(recipe, data)
    facts = {**_machine(), **trainer.facts}

    def keep(run: dict[str, Any]) -> None:
        last = run["curve"][-1]
        say(
            f"{stage}, seed {run['seed']}: epoch {last['epoch']:.1f}, {last['seconds']:.1f} s, "
            f"error {last['error']:.2%}, in training {last['training_error']:.2%}"
        )
        # A training counts as finished only after its weights have been saved.
        partial = {**run, **facts, "finished": False}
        results.save(path, result | {"runs": [*runs, partial]}, quiet=True)

    for number, seed in enumerate(left):
        share = (until - time.monotonic()) / (len(left) - number)
        run, now = gpu_training.train(trainer, seed, time.monotonic() + share, keep)
        if not np.isfinite(run["curve"][-1]["training_loss"]):
            say(f"{stage}, seed {seed}: {run['stopped']}; nothing is kept of its weights")
        else:
            _save(folder_of(out, stage, seed), now, run)
        runs.append({**run, **facts, "peak_mib": _peak_mib()})
        done = number + 1 == len(left) and all(run["finished"] for run in runs)
        result |= {"complete": done}
        results.save(path, result, quiet=True)
    return result


def _machine() -> dict[str, Any]:
    """Describes the machine of a training and jax's precision of matrix products on it."""
    device = jax.devices()[0]
    settings: Any = jax.config
    name = "cpu" if device.platform == "cpu" else "gpu"
    return {
        "machine": checkout.benchmark("machine").describe(name),
        "device": device.device_kind,
        "jax_default_matmul_precision": settings.jax_default_matmul_precision,
    }


def folder_of(out: pathlib.Path, stage: str, seed: int) -> pathlib.Path:
    """Returns the folder of the weights of a training.

    Args:
        out: Folder of the results.
        stage: Name of the stage.
        seed: Seed of the training.
    """
    return out / "checkpoints" / f"{stage}-seed{seed}"


def _save(folder: pathlib.Path, now: Any, run: Mapping[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a training that had no time to finish
    params, model_state = now.evaluated()
    with saving.Checkpoints(folder, _KEPT) as kept:
        tree = {"params": params, "model_state": model_state}
        kept.save(run["steps"], tree, evaluates=True)
        kept.evaluated(run["steps"], {"error": run["error"]})


def _peak_mib() -> float | None:
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / 2**20 if "peak_bytes_in_use" in stats else None


def _read(path: pathlib.Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        there = json.loads(path.read_text())
        differing = [key for key in asked if there[key] != asked[key]]
        changed = [
            f"{name}={there[key].get(name)}"
            for key in differing
            for name in asked[key]
            if there[key].get(name) != asked[key][name]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no results of a training ({error}).") from error
    if changed:
        raise UserError(
            f"{path} is of another training, with {', '.join(changed)}: name another folder with "
            "--out."
        )
    return there


def evaluate_saved(
    stage: str, recipe: gpu_recipe.Recipe, data: gpu_data.Data, out: pathlib.Path
) -> dict[str, Any]:
    """Evaluates the weights that the trainings of a stage have saved.

    Args:
        stage: Name of the stage.
        recipe: Recipe of the training.
        data: Images to evaluate on.
        out: Folder of the results.

    Returns:
        `{"stage", "data", "weights"}`, with error and loss of each training under `weights`.

    Raises:
        UserError: There are no weights, or all of them are damaged.
    """
    folders = sorted((out / "checkpoints").glob(f"{stage}-seed*"))
    if not folders:
        raise UserError(f"--out={out} holds no weights of {stage}: train it first.")
    net = gpu_net.make(recipe, data.train)
    evaluation = gpu_net.Evaluation(net, data.test)
    now = jax.eval_shape(net.initial, 0)
    abstract = {"params": now.params, "model_state": now.model_state}
    metrics = {}
    for folder in folders:
        damaged: list[str] = []
        weights = reading.read_variables(folder, damaged)
        tree = parameters.map_paths(lambda path, _, weights=weights: weights[path], abstract)
        metrics[folder.name] = evaluation(tree["params"], tree["model_state"])
    return {"stage": stage, "data": dict(data.about), "weights": metrics}


def main(argv: list[str]) -> int:
    """Trains or evaluates a stage.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code: 0 if the stage is complete, `gpu_recipe.UNFINISHED` if time was short.

    Raises:
        UserError: The command or the data have a mistake.
    """
    del argv
    began = time.monotonic()
    doors.quiet_libraries()
    given = _SHARED
    stage, out = _STAGE.value, pathlib.Path(given.out.value)
    recipe = gpu_recipe.make(stage, given.set.value, given.quick.value)
    data = gpu_data.read(
        given.data.value,
        images=recipe.images,
        validation=given.validation.value,
        test_exact=given.test_exact.value,
    )
    platforms = checkout.benchmark("machine").PLATFORMS
    jax.config.update("jax_platforms", platforms[given.platform.value])
    if _EVALUATE.value:
        evaluation = evaluate_saved(stage, recipe, data, out)
        rows = [{"weights": name, **metrics} for name, metrics in evaluation["weights"].items()]
        results.show(f"{stage} on {data.about['evaluated']}", rows)
        results.save(out / f"{stage}_evaluation.json", evaluation)
        return 0
    result = run_stage(
        stage, recipe, data, out, seeds=given.seeds.value,
        minutes=_MINUTES.value - (time.monotonic() - began) / 60,
        say=lambda text: print(text, flush=True),
    )  # fmt: skip
    return 0 if result["complete"] else gpu_recipe.UNFINISHED


if __name__ == "__main__":
    doors.run(main, _OWN)
