"""Recurrent layers that run a cell over sequences, in one direction or in both."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn import initializers
from jaxtyping import Array, Float, Int, PyTree

from rcnn_jax.kernels import forms
from rcnn_jax.layers.masks import checked_lengths, time_mask
from rcnn_jax.layers.recurrent.cell import Cell
from rcnn_jax.layers.recurrent.compiled import run_compiled, why_not
from rcnn_jax.layers.recurrent.cudnn import cudnn_lstm
from rcnn_jax.layers.recurrent.scan import Arrays, scan_cell

IMPLEMENTATIONS = ("scan", "autodiff", "cudnn")
MERGES = ("concat", "sum")


def zero_carry(cell: Cell, batch: int, dtype: Any = jnp.float32) -> Arrays:
    """Returns the carry before the first step, all zeros.

    Args:
        cell: Recurrent cell.
        batch: Number of sequences.
        dtype: Dtype of the carry.

    Returns:
        The parts of the carry by name, `[batch, length]` each.

    Example:
        >>> from rcnn_jax.layers.recurrent.gated_cells import GRU
        >>> from rcnn_jax.layers.recurrent.layer import zero_carry
        >>> zero_carry(GRU(2), batch=1)["hidden"].tolist()
        [[0.0, 0.0]]
    """
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
        cell: Recurrent cell.
        weights: All weights of the cell by name, in the dtype of `x`.
        x: Inputs `[batch, time, features]`.
        carry: State before the first step, parts `[batch, length]` by name.
        lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`; later
            steps are never read. None means that all steps are real.
        reverse: Whether each sequence is read from its last real step to its first.
        implementation: Implementation of the loop: `scan` computes the gradient of each recurrent
            kernel as one product, in reverse mode only, and on a CPU runs the compiled form of the
            loop where there is one; `autodiff` leaves the derivative of the
            scan to JAX; `cudnn` runs an LSTM without options in float32 on an NVIDIA GPU.
        added: Array `[batch, steps, width]` that is added to the contribution of the input at the
            first `steps` steps, as if these had more inputs than `x`. Its width is that of the
            contribution, `hidden` for `Elman`. None adds nothing.

    Returns:
        A pair of the outputs `[batch, time, output_features]`, zero beyond the lengths, and the
        carry after the last step that was read.

    Raises:
        ValueError: If the implementation is unknown or cannot run this cell on this device, or
            `added` does not fit the contribution of the input.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is one of {', '.join(IMPLEMENTATIONS)}, got {implementation!r}"
        )
    mask = None
    if lengths is not None:
        mask = time_mask(lengths, x.shape[1])
        # Padding may have any value, even one that becomes NaN in a step that is masked.
        x = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
    if implementation == "cudnn":
        if added is not None:
            raise ValueError('implementation="cudnn" adds nothing to what the input contributes')
        return cudnn_lstm(cell, weights, x, carry, lengths=lengths, reverse=reverse)
    if implementation == "scan" and forms.compiled("recurrent loop", why_not(cell, x)):
        return run_compiled(cell, weights, x, carry, mask=mask, reverse=reverse, added=added)
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
        mask=None if mask is None else mask.swapaxes(0, 1)[..., None],
        reverse=reverse,
        autodiff=implementation == "autodiff",
    )
    return outputs.swapaxes(0, 1), carry


def _with(drive: PyTree, added: Array) -> Array:
    """Adds `added` to the contribution of the input at the first steps."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(drive)]
    fits = len(shapes) == 1 and added.ndim == 3 and added.shape[1] <= shapes[0][0]
    if not fits or shapes[0][1:] != (added.shape[0], added.shape[2]):
        raise ValueError(
            f"added is [batch, steps, width] of what the input contributes, [time, batch, width] = "
            f"{', '.join(map(str, shapes))} for this cell, got {added.shape}"
        )
    return drive.at[: added.shape[1]].add(added.swapaxes(0, 1))


class Recurrent(nn.Module):
    """A layer that runs a recurrent cell over sequences.

    The parameters are those of the cell, and `initial_NAME` `[length]` for each part of a learned
    carry.

    Attributes:
        cell: Recurrent cell, such as `LSTM(hidden=512)`; see `Cell`.
        reverse: Whether each sequence is read from its last step to its first.
        learned_carry: Whether the state before the first step is learned; otherwise it is zero.
        implementation: Implementation of the loop, `scan`, `autodiff` or `cudnn`; see `run_cell`.
        dtype: Dtype of the computation. None takes the promoted dtype of input and parameters.
        param_dtype: Dtype of the parameters.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.recurrent.gated_cells import LSTM
        >>> from rcnn_jax.layers.recurrent.layer import Recurrent
        >>> layer = Recurrent(LSTM(hidden=8))
        >>> init = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.ones((2, 5, 3)))
        >>> (outputs, carry), variables = init
        >>> outputs.shape, carry["memory"].shape, variables["params"]["kernel"].shape
        ((2, 5, 8), (2, 8), (3, 32))
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
            x: Inputs `[batch, time, features]`.
            lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`. None
                means that all steps are real.
            initial_carry: State before the first step, such as the carry that an earlier call
                returned. None takes the learned carry, or zeros.
            added: Array `[batch, steps, width]` that is added to the contribution of the input at
                the first `steps` steps; see `run_cell`. None adds nothing.

        Returns:
            A pair of the outputs `[batch, time, output_features]`, zero beyond the lengths, and the
            carry, a dict of arrays `[batch, length]`, after the last real step of each sequence;
            with `reverse` after its first step.

        Raises:
            ValueError: If an argument has a wrong shape, or a known length is out of range.
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
    """Checks the shapes of a given carry, and converts it to the dtype of the expected one."""
    shapes = {name: jnp.shape(value) for name, value in given.items()}
    wanted = {name: value.shape for name, value in expected.items()}
    if shapes != wanted:
        raise ValueError(f"initial_carry must have the shapes {wanted}, got {shapes}")
    return {name: jnp.asarray(given[name], value.dtype) for name, value in expected.items()}


class Bidirectional(nn.Module):
    """Two recurrent layers over the same sequences, one forward and one backward.

    The parameters are `forward` and `backward`, each with the parameters of a `Recurrent`.

    Attributes:
        cell: Recurrent cell of both directions.
        merge: Combination of the outputs of both directions: `concat` joins them along the
            features, forward first; `sum` adds them.
        learned_carry: Whether the states before the first steps are learned; otherwise they are
            zero.
        implementation: Implementation of the loop, `scan`, `autodiff` or `cudnn`; see `run_cell`.
        dtype: Dtype of the computation. None takes the promoted dtype of input and parameters.
        param_dtype: Dtype of the parameters.

    References:
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
            x: Inputs `[batch, time, features]`.
            lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`; the
                backward layer starts at the last real step. None means that all steps are real.
            initial_carry: Carries of both directions, `{"forward": carry, "backward": carry}`. None
                takes the learned carries, or zeros.

        Returns:
            A pair of the outputs `[batch, time, 2 * output_features]`, or half as wide for `sum`,
            and the carries `{"forward": carry, "backward": carry}`.

        Raises:
            ValueError: If `merge` is unknown, a carry is missing, an argument has a wrong shape, or
                a known length is out of range.
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
