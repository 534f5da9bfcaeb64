"""What a training step of the RCNN costs: to compile, with T and K, beside a matrix product."""

from row import Row, Side
from rows import rcnn

_SMALL = {"norm": "lrn", "batch": 32, "size": 24}
_LARGE = {"norm": "lrn", "batch": 128, "size": 32}


def _training(**arguments) -> tuple[Side, ...]:
    return (
        rcnn.ours("training_step", **arguments),
        rcnn.theirs("training_step", rcnn.EAGER, **arguments),
    )


def _product(name: str, function: str, library: str) -> Side:
    return Side(
        name, f"matrix_product:{function}", {"order": 2048}, imports=(library,),
        quick={"order": 64},
    )  # fmt: skip


ROWS = [
    Row(
        name="compile",
        about="seconds to compile the training step of RCNN-96, T = 3, in a new process",
        sides=(
            rcnn.ours("training_step", **_SMALL),
            rcnn.theirs("training_step", rcnn.COMPILED, **_SMALL),
        ),
        quick=rcnn.QUICK,
        compares="compile",
        usual=False,
    ),
    Row(
        name="cost_T",
        about="training step of RCNN-96 on 32 images of 24 pixels, T = 0 to 8",
        sides=_training(**_SMALL),
        points=tuple({"steps": steps} for steps in range(9)),
        quick=rcnn.QUICK,
    ),
    Row(
        name="cost_K",
        about="training step of RCNN-K, T = 3, on 32 images of 24 pixels, K = 32 to 192",
        sides=_training(**_SMALL),
        points=tuple({"features": features} for features in (32, 64, 96, 128, 160, 192)),
        quick={"batch": 4, "size": 8},
    ),
    Row(
        name="gemm",
        about="arithmetic in a second: training steps beside a float32 product of 2048 x 2048",
        sides=(
            _product("XLA dot", "by_jax", "jax"),
            _product("torch mm", "by_torch", "torch"),
            rcnn.ours("training_step", **_LARGE),
            rcnn.theirs("training_step", rcnn.EAGER, **_LARGE),
        ),
        quick=rcnn.QUICK,
        compares="rate",
    ),
]
