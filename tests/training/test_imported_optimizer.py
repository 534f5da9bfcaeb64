"""Optimisers and schedules by import path: the steps are those of Optax taken by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.errors import UsageError
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training import optimizer, schedules, state, step
from rcnn_jax.training.parallel.mesh import make_devices

HERE = f"{__name__}:"
STEPS = 8
PARAMS = {"a": {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([3.0, -1.0])}}
TARGET = {"a": {"kernel": np.array([[-1.0, 1.0], [0.0, 2.0]]), "bias": np.array([1.0, 0.0])}}
ROWS = np.linspace(0.5, 1.5, 4)


def loss(params):
    """The mean over four rows of a bowl around `TARGET`."""
    bowl = [jnp.sum((p - t) ** 2) for p, t in zip(*map(jax.tree.leaves, (params, TARGET)))]  # noqa: B905
    return sum(bowl) * ROWS.mean()


class Bowl(BaseTask):
    def init(self, key, batch):
        return jax.tree.map(jnp.asarray, PARAMS), {}

    def loss(self, params, model_state, carry, batch, key):
        total = loss(params) * jnp.sum(batch["x"]) / ROWS.mean()
        return LossOutput(
            total=total, count=jnp.sum(jnp.ones_like(batch["x"])), model_state={}, carry=carry
        )


def section(name="optax:lion", **changes):
    return complete({"optimizer": {"name": name} | changes}, "test").optimizer


def run(name="optax:lion", schedule=None, parallelism="jit", count=1, scale=1.0, **changes):
    """The states after each of eight steps, and the rates that were reported."""
    course = {"schedule": {"value": 0.125} | (schedule or {})}
    course = complete(course, "test").schedule
    task = Bowl(model=None, train_transform=None, evaluation_transform=None)
    devices = make_devices({"data": -1, "fsdp": 1}, parallelism, jax.devices()[:count])
    plateau = schedules.Plateau(course, "min")
    chain = optimizer.build(section(name, **changes), jax.eval_shape(lambda: PARAMS), STEPS)
    rates = schedules.build(course, STEPS)
    make = functools.partial(step.make_train_step, task, chain, rates, plateau)
    take = step.compile_train_step(make, devices)
    made = state.create(task, chain, plateau, {"x": ROWS}, seed=0, ema=False)
    made = made.replace(rate_scale=jnp.float32(scale))
    if plateau.init() != ():
        made = made.replace(plateau=made.plateau._replace(scale=jnp.float32(0.25)))
    now = jax.device_put(made, devices.state_shardings(made))
    taken, reported = [], []
    for _ in range(STEPS):
        now, sums = take(now, devices.place({"x": ROWS}))
        taken.append(jax.device_get(now.params))
        reported.append(float(sums["learning_rate"][0]))
    return taken, reported


def by_hand(transformation):
    transformation = optax.with_extra_args_support(transformation)

    @jax.jit
    def take(params, moments):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = transformation.update(gradient, moments, params, value=value)
        return optax.apply_updates(params, updates), moments

    params, taken = jax.tree.map(jnp.asarray, PARAMS), []
    moments = transformation.init(params)
    for _ in range(STEPS):
        params, moments = take(params, moments)
        taken.append(jax.device_get(params))
    return taken


def assert_same(one, other, rtol=1e-12):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-12), one, other)


def kernels(tree):
    return {"a": {"kernel": True, "bias": False}}


ONE_CYCLE = {"name": "optax:cosine_onecycle_schedule", "options": {"pct_start": 0.25}}
# The rate is a float32 where the schedule is a number of the config.
RATE = float(np.float32(0.125))


@pytest.mark.parametrize(("parallelism", "count"), [("jit", 1), ("pmap", 4)])
def test_lion_with_one_cycle_is_that_of_optax(x64, parallelism, count):
    options = {"b1": 0.95, "weight_decay": 0.1}
    taken, rates = run(schedule=ONE_CYCLE, options=options, parallelism=parallelism, count=count)
    cycle = optax.cosine_onecycle_schedule(STEPS, 0.125, pct_start=0.25)
    np.testing.assert_allclose(rates, [cycle(t) for t in range(STEPS)], rtol=1e-6)
    assert max(rates) == rates[2] == RATE
    assert_same(taken, by_hand(optax.lion(cycle, **options)))
    assert loss(taken[-1]) < 0.9 * loss(PARAMS)


@pytest.mark.parametrize(
    ("name", "changes", "same"),
    [
        (
            "optax:scale_by_lion",
            {"weight_decay": 0.5, "options": {"b2": 0.9}},
            optax.lion(RATE, b2=0.9, weight_decay=0.5, mask=kernels),
        ),
        ("optax.contrib:momo", {}, optax.contrib.momo(RATE)),  # reads the loss
        (
            "optax:sgd",
            {"clip_value": 1.0, "clip_norm": 1.5, "options": {"momentum": 0.5, "nesterov": True}},
            optax.chain(
                optax.clip(1.0), optax.clip_by_global_norm(1.5), optax.sgd(RATE, 0.5, True)
            ),
        ),
    ],
)
def test_others_are_those_of_optax(x64, name, changes, same):
    assert_same(run(name, **changes)[0], by_hand(same))


def test_a_short_name_is_the_same_thing(x64):
    adam = run("adam", weight_decay=0.1, b1=0.8)[0]
    imported = run("optax:scale_by_adam", weight_decay=0.1, options={"b1": 0.8})[0]
    jax.tree.map(np.testing.assert_array_equal, imported, adam)


@pytest.mark.parametrize("name", ["optax:lion", "optax:scale_by_lion"])
def test_a_plateau_and_a_rollback_lower_the_rate(x64, name):
    options = {"weight_decay": 0.0} if name == "optax:lion" else {}
    taken, rates = run(name, {"name": "plateau"}, scale=0.5, options=options)
    assert set(rates) == {0.125 * 0.25 * 0.5}
    moved = np.abs(taken[0]["a"]["kernel"] - PARAMS["a"]["kernel"])
    np.testing.assert_allclose(moved, rates[0], rtol=1e-5)


def test_groups_slow_and_freeze_whatever_is_inside(x64):
    decay = {"options": {"weight_decay": 0.5}}
    taken, _ = run(groups=(("a/kernel", 0.5), ("a/bias", 0.0)), **decay)
    whole, _ = run(**decay)
    for params in taken:
        np.testing.assert_array_equal(params["a"]["bias"], PARAMS["a"]["bias"])
    moved, full = (each[0]["a"]["kernel"] - PARAMS["a"]["kernel"] for each in (taken, whole))
    np.testing.assert_allclose(moved, 0.5 * full, rtol=1e-5)
    bounded, _ = run(max_norm=(("a/kernel", 0.5),))
    norms = np.linalg.norm(bounded[0]["a"]["kernel"], axis=0)
    np.testing.assert_allclose(norms, 0.5, rtol=1e-6)


def climbing(learning_rate):
    return optax.chain(optax.scale_by_adam(), optax.scale(learning_rate))


def impatient(learning_rate):
    if learning_rate <= 0:
        raise ValueError("no")
    return optax.sgd(learning_rate)


def failing(learning_rate, b1=0.9):
    raise ValueError(f"no {b1}")


def growing():
    return optax.GradientTransformation(
        lambda params: jnp.zeros(1), lambda g, s, p=None: (g, jnp.concatenate([s, s]))
    )


def number(learning_rate):
    return 3


def vectors(steps):
    return lambda step: jnp.ones(2) * step


def failing_later(steps):
    return lambda step: 1 / 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "optax:lino"}, "config.optimizer.name 'optax:lino': optax has no lino; did you"),
        ({"name": "no_such_fork:lion"}, "no module 'no_such_fork' was found"),
        ({"options": {"beta1": 0.9}}, "options.beta1: optax:lion takes no argument 'beta1'"),
        ({"options": {"learning_rate": 0.1}}, "set config.schedule.value"),
        ({"weight_decay": 0.1}, "set config.optimizer.options.weight_decay, or name a function"),
        ({"name": "optax:fromage", "weight_decay": 0.1}, "it takes no decay: name a function"),
        ({"momentum": 0.5}, "momentum=0.5 is for the short names .* config.optimizer.options"),
        ({"options": {"b1": "many"}}, "optax:lion' cannot be used: TypeError"),
        ({"name": f"{HERE}climbing"}, "would climb: one that takes 'learning_rate' has the sign"),
        ({"name": "optax:polyak_sgd"}, "would climb: one without an argument 'learning_rate'"),
        ({"name": "optax:rprop"}, "its state begins with the learning rate"),
        ({"name": f"{HERE}impatient"}, r"not known while .* compiled \(.*optimizer.py:\d+\): the"),
        ({"name": f"{HERE}failing"}, r"cannot be built: ValueError: no 0.9 \(.*optimizer.py:\d+"),
        ({"name": f"{HERE}growing"}, "an update gives state of another structure, shape or type"),
        ({"name": f"{HERE}number"}, "makes a int, not an optax.GradientTransformation"),
        ({"name": f"{HERE}STEPS"}, "is a int, not a function that makes an optimiser"),
        ({"name": "optax:trace"}, "cannot be built without the argument 'decay', which config.op"),
        ({"name": "sgd", "options": {"momentum": 0.5}}, "are keys of config.optimizer itself"),
    ],
)
def test_what_cannot_be_an_optimiser(changes, says):
    with pytest.raises(UsageError, match=says):
        optimizer.build(section(**changes), jax.eval_shape(lambda: PARAMS), STEPS)


def linear(**changes):
    given = {"schedule": {"name": "optax:linear_schedule"} | changes}
    return schedules.build(complete(given, "test").schedule, 100)


def test_steps_and_value_are_handed_to_a_schedule():
    rate = linear(value=0.5, options={"end_value": 0.1})
    np.testing.assert_allclose([rate(0), rate(50), rate(100)], [0.5, 0.3, 0.1], rtol=1e-6)
    rate = linear(options={"init_value": 1.0, "end_value": 0.0, "transition_steps": 10})
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [1.0, 0.5, 0.0], rtol=1e-6)
    rate = linear(value=0.5, warmup_fraction=0.2, options={"end_value": 0.1})
    np.testing.assert_allclose([rate(0), rate(10), rate(60)], [0.0, 0.25, 0.3], rtol=1e-6)
    rate = linear(
        name="optax:warmup_cosine_decay_schedule",
        value=2.0,
        options={"init_value": 1.0, "warmup_steps": 10},
    )
    np.testing.assert_allclose([rate(0), rate(10), rate(100)], [1.0, 2.0, 0.0], atol=1e-6)
    rate = linear(name="optax:piecewise_constant_schedule", options={"boundaries_and_scales": None})
    np.testing.assert_allclose(rate(7), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "optax:cosine_onecycle"}, "has no cosine_onecycle; did you mean 'cosine_onec"),
        ({}, "without the argument 'end_value', which config.schedule.options does not state"),
        ({"options": {"final": 0.1}}, "options.final: optax:linear_schedule takes no argument"),
        ({"factor": 0.5}, "config.schedule.factor=0.5 is for the short names of schedules"),
        ({"name": "constant", "options": {"a": 1}}, "are keys of config.schedule itself"),
        ({"name": f"{HERE}vectors"}, r"no single number as learning rate, but \(2,\)"),
        ({"name": f"{HERE}STEPS"}, "is a int, not a function that makes a schedule"),
        ({"name": f"{HERE}number"}, "makes a int, not a schedule"),
        ({"name": f"{HERE}failing_later"}, r"ZeroDivisionError: .* \(.*test_imported_optimizer"),
    ],
)
def test_what_cannot_be_a_schedule(changes, says):
    with pytest.raises(UsageError, match=says):
        linear(**changes)
