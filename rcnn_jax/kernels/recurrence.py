"""Recurrent loops over all time steps, and the products outside them, compiled.

Sequences are `[batch, time, features]` throughout, in float32: nothing is transposed.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rcnn_jax.kernels.library import ROWS, SCRATCH, SUM, WHOLE, Call, Result

CELLS = ("elman", "gru", "lstm")
"""Cells in the order of the library's numbers."""

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
"""Activations of an Elman network in the order of the library's numbers."""

UNITS = 16
"""Numbers of hidden units are multiples of this."""


def too_small(batch: int, time: int, hidden: int) -> str:
    """Returns why XLA's form is better for these sizes, empty if it is not.

    There are no such sizes but empty ones. Time of the compiled form over that of XLA's, forward /
    forward and backward, on 2 cores with AVX-512 and `hidden` inputs; batch x time, hidden:

                1 x 20, 128   1 x 200, 512   4 x 30, 512   8 x 20, 16   64 x 50, 128
        LSTM    0.62 0.64     0.62 0.55      0.77 0.52     0.34 0.36    0.47 0.57
        GRU     0.47 0.77     0.54 0.46      0.46 0.50     0.21 0.35    0.38 0.45

    Args:
        batch: Number of sequences.
        time: Number of steps.
        hidden: Number of hidden units.
    """
    del hidden
    return "" if batch * time else "there are no steps"


def _gates(kernel: Any) -> int:
    return kernel.shape[1] // kernel.shape[0]


def _steps(mask: Any, *last: int) -> tuple[int, ...]:
    """Returns the shape of arrays with a vector for each step."""
    return *mask.shape, *last


def _states(mask: Any, width: int) -> tuple[int, ...]:
    """Two sets of rows, each 64 bytes longer than its numbers; see `RecurrentShape`."""
    return 2, mask.shape[0], width + 16


def _together(mask: Any) -> int:
    """Returns for how many steps inputs are multiplied at once: those with about 256 rows."""
    batch, time = mask.shape
    return max(1, min(time, -(-256 // max(1, batch))))


def _extra(kernel: Any) -> int:
    """An LSTM saves the memory before each step, a GRU the product of its candidate."""
    return 0 if _gates(kernel) == 1 else kernel.shape[0]


# Arguments: x, kernel, bias, recurrent kernel, recurrent bias, hidden, memory, added, mask.
_FORWARD_ARGUMENTS = (ROWS, WHOLE, WHOLE, WHOLE, WHOLE, ROWS, ROWS, ROWS, ROWS)
_LAST = (
    Result(lambda *arrays: _steps(arrays[8], arrays[3].shape[0])),
    Result(lambda *arrays: arrays[5].shape),
    Result(lambda *arrays: arrays[6].shape),
)
_SAVED = (
    Result(lambda *arrays: _steps(arrays[8], arrays[3].shape[0])),
    Result(lambda *arrays: _steps(arrays[8], arrays[3].shape[1])),
    Result(lambda *arrays: _steps(arrays[8], _extra(arrays[3]))),
)
_WORK = (
    Result(lambda *arrays: arrays[1].shape, SCRATCH),
    Result(lambda *arrays: arrays[3].shape, SCRATCH),
    Result(lambda *arrays: (_together(arrays[8]), arrays[8].shape[0], arrays[3].shape[1]), SCRATCH),
    Result(lambda *arrays: _states(arrays[8], arrays[3].shape[0]), SCRATCH),
)
_FORWARD = Call("RcnnRecurrence", _FORWARD_ARGUMENTS, (*_LAST, *_WORK))
_FORWARD_SAVING = Call("RcnnRecurrenceSaving", _FORWARD_ARGUMENTS, (*_LAST, *_SAVED, *_WORK))
_BACKWARD = Call(
    "RcnnRecurrenceBack",
    (ROWS, WHOLE, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS),
    (
        Result(lambda opened, *rest: opened.shape),
        Result(
            lambda opened, kernel, mask, *rest: _steps(
                mask, kernel.shape[0] if _gates(kernel) == 3 else 0
            )
        ),
        Result(lambda *arrays: arrays[6].shape),
        Result(lambda *arrays: arrays[7].shape),
        Result(lambda opened, kernel, *rest: kernel.shape, SCRATCH),
        Result(lambda opened, kernel, mask, *rest: _states(mask, kernel.shape[1]), SCRATCH),
    ),
    overwritten=((0, 0),),
)
_DENSE_BACK = Call(
    "RcnnDenseBack",
    (ROWS, WHOLE),
    (
        Result(lambda g, kernel: (*g.shape[:2], kernel.shape[0])),
        Result(lambda g, kernel: kernel.shape, SCRATCH),
    ),
)


# Arguments: x, hidden vectors before each step, cotangents of the drive and of the products of the
# candidate of a GRU. The sums are in turn those of a kernel and of a bias.
_GRADIENTS = Call(
    "RcnnRecurrentGradients",
    (ROWS, ROWS, ROWS, ROWS),
    (
        Result(lambda x, before, drive, candidate: (x.shape[2], drive.shape[2]), SUM),
        Result(lambda x, before, drive, candidate: (drive.shape[2],), SUM),
        Result(lambda x, before, drive, candidate: (before.shape[2], drive.shape[2]), SUM),
        Result(lambda x, before, drive, candidate: (candidate.shape[2],), SUM),
        Result(lambda x, *rest: (x.shape[2] + 16, x.shape[0] * x.shape[1]), SCRATCH),
        Result(lambda x, before, *rest: (before.shape[2] + 16, x.shape[0] * x.shape[1]), SCRATCH),
    ),
)


@dataclasses.dataclass(frozen=True)
class Loop:
    """What a recurrent loop computes, apart from its arrays.

    Attributes:
        cell: Kind of the cell, one of `CELLS`; a GRU resets after the product.
        activation: Activation of an Elman network, one of `ACTIVATIONS`; else `tanh`.
        reverse: Whether to run from the last step to the first.
    """

    cell: str
    activation: str = "tanh"
    reverse: bool = False

    def attributes(self) -> dict[str, np.int64]:
        """Returns the numbers that the library takes."""
        return {
            "cell": np.int64(CELLS.index(self.cell)),
            "activation": np.int64(ACTIVATIONS.index(self.activation)),
            "reverse": np.int64(self.reverse),
        }


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recur(
    loop: Loop,
    x: Float[Array, "batch time inputs"],
    kernel: Float[Array, "inputs width"],
    bias: Float[Array, "width"],
    recurrent_kernel: Float[Array, "hidden width"],
    recurrent_bias: Float[Array, "units"],
    hidden: Float[Array, "batch hidden"],
    memory: Float[Array, "batch memory"],
    added: Float[Array, "batch steps width"],
    mask: Bool[Array, "batch time"],
) -> tuple[Array, Array, Array]:
    """Runs a recurrent loop, with gradients in reverse mode.

    Args:
        loop: Kind of the loop.
        x: Inputs `[batch, time, inputs]`.
        kernel: Kernel of the inputs, `[inputs, gates * hidden]`, with the gates in the order of the
            cell.
        bias: Bias `[gates * hidden]`.
        recurrent_kernel: Recurrent kernel `[hidden, gates * hidden]`; `hidden` is a multiple of
            16.
        recurrent_bias: Recurrent bias of the candidate of a GRU, `[hidden]`; of other cells `[0]`.
        hidden: Hidden vectors before the first step, `[batch, hidden]`.
        memory: Memories of an LSTM before the first step, `[batch, hidden]`; of other cells
            `[batch, 0]`.
        added: Array `[batch, steps, gates * hidden]` that is added to what the inputs contribute to
            the first `steps` steps; there may be none.
        mask: Mask `bool[batch, time]` of real steps; elsewhere the carry stays as it is and the
            output is zero.

    Returns:
        Outputs `[batch, time, hidden]`, and hidden vectors and memories after the last step.
    """
    arrays = (x, kernel, bias, recurrent_kernel, recurrent_bias, hidden, memory, added)
    outputs, *last = _FORWARD(*arrays, mask.astype(jnp.float32), **loop.attributes())
    return outputs, last[0], last[1]


def _undifferentiated(function: Any) -> Any:
    """Returns a function of a loop and arrays as one that says that it has no derivative."""
    wrapped = jax.custom_jvp(function, nondiff_argnums=(0,))

    @wrapped.defjvp
    def rule(loop: Loop, primals: Any, tangents: Any) -> Any:
        raise NotImplementedError(
            "the compiled recurrent loops have no second derivative: use implementation='autodiff' "
            "of the layer, or set RCNN_JAX_KERNELS=0"
        )

    return wrapped


@_undifferentiated
def _save(loop: Loop, *arrays: Array) -> tuple[Array, ...]:
    """Runs a loop, and returns what its backward pass needs after the results."""
    return _FORWARD_SAVING(*arrays, **loop.attributes())


@_undifferentiated
def _pull(loop: Loop, saved: tuple[Array, ...], cotangents: tuple[Array, ...]) -> Any:
    """Computes the cotangents of all arguments but the mask, the last that of the drive."""
    x, kernel, recurrent_kernel, real, before, opened, extra = saved
    drive, candidate, hidden, memory = _BACKWARD(
        opened, recurrent_kernel, real, before, extra, *cotangents, **loop.attributes()
    )
    of_weights = _GRADIENTS(x, before, drive, candidate)
    to_x = drive @ kernel.T if x.shape[2] % UNITS else _DENSE_BACK(drive, kernel)[0]
    return to_x, *of_weights, hidden, memory, drive


def _recur_forward(loop: Loop, *arrays: Array) -> Any:
    *others, mask = arrays
    real = mask.astype(jnp.float32)
    outputs, hidden, memory, *saved = _save(loop, *others, real)
    x, kernel, _, recurrent_kernel, *_, added = others
    # Of what was added only the shape is needed.
    kept = (x, kernel, recurrent_kernel, real, *saved)
    return (outputs, hidden, memory), (kept, added[:, :, :0])


def _recur_backward(loop: Loop, residuals: Any, cotangents: tuple[Array, ...]) -> Any:
    saved, added = residuals
    *gradients, drive = _pull(loop, saved, cotangents)
    return *gradients, drive[:, : added.shape[1]], None


recur.defvjp(_recur_forward, _recur_backward)
