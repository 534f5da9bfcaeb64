"""What is said of where NaN comes from."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.training import diagnosis
from rcnn_jax.training.checkpoints.errors import DivergedError
from rcnn_jax.training.parallel.mesh import make_devices
from rcnn_jax.training.state import TrainState

BATCH = {
    "x": np.ones((8, 3), np.float32),
    "label": np.arange(8, dtype=np.int32) % 2,
    "mask": np.ones(8, np.float32),
}


class Fault(nn.Module):
    """Hands its input on, spoiled in one way."""

    kind: str

    def __call__(self, x):
        if self.kind == "nan":
            return x + jnp.nan
        if self.kind == "infinity":
            return x / 0.0
        if self.kind == "mask":
            return jnp.where(jnp.arange(x.shape[-1])[None] == 0, x, -jnp.inf)
        if self.kind == "gradient":
            # Finite with an infinite slope, which the next factor makes NaN.
            return x + jnp.sqrt(0.0 * jnp.sum(jnp.square(x)))
        return x


class Inner(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x, _):
        return Fault(self.kind, name="fault")(nn.Dense(3, name="dense")(x)), None


class Net(nn.Module):
    kind: str = ""
    scanned: str = ""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3, name="first")(x)
        cells = nn.scan(Inner, {"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = cells(self.scanned, name="cells")(x, None)
        x = Fault(self.kind, name="fault")(x)
        if self.kind == "infinity":
            x = nn.LayerNorm(name="norm")(x)
        return nn.Dense(2, name="last")(x)


class Output(flax.struct.PyTreeNode):
    total: jax.Array
    count: jax.Array
    model_state: dict
    carry: tuple = ()
    metrics: dict = flax.struct.field(default_factory=dict)


class Task:
    """The least that a training step needs of a task."""

    def __init__(self, model, spoil=lambda total: total, given=lambda x: x):
        self.model, self.spoil, self.given = model, spoil, given

    def init(self, key, batch):
        return jax.jit(self.model.init)(key, batch["x"])["params"], {}

    def initial_carry(self, size):
        return ()

    def loss(self, params, model_state, carry, batch, key):
        logits = self.model.apply({"params": params}, self.given(batch["x"]))
        total = self.spoil(jnp.sum(jnp.square(logits)))
        return Output(total, batch["mask"].sum(), model_state)


def located(task, batch=BATCH, change=lambda s: s, **options):
    devices = make_devices({"data": 4, "fsdp": 1}, "jit")
    params, model_state = task.init(jax.random.key(0), BATCH)
    zero = jnp.zeros((), jnp.int32)
    before = TrainState(
        step=zero, params=params, model_state=model_state, opt_state=(), plateau=(),
        rate_scale=jnp.ones(()), carry=(), ema=None, key=jax.random.key(1),
    )  # fmt: skip
    before = change(before)
    return diagnosis.locate(task.loss, before, devices.place_global(batch), devices, **options)


def test_the_batch_itself():
    x = BATCH["x"].copy()
    x[[2, 5], 1] = np.nan, np.inf
    place = located(Task(Net()), BATCH | {"x": x}, examples=np.arange(100, 108))
    assert place.of_data
    assert place.what == (
        "feature 'x' of examples 102, 105 of the training split hold NaN or infinity"
    )


def test_the_parameters_before_the_step():
    def change(before):
        params = before.params
        spoiled = params["last"] | {"bias": params["last"]["bias"] + jnp.nan}
        return before.replace(params=params | {"last": spoiled})

    place = located(Task(Net()), change=change)
    assert place.what == "params/last/bias has NaN or infinity before the step"


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (Task(Net(), given=lambda x: x * jnp.nan), "what the model is given is the first with NaN"),
        (Task(Net("nan")), r"the output of fault \(Fault\) is the first with NaN$"),
        # Inside a scan.
        (Task(Net(scanned="nan")), r"the output of cells/fault \(Fault\) is the first with NaN$"),
        (Task(Net("infinity")),
         r"of norm \(LayerNorm\) is the first with NaN, and the output of fault \(Fault\) before"),
        (Task(Net(), spoil=lambda t: t * jnp.nan),
         r"loss that is made of them is not; the last layer gives float32\[8, 2\].*'label' 0 to 1"),
        (Task(Net("gradient")), "on the way back from the loss that of cells/dense/.* 3 more"),
    ],
)  # fmt: skip
def test_the_first_place(task, says):
    place = located(task, accumulate=2)
    assert not place.of_data
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(place.what)


class Masks(nn.Module):
    """Gives a class no chance, as a mask does."""

    @nn.compact
    def __call__(self, x):
        return nn.softmax(Fault("mask")(nn.Dense(2)(x)))


def test_infinity_that_is_meant_is_not_blamed():
    assert "what the optimiser makes of them" in located(Task(Masks())).what


def test_advice_is_given_where_it_may_help():
    error = DivergedError("the loss is nan at step 9", None, step=9)
    assert "Try a lower config.schedule.value" in str(error)
    placed = error.located("step 1 is the first", blames_rate=False)
    assert str(placed) == (
        "training has diverged: the loss is nan at step 9; step 1 is the first; no checkpoint had "
        "been written."
    )
    assert "Try a lower" in str(placed.located("step 2 is the first", blames_rate=True))
