"""Learning rates at the steps where they are known."""

import jax
import numpy as np
import pytest

from rcnn_jax.configuration.loading import complete, load
from rcnn_jax.errors import UsageError
from rcnn_jax.training import schedules


def rates(steps, at, **changes):
    schedule = schedules.build(complete({"schedule": changes}, "test").schedule, steps)
    return [float(schedule(t)) for t in at]


@pytest.mark.parametrize(
    ("changes", "at", "expected"),
    [
        ({"name": "constant", "value": 0.3}, [0, 99], [0.3, 0.3]),
        ({"name": "plateau", "value": 0.3}, [0, 99], [0.3, 0.3]),
        ({"name": "cosine", "value": 1.0}, [0, 50, 100], [1.0, 0.5, 0.0]),
        ({"name": "cosine", "value": 1.0, "final_fraction": 0.1}, [100], [0.1]),
        (
            {"name": "exponential", "value": 0.5, "final_fraction": 0.01},
            [0, 25, 50, 100],
            [0.5, 0.5 * 0.1**0.5, 0.05, 0.005],
        ),
        (
            {"name": "exponential", "warmup_fraction": 0.5, "final_fraction": 0.25, "value": 2.0},
            [25, 50, 75, 100],
            [1.0, 2.0, 1.0, 0.5],
        ),
        (
            {"name": "triangular", "value": 2.0, "warmup_fraction": 0.2},
            [0, 10, 20, 60, 100],
            [0.0, 1.0, 2.0, 1.0, 0.0],
        ),
        (
            {"name": "stepwise", "value": 1.0, "boundaries": (0.5, 0.75), "factor": 0.1},
            [0, 49, 51, 74, 76],
            [1.0, 1.0, 0.1, 0.1, 0.01],
        ),
        (
            {"name": "stepwise", "value": 1.0, "warmup_fraction": 0.1, "boundaries": (0.5,)},
            [5, 10, 49, 51],
            [0.5, 1.0, 1.0, 0.1],
        ),
    ],
)
def test_rates(changes, at, expected):
    np.testing.assert_allclose(rates(100, at, **changes), expected, atol=1e-6)


def test_the_final_rate_would_be_reached_one_step_after_the_last():
    assert rates(100, [99], name="triangular", value=1.0) == pytest.approx([0.01])
    cosine = 0.5 * (1 + np.cos(np.pi * 0.99))
    assert rates(100, [99], name="cosine", value=1.0) == pytest.approx([cosine], rel=1e-3)
    last = rates(100, [99], name="exponential", value=1.0, final_fraction=0.01)
    assert last == pytest.approx([0.01**0.99])


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_plateau_lowers_the_rate_when_the_metric_stalls(mode, sign):
    config = complete({"schedule": {"name": "plateau", "patience": 2, "factor": 0.1}}, "test")
    plateau = schedules.Plateau(config.schedule, mode)
    state = plateau.init()
    scales = []
    for metric in [0.5, 0.4, 0.45, 0.4, 0.39, 0.6, 0.6, 0.6, 0.6]:
        state = plateau.update(state, sign * metric)
        scales.append(float(plateau.scale(state)))
    expected = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    np.testing.assert_allclose(scales, expected, rtol=1e-5)


def test_the_drops_of_a_plateau_are_replayed_on_all_images():
    """`:paper` finds them on the validation split, `:paper,retrain` has none to watch."""
    name, epochs = "rcnn_cifar10:paper", 20
    with pytest.raises(UsageError, match=r"--config\.schedule\.boundaries=0\.4,0\.6"):
        load(f"{name},retrain")
    plateau = schedules.Plateau(load(name).schedule, "min")
    update = jax.jit(plateau.update)
    state, falls, scales = plateau.init(), [], []
    for epoch in range(1, epochs + 1):
        state = update(state, max(0.5 - 0.1 * epoch, 0.2))
        scales.append(float(plateau.scale(state)))
        if scales[-1] < 0.5 * ([1.0, *scales][-2]):
            falls.append(epoch / epochs)
    boundaries = ",".join(map(str, falls))
    replay = load(
        f"{name},retrain",
        [("schedule.name", "stepwise"), ("schedule.boundaries", boundaries)],
    )
    assert (replay.data.train, replay.data.validation) == ("train", "")
    # An epoch of 50,000 images has more steps than one of 40,000, and the same rate.
    rates = schedules.build(replay.schedule, epochs * 782)(np.arange(782, epochs * 782))
    np.testing.assert_allclose(rates, 0.01 * np.repeat(scales[:-1], 782), rtol=1e-5)
    assert scales[0] == 1.0
    assert scales[-2] < 0.02


COMPARATORS = ["fmp", "fully_connected", "maxout", "nin", "resnet"]


@pytest.mark.parametrize("name", [f"{name}_cifar10" for name in COMPARATORS])
def test_all_images_are_one_variant_away_from_selection(name):
    selection, retrain = load(name), load(f"{name}:retrain")
    assert selection.data.validation.startswith("train[")
    assert (retrain.data.train, retrain.data.validation) == ("train", "")
    assert retrain.schedule.to_dict() == selection.schedule.to_dict()


def test_other_schedules_ignore_the_metric():
    plateau = schedules.Plateau(complete({}, "test").schedule, "min")
    assert plateau.update(plateau.init(), 0.1) == ()
    assert plateau.scale(()) == 1.0
