"""A batch taken in parts: the step of the whole batch, in less memory, on any layout."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcnn_jax.configuration.loading import complete
from rcnn_jax.configuration.schema import check
from rcnn_jax.data import sources
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UsageError
from rcnn_jax.experiment import task as experiment
from rcnn_jax.layers.randomness import example_keys
from rcnn_jax.tasks.base import BaseTask, LossOutput
from rcnn_jax.training import accumulation, schedules, state, step
from rcnn_jax.training.parallel.mesh import make_devices

LAYOUTS = {
    "1 by jit": (1, "jit", {"data": -1, "fsdp": 1}),
    "4 by jit": (4, "jit", {"data": -1, "fsdp": 1}),
    "2x2 by jit": (4, "jit", {"data": 2, "fsdp": 2}),
    "4 by pmap": (4, "pmap", {"data": -1, "fsdp": 1}),
}
ROWS = 16


def devices_of(layout):
    count, parallelism, axes = LAYOUTS[layout]
    return make_devices(axes, parallelism, jax.devices()[:count])


def recipe_of(**changes):
    """Dropout and augmentation, and nothing that sees more than one row."""
    given = {
        "model": {
            "name": "rcnn_jax.models.fully_connected:FullyConnected", "classes": 10,
            "hidden": (12,), "activation": "sigmoid", "dropout": 0.3,
        },
        "data": {"preprocess": "to_float(16)", "augment": "random_crop(6)|flip"},
        "batch_size": ROWS,
        "steps": 5,
        "optimizer": {"nesterov": True, "weight_decay": 1e-3, "clip_norm": 1.0},
        "ema_decay": 0.9,
        "precision": "float64",
    }  # fmt: skip
    config = complete(given | changes, "test")
    rng = np.random.default_rng(0)
    features = {"image": Feature((8, 8, 1), "uint8"), "label": Feature((), "int32", 10)}
    arrays = {
        "image": rng.integers(0, 17, (32, 8, 8, 1)).astype(np.uint8),
        "label": rng.integers(0, 10, 32).astype(np.int32),
    }
    source = sources.ArraySource(arrays, features)
    recipe = experiment.make_recipe(config, experiment.build_task(config, {}), source, 3)
    return recipe, source


def compiled(task, optimizer, devices, accumulate, schedule=lambda t: 0.1, ema_decay=0.0):
    plateau = schedules.Plateau(complete({}, "test").schedule, "min")
    make = functools.partial(
        step.make_train_step, task, optimizer, schedule, plateau,
        ema_decay=ema_decay, accumulate=accumulate, devices=devices.count,
    )  # fmt: skip
    return step.compile_train_step(make, devices)


def trajectory(layout, accumulate):
    devices = devices_of(layout)
    recipe, source = recipe_of()
    train_step = compiled(
        recipe.task, recipe.optimizer, devices, accumulate, recipe.schedule, ema_decay=0.9
    )
    current = recipe.create_state(devices)
    seen = []
    for number in range(3):
        rows = (np.arange(ROWS) + 7 * number) % len(source)
        # The last rows are padding: the parts count 4, 4, 4 and 1 examples on one device.
        mask = (np.arange(ROWS) < 13).astype(np.float32)
        current, sums = train_step(current, devices.place(source.gather(rows) | {"mask": mask}))
        seen.append(jax.device_get(sums))
    leaves = {name: getattr(current, name) for name in ("params", "ema", "opt_state")}
    return seen, jax.device_get(leaves)


@functools.cache
def whole():
    return trajectory("1 by jit", 1)


@pytest.mark.parametrize(
    ("layout", "parts"), [("1 by jit", 4), ("4 by jit", 2), ("2x2 by jit", 2), ("4 by pmap", 2)]
)
def test_parts_take_the_steps_of_the_whole_batch(x64, layout, parts):
    """Losses, metrics, gradient norms, parameters, moments and averages, in double precision."""
    parts, expected = trajectory(layout, parts), whole()
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), parts, expected
    )


def test_the_loop_gives_what_unrolled_parts_give(x64):
    recipe, source = recipe_of()
    batch = source.gather(np.arange(8)) | {"mask": np.ones(8, np.float32)}

    @jax.jit
    def both(params):
        arguments = (recipe.task.loss, params, {}, (), batch, jax.random.key(3))
        return [
            accumulation.gradient_of_sum(*arguments, parts=2, groups=2, loop=loop)
            for loop in (True, False)
        ]

    loop, unrolled = both(recipe.task.init(jax.random.key(0), batch)[0])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10), loop, unrolled)


def moved_between_devices(text):
    """What a compiled program exchanges between devices, but for sums that are not of rows."""
    names = "all-gather|all-to-all|collective-permute|ragged-all-to-all|collective-broadcast"
    rows_in_sums = re.findall(r"(\[\d+,5\])[^=]* all-reduce(?:-start)?\(", text)
    rows_in_sums = [shape for shape in rows_in_sums if shape != "[1,5]"]
    return re.findall(rf" ({names})(?:-start)?\(", text) + rows_in_sums


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "loop"])
def test_no_row_moves_between_devices(monkeypatch, loop):
    monkeypatch.setattr(accumulation, "_loops_are_slow", lambda: not loop)
    devices = devices_of("4 by jit")
    task = Rows(model=None, train_transform=None, evaluation_transform=None)
    batch = {"x": np.zeros((ROWS, 5), np.float32)}
    current = start_of(task, batch, devices)
    train_step = compiled(task, optax.identity(), devices, 2)
    text = train_step.lower(current, devices.place(batch)).compile().as_text()
    assert "all-reduce" in text
    assert moved_between_devices(text) == []


def test_the_check_would_see_rows_that_move():
    """Parts cut without a thought of where rows lie: part 0 would be the rows of two devices."""
    devices = devices_of("4 by jit")
    x = devices.place({"x": np.zeros((ROWS, 5), np.float32)})["x"]

    def first_half(x):
        half = jax.lax.with_sharding_constraint(x[: ROWS // 2], devices.batch)
        return jnp.sum(jnp.sin(half), axis=1)

    text = jax.jit(first_half, out_shardings=devices.batch).lower(x).compile().as_text()
    assert moved_between_devices(text)


class Rows(BaseTask):
    """Each row adds to its carry, and to its loss, its input and a draw of its own.

    Its model state counts the calls, and takes a digit from the rows of each.
    """

    def init(self, key, batch):
        del key, batch
        return {"kernel": jnp.zeros((1, 5))}, {"calls": jnp.zeros(()), "last": jnp.zeros(())}

    def initial_carry(self, batch_size):
        return {"sum": jnp.zeros((batch_size, 5))}

    def loss(self, params, model_state, carry, batch, key):
        rows = batch["x"].shape[0]
        drawn = jax.vmap(jax.random.uniform)(example_keys(key, rows))
        carry = {"sum": carry["sum"] + batch["x"] + drawn[:, None]}
        return LossOutput(
            total=jnp.sum((params["kernel"] - carry["sum"]) ** 2),
            count=jnp.float32(rows),
            model_state={
                "calls": model_state["calls"] + 1,
                "last": 10 * model_state["last"] + jnp.sum(batch["x"][:, 0]) / 6,
            },
            carry=carry,
            metrics={"rows": (jnp.sum(batch["x"]), jnp.float32(rows))},
        )


def start_of(task, batch, devices):
    plateau = schedules.Plateau(complete({}, "test").schedule, "min")
    made = state.create(task, optax.identity(), plateau, batch, seed=0, ema=False)
    return jax.device_put(made, devices.state_shardings(made))


@functools.cache
def carries(layout, accumulate, loop):
    """Three steps of rows that are all different."""
    devices = devices_of(layout)
    task = Rows(model=None, train_transform=None, evaluation_transform=None)
    batch = {"x": np.arange(ROWS * 5, dtype=np.float32).reshape(ROWS, 5)}
    current = start_of(task, batch, devices)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulation, "_loops_are_slow", lambda: not loop)
        train_step = compiled(task, optax.identity(), devices, accumulate)
        for _ in range(3):
            current, sums = train_step(current, devices.place(batch))
    return jax.device_get((current.carry, current.params, sums))


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "loop"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_row_keeps_its_carry_and_its_draws(layout, loop):
    parts, expected = carries(layout, 2, loop), carries("1 by jit", 1, False)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), parts, expected)


def test_the_model_state_goes_from_part_to_part_in_order():
    """As batch statistics do, it is updated once a part: that is not one large batch."""
    task = Rows(model=None, train_transform=None, evaluation_transform=None)
    # Column 0 of the rows of part i sums to 6 (i + 1), over both groups.
    x = np.zeros((12, 5), np.float32)
    x[:, 0] = np.repeat([[1, 2, 3], [5, 10, 15]], 2, axis=1).reshape(-1) / 2

    @functools.partial(jax.jit, static_argnames="loop")
    def take(params, model_state, loop):
        batch, carry, key = {"x": x}, task.initial_carry(12), jax.random.key(0)
        arguments = (task.loss, params, model_state, carry, batch, key)
        return accumulation.gradient_of_sum(*arguments, parts=3, groups=2, loop=loop)[1]

    for loop in (False, True):
        out = take(*task.init(None, None), loop=loop)
        assert float(out.model_state["calls"]) == 3
        np.testing.assert_allclose(out.model_state["last"], 123, rtol=1e-6)
        assert float(out.count) == 12


class Wide(BaseTask):
    """A net whose intermediate values are far larger than its parameters and its batch."""

    def loss(self, params, model_state, carry, batch, key):
        del key
        hidden = batch["x"]
        for _ in range(8):
            hidden = jnp.sin(hidden @ params["kernel"])
        return LossOutput(
            total=jnp.sum(hidden), count=jnp.float32(len(hidden)), model_state=model_state,
            carry=carry,
        )  # fmt: skip


def test_intermediate_values_are_held_for_one_part_at_a_time():
    """The compiler states what it needs; parts that it ran side by side would need as much."""
    task = Wide(model=None, train_transform=None, evaluation_transform=None)

    def mib(parts):
        def gradient(params, batch):
            arguments = (task.loss, params, {}, (), batch, jax.random.key(0))
            return accumulation.gradient_of_sum(*arguments, parts=parts)

        shapes = {"kernel": jax.ShapeDtypeStruct((32, 32), jnp.float32)}
        batch = {"x": jax.ShapeDtypeStruct((8192, 32), jnp.float32)}
        program = jax.jit(gradient).lower(shapes, batch).compile()
        return program.memory_analysis().temp_size_in_bytes / 2**20

    assert mib(8) < 0.3 * mib(1)


def test_what_cannot_be_cut_is_an_error():
    with pytest.raises(
        UsageError, match=r"batch_size=10 is .*accumulate=2 x 4 devices: use 8 or 16"
    ):
        accumulation.check_batch_size(10, 2, 4)
    with pytest.raises(UsageError, match=r"accumulate=4 x 1 devices: use 4\."):
        accumulation.check_batch_size(2, 4, 1)
    accumulation.check_batch_size(16, 2, 4)
    task = Rows(model=None, train_transform=None, evaluation_transform=None)
    arguments = ({"x": np.zeros((6, 5), np.float32)}, jax.random.key(0))
    with pytest.raises(ValueError, match="6 rows cannot be cut into 4 parts"):
        accumulation.gradient_of_sum(
            task.loss, {"kernel": jnp.zeros((1, 5))}, {}, task.initial_carry(6), *arguments, parts=4
        )


@pytest.mark.parametrize(("accumulate", "says"), [(3, "not divisible by"), (0, "at least 1")])
def test_the_config_is_checked(accumulate, says):
    given = {"model": {"name": "a:B"}, "data": {"name": "digits"}, "steps": 1, "batch_size": 16}
    with pytest.raises(UsageError, match=says):
        check(complete(given | {"accumulate": accumulate}, "test"), "test")
