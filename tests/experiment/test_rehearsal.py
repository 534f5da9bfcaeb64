"""What would end or spoil a run later is said before it starts, in one sentence."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.configuration import importing
from rcnn_jax.configuration.loading import complete
from rcnn_jax.data import sources
from rcnn_jax.data.samplers import Shuffled
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UsageError
from rcnn_jax.experiment import data, rehearsal
from rcnn_jax.experiment import task as task_lib
from rcnn_jax.metrics.ratios import MeanIoU
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training.parallel.mesh import make_devices
from rcnn_jax.training.step import EvaluationStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line(BaseTask):
    """A line through points; `wrong` changes one part of what it returns."""

    wrong: dict = dataclasses.field(default_factory=dict, hash=False)

    def init(self, key, batch):
        del key, batch
        return self.wrong.get("init", ({"w": jnp.zeros((1,))}, {"seen": jnp.zeros((2,))}))

    @property
    def _changed(self):
        fields = {field.name for field in dataclasses.fields(LossOutput)}
        return {name: value for name, value in self.wrong.items() if name in fields}

    def initial_carry(self, batch_size):
        return {"h": jnp.zeros((batch_size, 3))}

    def loss(self, params, model_state, carry, batch, key):
        del key
        if "raises" in self.wrong:
            raise KeyError("nothing")
        error = (params["w"] * batch["x"] - batch["x"]) ** 2 * batch["mask"]
        out = LossOutput(
            total=error.sum(), count=batch["mask"].sum(), model_state=model_state, carry=carry
        )
        return self.wrong["returns"] if "returns" in self.wrong else out.replace(**self._changed)

    def metrics(self, params, model_state, batch):
        del model_state
        error = (params["w"] * batch["x"] - batch["x"]) ** 2 * batch["mask"]
        return self.wrong.get("sums", {"error": (error.sum(), batch["mask"].sum())})

    def predict(self, params, model_state, batch):
        del model_state
        return self.wrong.get("predict", {"y": params["w"] * batch["x"]})


CONFIG = complete({"task": {"name": "fork:Line"}, "batch_size": 8, "steps": 1}, "test")
TASK = Line(model=None, train_transform=None, evaluation_transform=None)
SHAPES = {name: jax.ShapeDtypeStruct((8,), np.float32) for name in ("x", "mask")}
SHAPES["kind"] = jax.ShapeDtypeStruct((8,), np.int32)


def recipe(task):
    return task_lib.Recipe(
        task=task, optimizer=None, schedule=None, plateau=None, batch=SHAPES, seed=0, ema=False
    )


def test_a_task_that_is_right_passes():
    rehearsal.check_training_pass(CONFIG, recipe(TASK))
    rehearsal.check_evaluation_pass(CONFIG, recipe(TASK), {})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"carry": {"h": jnp.zeros((8, 4))}}, "the carry h is float32[8, 3] before a batch and "
         "float32[8, 4] after it: it must keep its shape and dtype"),
        ({"carry": {"h": jnp.zeros((8, 3), jnp.bfloat16)}}, "bfloat16[8, 3] after it"),
        ({"carry": ()}, "the carry h is float32[8, 3] before a batch and missing after it"),
        ({"model_state": {"seen": jnp.zeros((3,))}}, "the model state seen is float32[2] before"),
        ({"model_state": None}, "the model state seen is float32[2] before a batch and missing"),
        ({"total": jnp.zeros((8,))}, "`total` is the loss summed over the examples of the batch, "
         "a scalar, not float32[8]"),
        ({"count": None}, "`count` is what it is divided by, a scalar, not None"),
        ({"total": jnp.zeros((), jnp.int32)}, "`total` is a floating number, not int32[]"),
        ({"metrics": {"seen": jnp.zeros(())}}, "'seen' is a pair (sum, count) of scalars, not "
         "float32[]"),
        ({"metrics": {"loss": (jnp.zeros(()), jnp.ones(()))}}, "'loss', which every step reports"),
        ({"returns": (jnp.zeros(()), 1)}, "returns a LossOutput, not a tuple"),
        ({"init": {"w": jnp.zeros(())}}, "`init` of fork:Line returns (params, model_state), not "
         "a dict"),
        ({"raises": True}, "a training step of fork:Line cannot be traced: KeyError: 'nothing' ("),
    ],
)  # fmt: skip
def test_what_a_loss_returns_is_checked(wrong, sentence):
    with pytest.raises(UsageError) as error:
        rehearsal.check_training_pass(CONFIG, recipe(dataclasses.replace(TASK, wrong=wrong)))
    assert sentence in str(error.value)
    if "raises" in wrong:
        assert "experiment/test_rehearsal.py:" in str(error.value)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (dataclasses.replace(TASK, wrong={"sums": {"error": 0.5}}), "'error' is a pair"),
        (dataclasses.replace(TASK, wrong={"sums": {"err": (1.0, 1.0)}}), "did you mean 'err'?"),
    ],
)
def test_what_an_evaluation_returns_is_checked(task, sentence):
    with pytest.raises(UsageError) as error:
        rehearsal.check_evaluation_pass(CONFIG, recipe(task), {})
    assert sentence in str(error.value)


def test_a_metric_of_the_config_may_rank_checkpoints_and_must_find_its_features():
    config = complete(
        {"task": {"name": "fork:Line"}, "batch_size": 8, "steps": 1, "best_metric": "iou"}, "test"
    )
    by_label = {"iou": MeanIoU(classes=2, label="kind", prediction="kinds")}
    task = dataclasses.replace(TASK, wrong={"predict": {"kinds": jnp.zeros((8,), jnp.int32)}})
    rehearsal.check_evaluation_pass(config, recipe(task), by_label)
    with pytest.raises(ValueError, match="MeanIoU needs label='labels', there are kind, mask, x"):
        rehearsal.check_evaluation_pass(
            config, recipe(task), {"iou": MeanIoU(classes=2, label="labels", prediction="y")}
        )


class OnHost(Line):
    evaluates_on_host = True

    def evaluate(self, predictions):
        (predicted, batch), *rest = predictions
        assert not rest
        assert batch["mask"][-1] == 0, "no row is padding"
        if self.wrong.get("reads"):
            return {"error": float(batch[self.wrong["reads"]].sum())}
        return {self.wrong.get("named", "error"): float(np.abs(predicted["y"]).max())}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, ""),
        ({"named": "accuracy"}, "config.best_metric='error' is not measured by fork:Line"),
        ({"reads": "x"}, "reads the feature 'x' of a batch, and the task keeps 'mask': name it"),
    ],
)
def test_the_evaluation_on_the_host_runs_once_on_a_padded_batch(wrong, sentence):
    wrong = wrong | {"sums": {}}
    task = OnHost(model=None, train_transform=None, evaluation_transform=None, wrong=wrong)
    devices = make_devices({"data": 1, "fsdp": 1}, "jit")
    source = sources.ArraySource({"x": np.ones(20, np.float32)}, {"x": Feature((), "float32")})
    step = EvaluationStep(task, devices, predictions=True)
    variables = ({"w": jnp.ones((1,))}, {})

    def rehearse():
        return rehearsal.rehearse_evaluation(CONFIG, task, step, variables, source, devices, {})

    if not sentence:
        assert rehearse() == {"error": 1.0}
        return
    with pytest.raises(UsageError) as error:
        rehearse()
    assert sentence in str(error.value)


class Pairs(Line):
    """Its loss looks at all pairs of what it is given."""

    def loss(self, params, model_state, carry, batch, key):
        out = super().loss(params, model_state, carry, batch, key)
        return out.replace(total=((batch["x"][:, None] - batch["x"][None]) ** 2).sum())


@pytest.mark.parametrize(
    ("layout", "state", "outcome"),
    [
        ({"parallelism": "pmap"}, {}, "by pmap on 4 devices"),
        ({"accumulate": 2}, {}, "in 2 parts"),
        ({"accumulate": 2}, {"seen": jnp.zeros((2,))}, "note"),
        ({}, {}, ""),
    ],
)
def test_rows_that_are_coupled_are_seen(layout, state, outcome):
    kind = Line if layout.get("right") else Pairs
    task = kind(
        model=None, train_transform=None, evaluation_transform=None,
        wrong={"init": ({"w": jnp.zeros((1,))}, state)},
    )  # fmt: skip
    config = complete(
        {"task": {"name": "fork:Pairs"}, "batch_size": 16, "steps": 1} | layout, "test"
    )
    devices = make_devices({"data": 4, "fsdp": 1}, config.parallelism)
    source = sources.ArraySource(
        {"x": np.arange(32, dtype=np.float32)}, {"x": Feature((), "float32")}
    )
    arguments = (config, recipe(task), devices, source, Shuffled(32, 16, 0))
    if outcome in ("", "note"):
        note = rehearsal.coupled_rows(*arguments)
        assert bool(note) == bool(outcome)
        assert not note or "config.accumulate=2 is not one large batch for this model" in note
    else:
        with pytest.raises(UsageError, match="the rows of a batch are coupled") as error:
            rehearsal.coupled_rows(*arguments)
        assert outcome in str(error.value)
    # Rows that are apart are never taken for coupled.
    apart = Line(
        model=None, train_transform=None, evaluation_transform=None, wrong=dict(task.wrong)
    )
    assert rehearsal.coupled_rows(config, recipe(apart), *arguments[2:]) == ""


def test_a_sampler_of_a_fork_is_checked_at_every_batch():
    from rcnn_jax.data import pipeline

    source = sources.ArraySource(
        {"x": np.arange(6, dtype=np.float32)}, {"x": Feature((), "float32")}
    )

    def sampler(indices):
        return types.SimpleNamespace(size=6, batch_size=3, indices=lambda step: np.array(indices))

    for indices, sentence in (
        ([0, 1], r"int64\[2\] for batch 0, which are to be 3 whole numbers"),
        ([0, 1, 6], "names example 6 in batch 0, there are 6"),
        ([0.0, 1.0, 2.0], r"float64\[3\] for batch 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pipeline.training_rows(source, sampler(indices), 0, np.arange(2))


def test_what_has_not_the_parts_that_will_be_asked_for_is_refused():
    sampler = types.SimpleNamespace(size=1, batch_size=1, steps_per_epoch=1.0, indices=None)
    with pytest.raises(UsageError, match="SimpleNamespace has no 'epoch', which Sampler needs"):
        importing.check_parts(
            sampler, ("size", "epoch"), "config.sampler.name", "rcnn_jax.data.samplers:Sampler"
        )
    encoder = {"encoder": {"name": "rcnn_jax.data.encoders.base:EncodedSource"}}
    encoder["encoder"] |= {"source": (), "encode": 0, "features": {}}
    with pytest.raises(UsageError, match="EncodedSource has no 'fit', which Encoder needs"):
        data.make_encoder(complete(encoder, "test"))


def test_a_transform_that_returns_nothing_is_named():
    from rcnn_jax.data.transforms.chain import Chain

    chain = Chain((Forgetful(),))
    with pytest.raises(ValueError, match="the transform Forgetful returned NoneType, expected is"):
        chain({"image": jnp.zeros((1, 2, 2, 1))})


class Forgetful:
    random = False

    def __call__(self, batch, keys):
        del batch, keys
