"""Layers that run a cell over sequences, in one direction or in both."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn import initializers
from jaxtyping import Array, Float, Int, PyTree

from rcnn_jax.layers.masks import checked_lengths, live_steps
from rcnn_jax.layers.recurrent.cell import Cell
from rcnn_jax.layers.recurrent.cudnn import cudnn_lstm
from rcnn_jax.layers.recurrent.scan import Arrays, scan_cell

IMPLEMENTATIONS = ("scan", "autodiff", "cudnn")
MERGES = ("concat", "sum")


def zero_carry(cell: Cell, batch: int, dtype: Any = jnp.float32) -> Arrays:
    """The carry before anything was read: zeros `[batch, length]`."""
    return {name: jnp.zeros((batch, n), dtype) for name, n in cell.carry_features().items()}


def run_cell(
    cell: Cell,
    weights: Arrays,
    x: Float[Array, "batch time features"],
    carry: Arrays,
    *,
    lengths: Int[Array, "batch"] | None = None,
    reverse: bool = False,
    implementation: str = "scan",
    added: Float[Array, "batch steps width"] | None = None,
) -> tuple[Float[Array, "batch time outputs"], Arrays]:
    """Runs a cell over sequences.

    Args:
        cell: the cell.
        weights: all its weights by name, in the dtype of `x`.
        x: inputs `[batch, time, features]`.
        carry: the state before the first step, `[batch, length]` each.
        lengths: number of steps of each sequence; what lies beyond is never read. None: all.
        reverse: read each sequence from its last step to its first.
        implementation: `scan`: the recurrent kernels' gradients are one product each, reverse
            mode only; `autodiff`: jax differentiates the scan; `cudnn`: an LSTM without options,
            in float32 on an NVIDIA GPU.
        added: goes to what the input contributes to the first `steps` steps, as if these had read
            more than `x`; as wide as that is, which for `Elman` is `hidden`.

    Returns:
        The outputs `[batch, time, output_features]`, each at its step, zero beyond the length;
        and the carry after the last step that was read.

    Raises:
        ValueError: the implementation cannot run this cell here, or there is none of that name;
            or `added` does not fit what the input contributes.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is one of {', '.join(IMPLEMENTATIONS)}, got {implementation!r}"
        )
    live = None
    if lengths is not None:
        live = live_steps(lengths, x.shape[1])[..., None]
        # Padding may hold anything, also what would turn into NaN in a step that does not count.
        x = jnp.where(live, x, jnp.zeros((), x.dtype))
    if implementation == "cudnn":
        if added is not None:
            raise ValueError('implementation="cudnn" adds nothing to what the input contributes')
        return cudnn_lstm(cell, weights, x, carry, lengths=lengths, reverse=reverse)
    declared = cell.weights(x.shape[-1])
    inputs, kernels, vectors = ({name: weights[name] for name in group} for group in declared)
    # Time first: the input is the narrowest array to transpose.
    drive = cell.drive(inputs, x.swapaxes(0, 1))
    if added is not None:
        drive = _with(drive, added)
    carry, outputs = scan_cell(
        cell.step,
        kernels,
        vectors,
        carry,
        drive,
        live=None if live is None else live.swapaxes(0, 1),
        reverse=reverse,
        autodiff=implementation == "autodiff",
    )
    return outputs.swapaxes(0, 1), carry


def _with(drive: PyTree, added: Array) -> Array:
    shapes = [leaf.shape for leaf in jax.tree.leaves(drive)]
    fits = len(shapes) == 1 and added.ndim == 3 and added.shape[1] <= shapes[0][0]
    if not fits or shapes[0][1:] != (added.shape[0], added.shape[2]):
        raise ValueError(
            f"added is [batch, steps, width] of what the input contributes, [time, batch, width] = "
            f"{', '.join(map(str, shapes))} for this cell, got {added.shape}"
        )
    return drive.at[: added.shape[1]].add(added.swapaxes(0, 1))


class Recurrent(nn.Module):
    """A cell run over sequences.

    Parameters: those of the cell, and `initial_NAME` `[length]` for each part of a learned carry.

    Attributes:
        cell: such as `LSTM(hidden=512)`, see `Cell`.
        reverse: read each sequence from its last step to its first.
        learned_carry: learn the state before the first step, which is zero otherwise.
        implementation: see `run_cell`.
        dtype: dtype of the computation; None: that of input and parameters.
        param_dtype: dtype of the parameters.
    """

    cell: Cell
    reverse: bool = False
    learned_carry: bool = False
    implementation: str = "scan"
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        lengths: Any = None,
        initial_carry: Mapping[str, Any] | None = None,
        added: Array | None = None,
    ) -> tuple[Array, Arrays]:
        """Runs the layer.

        Args:
            x: inputs `[batch, time, features]`.
            lengths: integers `[batch]` in 0..time; None: all steps of all sequences.
            initial_carry: the state before the first step, such as an earlier call returned.
            added: see `run_cell`.

        Returns:
            Outputs `[batch, time, output_features]`, zero beyond the lengths, and the carry, a
            dict of `[batch, length]`, after the last step of each sequence. With `reverse` that is
            the one at its first step.

        Raises:
            ValueError: an argument has another shape, or a known length is impossible.
        """
        if x.ndim != 3:
            raise ValueError(
                f"a recurrent layer takes sequences [batch, time, features], got shape {x.shape}"
            )
        batch, time, features = x.shape
        param_dtype = jnp.dtype(self.param_dtype)
        weights = {
            name: self.param(name, initializer, shape, param_dtype)
            for group in self.cell.weights(features)
            for name, (initializer, shape) in group.items()
        }
        x, *values = promote_dtype(x, *weights.values(), dtype=self.dtype)
        learned = {}
        if self.learned_carry:
            for name, length in self.cell.carry_features().items():
                start = self.param(f"initial_{name}", initializers.zeros, (length,), param_dtype)
                learned[name] = jnp.broadcast_to(start[None], (batch, length)).astype(x.dtype)
        carry = zero_carry(self.cell, batch, x.dtype) | learned
        if initial_carry is not None:
            carry = _checked_carry(initial_carry, carry)
        if lengths is not None:
            lengths = checked_lengths(lengths, batch, time)
        return run_cell(
            self.cell,
            dict(zip(weights, values, strict=True)),
            x,
            carry,
            lengths=lengths,
            reverse=self.reverse,
            implementation=self.implementation,
            added=None if added is None else added.astype(x.dtype),
        )


def _checked_carry(given: Mapping[str, Any], expected: Arrays) -> Arrays:
    shapes = {name: jnp.shape(value) for name, value in given.items()}
    wanted = {name: value.shape for name, value in expected.items()}
    if shapes != wanted:
        raise ValueError(f"initial_carry must have the shapes {wanted}, got {shapes}")
    return {name: jnp.asarray(given[name], value.dtype) for name, value in expected.items()}


class Bidirectional(nn.Module):
    """Two layers over the same sequences, one forwards and one backwards.

    Parameters: `forward` and `backward`, those of a `Recurrent` each.

    Attributes:
        cell: of both directions.
        merge: `concat`: the outputs of both side by side, forward first; `sum`: their sum.
        learned_carry: see `Recurrent`.
        implementation: see `run_cell`.
        dtype: dtype of the computation; None: that of input and parameters.
        param_dtype: dtype of the parameters.

    Reference:
        Schuster & Paliwal, Bidirectional recurrent neural networks, IEEE Transactions on Signal
        Processing 1997.
    """

    cell: Cell
    merge: str = "concat"
    learned_carry: bool = False
    implementation: str = "scan"
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        lengths: Any = None,
        initial_carry: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Arrays]]:
        """Runs both directions.

        Args:
            x: inputs `[batch, time, features]`.
            lengths: see `Recurrent`; the backward layer starts at the end of each sequence.
            initial_carry: `{"forward": carry, "backward": carry}`.

        Returns:
            Outputs `[batch, time, 2 * output_features]`, or half as wide for `sum`; and the
            carries `{"forward": carry, "backward": carry}`.

        Raises:
            ValueError: `merge` is neither, a carry is missing, or see `Recurrent`.
        """
        if self.merge not in MERGES:
            raise ValueError(f"merge is one of {', '.join(MERGES)}, got {self.merge!r}")
        if initial_carry is not None and set(initial_carry) != {"forward", "backward"}:
            raise ValueError(
                "a bidirectional layer starts from the carries forward and backward, got "
                f"{sorted(initial_carry)}"
            )
        outputs, carries = [], {}
        for name in ("forward", "backward"):
            layer = Recurrent(
                self.cell,
                reverse=name == "backward",
                learned_carry=self.learned_carry,
                implementation=self.implementation,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=name,
            )
            start = None if initial_carry is None else initial_carry[name]
            output, carries[name] = layer(x, lengths=lengths, initial_carry=start)
            outputs.append(output)
        if self.merge == "sum":
            return outputs[0] + outputs[1], carries
        return jnp.concatenate(outputs, axis=-1), carries
