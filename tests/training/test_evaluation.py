"""What an evaluation holds of a split, and what it adds up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.metrics.ratios import MeanClassAccuracy
from rcnn_jax.tasks.base import BaseTask, EvaluatedBatch
from rcnn_jax.training import evaluation, meter
from rcnn_jax.training.parallel.mesh import make_devices
from rcnn_jax.training.step import EvaluationStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(BaseTask):
    """Says whether a picture is bright; its evaluation on the host reads labels alone."""

    evaluates_on_host = True
    keeps = ("label",)

    def predict(self, params, model_state, batch):
        del params, model_state
        return {"bright": (batch["image"].mean((1, 2, 3)) > 127).astype(jnp.int32)}

    def evaluate(self, predictions):
        right = [
            (predicted["bright"] == batch["label"])[batch["mask"] > 0]
            for predicted, batch in predictions
        ]
        return {"accuracy": float(np.concatenate(right).mean())}


TASK = Brightness(model=None, train_transform=None, evaluation_transform=None)


def batches(count, size=8, side=224):
    rng = np.random.default_rng(0)
    for number in range(count):
        label = rng.integers(0, 2, size).astype(np.int32)
        image = (
            np.full((size, side, side, 3), 60, np.uint8)
            + (label * 140).astype(np.uint8)[:, None, None, None]
        )
        mask = np.ones(size, np.float32)
        mask[-1] = number % 2
        yield {"image": image, "label": label, "mask": mask}


def step_of(task, **wanted):
    devices = make_devices({"data": 1, "fsdp": 1}, "jit", jax.devices()[:1])
    return EvaluationStep(task, devices, **wanted)


def test_the_host_keeps_what_the_task_names_and_no_picture():
    result = evaluation.evaluate(TASK, step_of(TASK, predictions=True), ({}, {}), batches(6))
    assert result.metrics == {"accuracy": 1.0}
    assert result.count == 45
    held = [x for pair in result.predictions for part in pair for x in part.values()]
    pictures = 6 * 8 * 224 * 224 * 3
    assert sum(x.nbytes for x in held) < pictures / 1000
    with pytest.raises(UsageError, match="reads the feature 'image' of a batch"):
        result.predictions[0][1]["image"]


def test_metrics_of_the_config_stand_beside_those_of_the_task():
    metric = MeanClassAccuracy(classes=2, label="label", prediction="bright")
    metrics = {"mean_accuracy": metric}
    step = step_of(TASK, predictions=True, metrics=metrics)
    result = evaluation.evaluate(TASK, step, ({}, {}), batches(4, side=4), metrics)
    assert result.metrics == {"accuracy": 1.0, "mean_accuracy": 1.0}
    metrics = {"accuracy": metric}
    step = step_of(TASK, predictions=True, metrics=metrics)
    with pytest.raises(UsageError, match="the task measures 'accuracy' already"):
        evaluation.evaluate(TASK, step, ({}, {}), batches(1, side=4), metrics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running(BaseTask):
    """Its metric is the sum of all that came before; its ratio is of counts over the split."""

    def evaluation_carry(self, batch_size):
        return {"seen": jnp.zeros((1,))}

    def evaluate_batch(self, params, model_state, carry, batch, *, predictions, counts):
        del params, model_state, predictions
        seen = carry["seen"] + (batch["label"] * batch["mask"]).sum()
        sums = {"seen": (seen[0], jnp.ones(()))}
        counted = {"labels": jax.nn.one_hot(batch["label"], 2).T @ batch["mask"]} if counts else {}
        return EvaluatedBatch(sums=sums, counts=counted, carry={"seen": seen})

    def ratios(self, counts):
        return {"odds": counts["labels"][1] / counts["labels"][0]}


def test_a_carry_goes_through_a_split_and_ratios_are_of_its_totals():
    task = Running(model=None, train_transform=None, evaluation_transform=None)
    labels = [(b["label"], b["mask"]) for b in batches(5, side=1)]
    totals = np.cumsum([(label * mask).sum() for label, mask in labels])
    result = evaluation.evaluate(
        task, step_of(task, predictions=False), ({}, {}), batches(5, side=1)
    )
    assert result.metrics["seen"] == pytest.approx(totals.mean())
    ones = totals[-1]
    zeros = sum(((1 - label) * mask).sum() for label, mask in labels)
    assert result.metrics["odds"] == pytest.approx(ones / zeros)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nothing(BaseTask):
    """Counts nothing for some of its metrics; of one, a sum is NaN all the same."""

    def evaluate_batch(self, params, model_state, carry, batch, *, predictions, counts):
        del params, model_state, predictions, batch
        zero, one = jnp.zeros(()), jnp.ones(())
        sums = {"empty": (zero, zero), "bad": (zero / zero, zero), "whole": (one, one)}
        return EvaluatedBatch(sums=sums, counts={"n": zero[None]} if counts else {}, carry=carry)

    def ratios(self, counts):
        with np.errstate(invalid="ignore"):
            return {"odds": counts["n"][0] / counts["n"][0], "share": 0.5}


@pytest.mark.filterwarnings("ignore:invalid value")
def test_metrics_that_nothing_was_counted_for_are_named():
    task = Nothing(model=None, train_transform=None, evaluation_transform=None)
    result = evaluation.evaluate(
        task, step_of(task, predictions=False), ({}, {}), batches(1, side=1)
    )
    assert result.undefined == {"empty", "odds"}
    assert np.isnan([result.metrics[name] for name in ("empty", "bad", "odds")]).all()
    assert (result.metrics["whole"], result.metrics["share"]) == (1.0, 0.5)


def test_losses_of_steps_that_counted_nothing_are_left_out_of_a_log_line():
    def sums(total, count):
        return {"loss": (np.float32(total), np.float32(count)), "learning_rate": (0.1, 1.0)}

    speed = meter.Meter("lines", 4)
    speed.add(sums(0, 0))
    speed.add(sums(6, 4))
    assert speed.read(0.0)["loss"] == 1.5
    speed.add(sums(0, 0))
    assert speed.read(0.0)["loss"] is None
    speed.add(sums(np.nan, 0))
    assert np.isnan(speed.read(0.0)["loss"])
    assert meter.mean((0.0, 0.0)) is None
    assert meter.mean((6.0, 4.0)) == 1.5
    assert np.isnan(meter.mean((np.nan, 0.0)))
