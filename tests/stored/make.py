"""Makes the stored workdirs: run once, by the version whose runs are to stay readable for ever.

    git clone . /tmp/a20cca2 && git -C /tmp/a20cca2 checkout a20cca2
    PYTHONPATH=/tmp/a20cca2 python tests/stored/make.py tests/stored/a20cca2

Each workdir is that of a run stopped after step `AT`; beside it lies the state of the same run
twenty steps later, `later.npz`, what `evaluate` said at step `AT`, and the machine it came from.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

AT, LATER = 10, 30

_ADAM = {"optimizer.name": "adam", "optimizer.clip_norm": 1.0, "schedule.value": 1e-3}
# name -> (shipped config, what is changed in it); all no wider than 16.
EXPERIMENTS: dict[str, tuple[str, dict[str, object]]] = {
    "digits": (
        "rcnn_digits",
        {"model.features": 8, "data.train": "train[:200]", "schedule.value": 0.01},
    ),
    "transforms": (
        "rcnn_digits",
        {
            "model.features": 8,
            "data.train": "train[:200]",
            "data.preprocess": "to_float(16)|subtract_pixel_mean|gcn_zca|standardize"
            "|normalize((0.1,), (2.0,))|reverse_channels",
            "data.augment": "pad_crop(1, 'zeros')|random_affine(5, 0.1, 0.5)|cutout(2)"
            "|random_crop(6)|alternating_flip|flip|resize(8)|center_crop(7)",
            "data.augment_until": "((0.5, 'random_crop(7)|flip'),)",
            "data.evaluate": "resize(12)|nine_crop(7, 2)",
            "sampler.name": "rcnn_jax.data.samplers:ShuffledWithEpochs",
            "schedule.value": 0.01,
        },
    ),
    "init_fit": (
        "rcnn_digits",
        {
            "model.features": 8,
            "data.train": "train[:200]",
            "init_fit.name": "rcnn_jax.data.patches:WhitenedKernel",
            "init_fit.path": "conv/kernel",
            "schedule.value": 0.01,
        },
    ),
    "tagger": (
        "tagger_bookings",
        {"model.features": 8, "model.hidden": 8, "data.train": "train[:200]"} | _ADAM,
    ),
    "buckets": (
        "tagger_bookings",
        {
            "model.features": 8,
            "model.hidden": 8,
            "model.cell": "gru",
            "data.train": "train[:200]",
            "sampler.name": "rcnn_jax.data.buckets:Buckets",
            "sampler.edges": "(8, 12)",
        }
        | _ADAM,
    ),
    "captioner": (
        "caption_shapes",
        {
            "model.features": 16,
            "model.hidden": 16,
            "model.backbone.features": "(4, 8, 8, 8)",
            "model.backbone.units": 8,
            "model.backbone.hidden": 16,
            "data.name": "shapes_world",
            "data.train": "train[:64]",
            "data.validation": "validation[:32]",
            "xla_flags": "()",
        }
        | _ADAM,
    ),
    "transcriber": (
        "transcribe_digits",
        {
            "model.features": "(4, 8, 8)",
            "model.hidden": 8,
            "data.train": "train[:100]",
            "data.validation": "validation[:32]",
            "sampler.edges": "(64,)",
        }
        | _ADAM,
    ),
    "encoder_decoder": (
        "dates",
        {
            "model.features": 8,
            "model.hidden": 16,
            "data.train": "train[:200]",
            "data.validation": "validation[:64]",
        }
        | _ADAM,
    ),
}
COMMON = {
    "batch_size": 16,
    "evaluation_batch_size": 64,
    "epochs": 0.0,
    "steps": LATER,
    "log_every": AT,
    "evaluate_every": AT,
    "keep_latest": 3,
    "data.residency": "memory",
}


def run(door: str, *arguments: str) -> None:
    """Runs a door of the version that is imported."""
    subprocess.run([sys.executable, "-m", f"rcnn_jax.{door}", *arguments], check=True)


def machine() -> dict[str, str]:
    """The CPU, which the bits of a result depend on besides what a checkpoint notes."""
    fields: dict[str, str] = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return {name: fields.get(name, "") for name in ("model name", "flags")}


def make(target: pathlib.Path) -> None:
    """Makes all of them below `target`."""
    from rcnn_jax.training import checkpoints

    for name, (config, changes) in EXPERIMENTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            made = pathlib.Path(scratch) / "run"
            overrides = [f"--config.{k}={v}" for k, v in {**COMMON, **changes}.items()]
            run("train", f"--config={config}", f"--workdir={made}", *overrides)
            folder = made / "checkpoints"
            later = _leaves(checkpoints, folder, LATER)
            for step in checkpoints.steps(folder):
                if step != AT:
                    shutil.rmtree(folder / str(step))
            run("evaluate", f"--workdir={made}", "--step=latest", "--split=validation")
            lines = (made / "metrics.jsonl").read_text().splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= AT]
            (made / "metrics.jsonl").write_text("".join(kept))
            for extra in ("gallery", ".lock"):
                shutil.rmtree(made / extra, ignore_errors=True)
                (made / extra).unlink(missing_ok=True)
            shutil.copytree(made, target / name, dirs_exist_ok=True)
            np.savez_compressed(target / name / "later.npz", **later)
    (target / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")


def _leaves(checkpoints, folder: pathlib.Path, step: int) -> dict:
    """Every leaf of a state by path."""
    from rcnn_jax.training import checksums, paths

    leaves = checkpoints._manifest(folder, step)["leaves"]
    # Without an abstract tree Optax's tuples come back as dicts: only paths and values are kept.
    with checkpoints._alone():
        tree = checkpoints.ocp.load(folder.resolve() / str(step), checkpointable_name="state")
    flat = {path: np.asarray(checksums.raw(leaf)) for path, leaf in paths.flatten(tree).items()}
    assert flat.keys() == leaves.keys(), (sorted(flat), sorted(leaves))
    return flat


if __name__ == "__main__":
    make(pathlib.Path(sys.argv[1]))
