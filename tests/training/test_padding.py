"""Rows of padding in a training batch: as if they were not there."""

import functools

import jax
import numpy as np
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.data import pipeline, sources
from rcnn_jax.data.spec import Feature
from rcnn_jax.experiment import task
from rcnn_jax.training import step
from rcnn_jax.training.parallel.mesh import make_devices

pytestmark = pytest.mark.one_row

FEATURES = {"image": Feature((8, 8, 1), "uint8"), "label": Feature((), "int32", 10)}
RNG = np.random.default_rng(0)
ROWS = {
    "image": RNG.integers(0, 17, (16, 8, 8, 1)).astype(np.uint8),
    "label": RNG.integers(0, 10, 16).astype(np.int32),
}
REAL = np.array([0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 14, 15])


def after_a_step(rows, mask, devices=1, accumulate=1):
    """Parameters, statistics and metrics after one step on a batch."""
    given = complete(
        {
            "model": {
                "name": "rcnn_jax.models.rcnn:RCNN", "classes": 10, "features": 8, "steps": 2,
                "norm": "batch", "dropout": 0.0,
            },
            "data": {"preprocess": "to_float(16)"},
            "batch_size": len(mask),
            "steps": 2,
            "precision": "float64",
        },
        "test",
    )  # fmt: skip
    spread = make_devices({"data": -1, "fsdp": 1}, "jit", jax.devices()[:devices])
    source = sources.ArraySource(ROWS, FEATURES)
    recipe = task.make_recipe(given, task.build_task(given, {}), source, 2)
    make = functools.partial(
        step.make_train_step,
        recipe.task, recipe.optimizer, recipe.schedule, recipe.plateau,
        padded=bool((mask == 0).any()), accumulate=accumulate, devices=devices,
    )  # fmt: skip
    train_step = step.compile_train_step(make, spread)
    batch = spread.place({**rows, "mask": mask.astype(np.float32)})
    state, sums = train_step(recipe.create_state(spread), batch)
    return jax.device_get((state.params, state.model_state, sums))


@pytest.mark.parametrize("devices", [1, 4])
def test_a_step_with_padding_is_the_step_without_it(x64, devices):
    """Also of the statistics of batch normalisation, in every iteration."""
    mask = np.isin(np.arange(16), REAL)
    padded = {
        name: np.where(mask.reshape(-1, *[1] * (v.ndim - 1)), v, 0) for name, v in ROWS.items()
    }
    ours = after_a_step(padded, mask, devices)
    theirs = after_a_step({name: v[REAL] for name, v in ROWS.items()}, np.ones(12))
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_of_nothing_but_padding_teaches_nothing(x64, accumulate):
    nothing = {name: np.zeros_like(values[:4]) for name, values in ROWS.items()}
    params, statistics, _ = after_a_step(nothing, np.zeros(4), accumulate=accumulate)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, statistics)))


class Holes:
    """Gives every batch an empty row, and does not say so."""

    size, batch_size, steps_per_epoch = 16, 4, 4.0

    def indices(self, step):
        return np.array([step, step + 1, -1, step + 2])

    def epoch(self, step):
        return step / 4


def test_a_sampler_with_empty_rows_must_say_so():
    source = sources.ArraySource(ROWS, FEATURES)
    arguments = {"start_step": 0, "num_steps": 1, "residency": "memory", "place": lambda x: x}
    with (
        pipeline.train_batches(source, Holes(), **arguments) as batches,
        pytest.raises(ValueError, match="Holes gives batch 0 empty rows and has no attribute"),
    ):
        next(batches)
    admitted = type("Admitted", (Holes,), {"pads": True})()
    with pipeline.train_batches(source, admitted, **arguments) as batches:
        assert next(batches)["mask"].tolist() == [1, 1, 0, 1]
