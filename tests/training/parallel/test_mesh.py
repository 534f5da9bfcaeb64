"""Fully sharded parameters: which are cut and where, and that no device holds the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.errors import UsageError
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training import schedules, state, step
from rcnn_jax.training.parallel.fsdp_rules import Rules, of_parameter
from rcnn_jax.training.parallel.mesh import make_devices

PARAMS = {
    "conv": {"kernel": np.zeros((3, 3, 8, 16)), "bias": np.zeros(16)},
    "dense": {"kernel": np.zeros((6, 10))},
    "square": {"kernel": np.zeros((8, 8))},
}


def cut(table, min_size, devices=4):
    found = Rules(table, min_size).dimensions(PARAMS, devices)
    return {path: dimension for path, (_, dimension) in found.items() if dimension is not None}


def test_the_largest_dimension_that_the_devices_divide_above_the_floor():
    every = ((".*", "largest"),)
    # 6 x 10 is divided by 4 along neither; of equal dimensions the last.
    assert cut(every, 0) == {"conv/kernel": 3, "conv/bias": 0, "square/kernel": 1}
    assert cut(every, 17) == {"conv/kernel": 3, "square/kernel": 1}
    assert cut(every, 65) == {"conv/kernel": 3}
    assert cut(every, 0, devices=3) == {"conv/kernel": 1, "dense/kernel": 0}
    assert cut(every, 0, devices=1) == {}
    assert Rules().min_size == 2**16


def test_the_last_rule_that_matches_counts():
    table = ((".*", "largest"), ("conv/.*", "whole"), ("conv/kernel", 2), ("square/kernel", 0))
    assert cut(table, 0) == {"conv/kernel": 2, "square/kernel": 0}


def test_what_belongs_to_a_parameter_is_told_by_the_longest_end_of_its_path():
    """A kernel that lies whole is not cut because another's path is the end of its own."""
    params = {
        "dense": {"kernel": np.zeros((8, 4))},
        "encoder": {"dense": {"kernel": np.zeros((8, 4))}},
    }
    found = Rules(((".*", "largest"), ("encoder/.*", "whole")), 0).dimensions(params, 4)
    for prefix in ("params/", "ema/params/", "opt_state/0/trace/"):
        assert of_parameter(found, f"{prefix}dense/kernel", (8, 4)) == 0
        assert of_parameter(found, f"{prefix}encoder/dense/kernel", (8, 4)) is None
    assert of_parameter(found, "opt_state/0/factors/dense/kernel", (8,)) is None
    assert of_parameter(found, "opt_state/0/count", ()) is None


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ((("convs/.*", "largest"),), "config.fsdp.rules: the pattern 'convs/.*' matches"),
        ((("dense/kernel", 0),), r"dimension 0 of dense/kernel, whose shape is \(6, 10\), cannot"),
        ((("dense/kernel", 2),), "dimension 2 of dense/kernel"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, says):
    with pytest.raises(UsageError, match=says):
        Rules(table, 0).check(PARAMS, 4)


class Product(BaseTask):
    """Its loss is a product with a kernel of 8 x 64, large beside a floor of 100."""

    def init(self, key, batch):
        del batch
        return {"kernel": jax.random.normal(key, (8, 64)), "bias": jnp.zeros(64)}, {}

    def loss(self, params, model_state, carry, batch, key):
        del key
        y = jnp.tanh(batch["x"] @ params["kernel"] + params["bias"][None])
        return LossOutput(
            total=jnp.sum(y**2), count=jnp.float32(y.shape[0]), model_state=model_state, carry=carry
        )


@pytest.mark.parametrize("mesh", [{"data": 1, "fsdp": 4}, {"data": 2, "fsdp": 2}])
def test_moments_and_averages_lie_with_their_parameter_and_stay_there(mesh):
    """After a step, too, and with the numbers of one device."""
    optimizer, plateau = optax.trace(0.9), schedules.Plateau(complete({}, "test").schedule, "min")
    task = Product(model=None, train_transform=None, evaluation_transform=None)
    batch = {"x": np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)}

    def run(devices):
        current = state.create(task, optimizer, plateau, batch, seed=0, ema=True)
        current = jax.device_put(current, devices.state_shardings(current))
        train_step = step.compile_train_step(
            functools.partial(
                step.make_train_step, task, optimizer, lambda t: 0.1, plateau, ema_decay=0.9
            ),
            devices,
        )
        for _ in range(2):
            current, _ = train_step(current, devices.place(batch))
        return current

    devices = make_devices(mesh, "jit", rules=Rules(min_size=100))
    ours = run(devices)
    for tree in (ours.params, ours.opt_state.trace, ours.ema["params"]):
        parts = {shard.data.shape for shard in tree["kernel"].addressable_shards}
        assert parts == {(8, 64 // mesh["fsdp"])}
        assert {shard.data.shape for shard in tree["bias"].addressable_shards} == {(64,)}
    alone = run(make_devices({"data": 1, "fsdp": 1}, "jit", jax.devices()[:1]))
    np.testing.assert_allclose(ours.params["kernel"], alone.params["kernel"], rtol=1e-5)


def test_a_process_reads_the_rows_of_its_devices():
    """Two processes whose devices alternate in the mesh, as on a pod, get rows in between."""

    class Device:
        def __init__(self, process):
            self.process_index = process

    whole = make_devices({"data": -1, "fsdp": 1}, "jit")
    np.testing.assert_array_equal(whole.local_rows(8), np.arange(8))

    class Mesh:
        devices = np.array([Device(0), Device(1), Device(0), Device(1)])

    alternating = type(whole)(Mesh(), "jit")
    np.testing.assert_array_equal(alternating.local_rows(8), [0, 1, 4, 5])
