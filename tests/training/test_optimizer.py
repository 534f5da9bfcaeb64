"""The Optax chain against the formulas, what touches which parameters, and constrained norms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.configuration.schema import DEFAULTS, check
from rcnn_jax.errors import UsageError
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training import optimizer, schedules, state, step
from rcnn_jax.training.checkpoints import reading, saving
from rcnn_jax.training.parallel.mesh import make_devices

PARAMS = {"a": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}}
GRADIENT = {"a": {"kernel": jnp.array([0.5, 0.25]), "bias": jnp.array([-1.0])}}


def section(**changes):
    given = {"optimizer": changes}
    return complete(given, "test").optimizer


def two_updates(config):
    return updates(config, count=2)


def updates(config, count, steps=100):
    chain = optimizer.build(config, PARAMS, steps)
    moments, taken = chain.init(PARAMS), []
    for _ in range(count):
        update, moments = chain.update(GRADIENT, moments, PARAMS)
        taken.append(update)
    return taken


def test_sgd_momentum_and_decay_on_kernels_only():
    first, second = two_updates(section(momentum=0.9, weight_decay=0.1))
    g = np.array([0.5, 0.25]) + 0.1 * np.array([1.0, -2.0])
    np.testing.assert_allclose(first["a"]["kernel"], g, rtol=1e-6)
    np.testing.assert_allclose(second["a"]["kernel"], 1.9 * g, rtol=1e-6)
    np.testing.assert_allclose(second["a"]["bias"], [-1.9], rtol=1e-6)


def test_plain_gradient_descent_keeps_nothing():
    (first,) = updates(section(momentum=0.0), count=1)
    assert first is GRADIENT


def test_nesterov():
    first, second = two_updates(section(momentum=0.9, nesterov=True))
    np.testing.assert_allclose(first["a"]["bias"], [-1.9], rtol=1e-6)
    np.testing.assert_allclose(second["a"]["bias"], [-1 - 0.9 * 1.9], rtol=1e-6)


def test_adam_decay_is_kept_apart_from_the_moments():
    first, _ = two_updates(section(name="adam", weight_decay=0.1))
    # Bias-corrected, the first step of Adam is the sign of the gradient. Its correction is the root
    # of 1 - 0.999 = 0.001, where half a unit of 0.999 (2**-25) and one of its power (2**-24) count
    # a thousandfold: a relative 4.5e-5 of 1, which the decay leaves in as little as 0.8.
    np.testing.assert_allclose(first["a"]["kernel"], [1 + 0.1, 1 - 0.2], rtol=6e-5)
    np.testing.assert_allclose(first["a"]["bias"], [-1.0], rtol=6e-5)


def test_clipping_by_global_norm():
    first, _ = two_updates(section(momentum=0.0, clip_norm=0.1))
    norm = np.sqrt(0.25 + 0.0625 + 1)
    np.testing.assert_allclose(first["a"]["kernel"], np.array([0.5, 0.25]) * 0.1 / norm, rtol=1e-5)


def test_clipping_by_value_comes_before_clipping_by_norm():
    first, _ = two_updates(section(momentum=0.0, clip_value=0.3))
    np.testing.assert_allclose(first["a"]["kernel"], [0.3, 0.25], rtol=1e-6)
    np.testing.assert_allclose(first["a"]["bias"], [-0.3], rtol=1e-6)
    # The norm is that of the clipped elements.
    first, _ = two_updates(section(momentum=0.0, clip_value=0.3, clip_norm=0.1))
    norm = np.sqrt(0.3**2 + 0.25**2 + 0.3**2)
    np.testing.assert_allclose(first["a"]["kernel"], np.array([0.3, 0.25]) * 0.1 / norm, rtol=1e-6)
    # Decay joins the gradient behind the clip.
    first, _ = two_updates(section(momentum=0.0, clip_value=0.3, weight_decay=1.0))
    np.testing.assert_allclose(first["a"]["kernel"], [1.3, -1.75], rtol=1e-6)


GRADIENTS = np.float32([[0.5, 0.25], [-0.1, 0.0], [2.0, 1e-6], [0.3, -0.7]])


def rmsprop(changes):
    """What four gradients of one kernel make of `PARAMS`."""
    chain = optimizer.build(section(name="rmsprop", **changes), PARAMS, 10)
    moments, taken = chain.init(PARAMS), []
    for row in GRADIENTS:
        gradient = {"a": {"kernel": jnp.asarray(row), "bias": jnp.zeros(1)}}
        update, moments = chain.update(gradient, moments, PARAMS)
        taken.append(update["a"])
    return np.stack([each["kernel"] for each in taken]), taken


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"momentum": 0.0, "decay": 0.99, "eps": 0.1},
        {"momentum": 0.6, "weight_decay": 0.1},
        {"momentum": 0.6, "nesterov": True},
        {"momentum": 0.0, "clip_value": 0.2},
    ],
    ids=str,
)
def test_rmsprop_against_its_recursion(changes):
    taken, whole = rmsprop(changes)
    decay, eps = changes.get("decay", 0.9), changes.get("eps", 1e-8)
    momentum, bound = changes["momentum"], changes.get("clip_value", np.inf)
    square, trace = np.zeros(2), np.zeros(2)
    for row, update in zip(np.float64(GRADIENTS), taken, strict=True):
        gradient = np.clip(row, -bound, bound)
        gradient = gradient + changes.get("weight_decay", 0.0) * np.array([1.0, -2.0])
        square = decay * square + (1 - decay) * gradient**2
        scaled = gradient / (np.sqrt(square) + eps)
        trace = momentum * trace + scaled
        expected = momentum * trace + scaled if changes.get("nesterov") else trace
        np.testing.assert_allclose(update, expected, rtol=1e-5)
    # What has no gradient does not move, and is not divided by zero.
    np.testing.assert_array_equal([each["bias"] for each in whole], 0.0)


@pytest.mark.parametrize("changes", [{"momentum": 0.0}, {"momentum": 0.6, "weight_decay": 0.1}])
def test_rmsprop_is_that_of_torch(changes):
    torch = pytest.importorskip("torch")
    taken, _ = rmsprop({"decay": 0.99, "eps": 1e-4} | changes)
    kernel = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    other = torch.optim.RMSprop([kernel], lr=0.5, alpha=0.99, eps=1e-4, **changes)
    for row, update in zip(GRADIENTS, taken, strict=True):
        # The chain was given the same parameters each time.
        with torch.no_grad():
            kernel.copy_(torch.tensor([1.0, -2.0]))
        kernel.grad = torch.from_numpy(row)
        other.step()
        moved = kernel.detach().numpy() - np.array([1.0, -2.0])
        np.testing.assert_allclose(moved, -0.5 * update, rtol=1e-5, atol=1e-6)


def test_groups_slow_and_freeze_and_the_last_one_wins():
    groups = ((".*", 0.5), ("a/bias", 0.0))
    first, second = two_updates(section(momentum=0.9, groups=groups, clip_norm=0.1))
    assert float(second["a"]["bias"][0]) == 0.0
    # A frozen parameter does not count in the norm that is clipped.
    norm = np.sqrt(0.25 + 0.0625)
    np.testing.assert_allclose(
        first["a"]["kernel"], 0.5 * np.array([0.5, 0.25]) * 0.1 / norm, rtol=1e-5
    )


def test_a_frozen_parameter_does_not_decay():
    first, second = two_updates(section(groups=(("a/kernel", 0.0),), weight_decay=0.1))
    for update in (first, second):
        np.testing.assert_array_equal(update["a"]["kernel"], 0.0)


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(UsageError, match=r"'backbone/\.\*' matches the whole path of no parameter"):
        optimizer.build(section(groups=(("backbone/.*", 0.1),)), PARAMS, 1)
    with pytest.raises(UsageError, match="no regular expression"):
        optimizer.build(section(groups=(("(", 0.1),)), PARAMS, 1)
    with pytest.raises(UsageError, match=r"config.optimizer.max_norm: .* 'b/kernel' matches"):
        optimizer.build(section(max_norm=(("b/kernel", 1.0),)), PARAMS, 1)


def test_apply_keeps_types():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    chain = optimizer.build(section(), PARAMS, 1)
    moved = optimizer.apply(chain, params, GRADIENT, jnp.float32(0.5))
    assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(moved["a"]["bias"].astype(jnp.float32), [3.5])


def test_every_default_is_documented_by_its_type():
    assert complete({}, "test").to_dict().keys() == DEFAULTS.keys()


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_rises_along_a_line_and_then_stays(nesterov):
    moving = {"momentum": 0.5, "momentum_final": 0.9, "momentum_fraction": 0.4}
    taken = updates(section(nesterov=nesterov, **moving), count=6, steps=10)
    trace = 0.0
    for update, momentum in zip(taken, [0.5, 0.6, 0.7, 0.8, 0.9, 0.9], strict=True):
        trace = momentum * trace + 0.25
        expected = momentum * trace + 0.25 if nesterov else trace
        np.testing.assert_allclose(update["a"]["kernel"][1], expected, rtol=1e-6)


class Pull(BaseTask):
    """Each row of a batch pulls at the kernels by as much as its number says."""

    def init(self, key, batch):
        start = jax.random.normal(key, (2, 3))
        return {"near": {"kernel": start}, "far": {"kernel": 2 * start, "bias": start[0]}}, {}

    def loss(self, params, model_state, carry, batch, key):
        moved = params["near"]["kernel"] + params["far"]["kernel"]
        total = -jnp.einsum("b,io,io->", batch["x"], moved, 1.0 + jnp.arange(6.0).reshape(2, 3))
        total = total + jnp.sum(batch["x"]) * jnp.sum(params["far"]["bias"])
        count = jnp.float32(len(batch["x"]))
        return LossOutput(total=total, count=count, model_state=model_state, carry=carry)


class Run:
    """Six steps of 0.1 with a bound on one kernel, momentum on the move, and averages."""

    task = Pull(model=None, train_transform=None, evaluation_transform=None)
    batch = {"x": np.linspace(0.5, 1.5, 8, dtype=np.float32)}  # noqa: RUF012

    def __init__(self, parallelism="jit", count=1, **changes):
        moving = {"momentum": 0.5, "momentum_final": 0.9, "momentum_fraction": 0.5}
        config = section(**(moving | {"max_norm": (("near/kernel", 2.0),)} | changes))
        self.devices = make_devices({"data": -1, "fsdp": 1}, parallelism, jax.devices()[:count])
        plateau = schedules.Plateau(complete({}, "test").schedule, "min")
        params, _ = jax.eval_shape(self.task.init, jax.random.key(0), self.batch)
        chain = optimizer.build(config, params, 6)
        make = functools.partial(
            step.make_train_step, self.task, chain, lambda t: 0.1, plateau, ema_decay=0.9
        )
        self.step = step.compile_train_step(make, self.devices)
        made = state.create(self.task, chain, plateau, self.batch, seed=0, ema=True)
        self.state = jax.device_put(made, self.devices.state_shardings(made))
        # The step gives its state away; what it started from is looked at later.
        self.start = jax.device_get((made.params, made.opt_state))

    def take(self, steps):
        for _ in range(steps):
            self.state, _ = self.step(self.state, self.devices.place(self.batch))
        return jax.device_get(
            {name: getattr(self.state, name) for name in ("params", "opt_state", "ema")}
        )


def norms(kernel):
    return np.sqrt(np.sum(np.float64(kernel) ** 2, axis=0))


def test_a_constrained_kernel_keeps_its_bound_and_so_does_its_average():
    run, free = Run(), Run(max_norm=())
    assert norms(run.start[0]["near"]["kernel"]).max() < 2
    seen = [run.take(1) for _ in range(6)]
    plain = [free.take(1) for _ in range(6)]
    for one, other in zip(seen, plain, strict=True):
        for params in (one["params"], one["ema"]["params"]):
            assert norms(params["near"]["kernel"]).max() <= 2 * (1 + 1e-6)
        # What has no bound takes the plain step, bit for bit.
        for leaf, same in zip(
            jax.tree.leaves(one["params"]["far"]), jax.tree.leaves(other["params"]["far"]),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_array_equal(leaf, same)
    # As long as a unit stays below its bound it takes the plain step. One passes it at the second
    # step and is scaled back; at last all are held at it.
    second, without = (each[1]["params"]["near"]["kernel"] for each in (seen, plain))
    below = norms(without) < 2
    assert 0 < below.sum() < 3
    np.testing.assert_array_equal(second[:, below], without[:, below])
    held = np.float64(without[:, ~below])
    np.testing.assert_allclose(second[:, ~below], 2 * held / norms(held), rtol=1e-6)
    np.testing.assert_allclose(norms(seen[-1]["params"]["near"]["kernel"]), 2, rtol=1e-6)
    assert norms(plain[-1]["params"]["near"]["kernel"]).min() > 2


def test_a_frozen_kernel_is_not_moved_by_its_bound():
    run = Run(max_norm=((".*/kernel", 0.1),), groups=(("near/.*", 0.0),))
    start, taken = run.start[0], run.take(1)["params"]
    np.testing.assert_array_equal(taken["near"]["kernel"], start["near"]["kernel"])
    np.testing.assert_allclose(norms(taken["far"]["kernel"]), 0.1, rtol=1e-6)


def test_the_last_bound_that_names_a_kernel_counts():
    run = Run(max_norm=((".*/kernel", 0.1), ("near/.*", 0.2)))
    taken = run.take(1)
    # The initial weights lie far outside: their share in the average is put back too.
    for params in (taken["params"], taken["ema"]["params"]):
        np.testing.assert_allclose(norms(params["near"]["kernel"]), 0.2, rtol=1e-6)
        np.testing.assert_allclose(norms(params["far"]["kernel"]), 0.1, rtol=1e-6)


@pytest.mark.parametrize("parallelism", ["jit", "pmap"])
def test_four_devices_keep_the_same_bound(parallelism):
    one, four = Run().take(4), Run(parallelism, 4).take(4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), one, four)


def test_moving_momentum_and_bounds_resume_bit_for_bit(tmp_path):
    unbroken = Run().take(6)
    first = Run()
    first.take(3)
    with saving.Checkpoints(tmp_path, complete({"keep_best": 0}, "test")) as saver:
        saver.save(3, first.state)
    second = Run()
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), second.state
    )
    second.state = reading.restore_latest(tmp_path, abstract, []).state
    jax.tree.map(np.testing.assert_array_equal, second.take(3), unbroken)


@pytest.mark.parametrize(
    ("section_of", "changes", "says"),
    [
        ("optimizer", {"max_norm": (("a", 0.0),)}, "a bound must be above 0, not 0.0"),
        ("optimizer", {"max_norm": ("a", 1.0)}, r"must be pairs \(pattern, bound\)"),
        ("optimizer", {"groups": (("a",),)}, r"must be pairs \(pattern, factor\)"),
        ("optimizer", {"momentum_final": 1.0}, "momentum_final=1.0 must be in"),
        ("optimizer", {"clip_value": -1.0}, "clip_value=-1.0 must be at least 0"),
        ("optimizer", {"name": "rmsprop", "eps": 0.0}, "eps=0.0 must be above 0 for rmsprop"),
        ("optimizer", {"name": "rmsprop", "decay": 1.0}, "decay=1.0 must be in"),
        ("schedule", {"name": "exponential"}, "final_fraction=0.0 must be above 0"),
    ],
)
def test_impossible_sections(section_of, changes, says):
    given = {"model": {"name": "a:B"}, "data": {"name": "digits"}, "steps": 1}
    with pytest.raises(UsageError, match=says):
        check(complete(given | {section_of: changes}, "test"), "test")


def test_a_bound_on_what_has_no_incoming_weights_is_an_error():
    with pytest.raises(UsageError, match=r"names 'a/bias' of shape \(1,\)"):
        optimizer.build(section(max_norm=(("a/bias", 1.0),)), PARAMS, 1)
