"""The input pipeline alone: batches of CIFAR-10's size, from files, from memory, on the device."""

import itertools
import os
import pathlib
from typing import Any

import jax
import numpy as np
from row import Prepared

from rcnn_jax.data import catalog, pipeline, samplers
from rcnn_jax.data.spec import DatasetSpec, Feature
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.layers.randomness import example_keys
from rcnn_jax.training.parallel.mesh import make_devices

_EXAMPLES = 5000


def _read(root: pathlib.Path, split: str) -> dict[str, np.ndarray]:
    del root, split
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (_EXAMPLES, 32, 32, 3)).astype(np.uint8),
        "label": rng.integers(0, 10, _EXAMPLES).astype(np.int32),
    }


PHOTOGRAPHS = DatasetSpec(
    name="photographs",
    version="1.0.0",
    features={"image": Feature((32, 32, 3), "uint8"), "label": Feature((), "int32", classes=10)},
    splits={"train": _EXAMPLES},
    files=lambda root, split: [],
    read=_read,
)


def batches(
    folder: pathlib.Path, *, residency: str, augment: str, batch: int, number: int
) -> Prepared:
    """Batches of training images as a run draws them, from its first to its last.

    Each call starts a pipeline and takes all its batches, so that nothing was made ready before
    the clock started.

    Args:
        folder: where records are kept.
        residency: `stream`, `memory` or `device`.
        augment: transforms, as in a config; empty for none.
        batch: images in a batch.
        number: batches in a call.
    """
    os.environ["XDG_CACHE_HOME"] = str(folder)
    source: Any = catalog.open_source(
        "jax_pipeline:PHOTOGRAPHS", "train", folder, residency=residency
    )
    devices = make_devices({"data": -1, "fsdp": 1}, "jit")
    if residency == "device":
        source = pipeline.DeviceSource(source, devices.place_all)
    sampler = samplers.Shuffled(len(source), batch, seed=0)
    chain = transforms.build(augment, {"pixel_mean": np.zeros((32, 32, 3), np.float32)})
    key = jax.random.key(0)

    @jax.jit
    def augmented(batch: Any, step: Any) -> Any:
        return chain(batch, example_keys(jax.random.fold_in(key, step), batch["mask"].shape[0]))

    now: dict[str, Any] = {}

    def run() -> None:
        with pipeline.train_batches(
            source, sampler, start_step=0, num_steps=number, residency=residency,
            place=devices.place, place_all=devices.place_all,
        ) as drawn:  # fmt: skip
            for step, one in zip(itertools.count(), drawn, strict=False):
                now["last"] = jax.block_until_ready(augmented(one, step) if augment else one)

    def answers() -> dict[str, np.ndarray]:
        name = "augmented images" if augment else "images"
        return {name: np.asarray(now["last"]["image"], np.float32)}

    return Prepared(run, answers, work=batch * number, unit="images")
