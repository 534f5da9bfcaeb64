"""Stacked recurrent layers, and sequences that are processed in chunks."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_leaves_with_path
from jaxtyping import Array, PyTree

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.masks import checked_lengths
from rcnn_jax.layers.recurrent.cell import Cell
from rcnn_jax.layers.recurrent.layer import Bidirectional, Recurrent


class Stack(nn.Module):
    """Stack of recurrent layers, each of which reads the outputs of the layer below.

    The parameters are `layer0`, `layer1`, ... from the input on, each with the parameters of a
    `Recurrent` or of a `Bidirectional`.

    Attributes:
        cells: Recurrent cell of each layer from the input on, for example `(LSTM(512),) * 2`.
        bidirectional: Whether every layer reads in both directions.
        merge: Combination of the outputs of both directions, `concat` or `sum`; see
            `Bidirectional`.
        dropout: Fraction of the outputs that is dropped between two layers in training, drawn anew
            at each time step; neither the recurrence nor the last output is affected.
        learned_carry: Whether the states before the first step are learned; otherwise they are
            zero.
        implementation: Implementation of the loop, `scan`, `autodiff` or `cudnn`; see `run_cell`.
        dtype: Dtype of the computation. None takes the promoted dtype of input and parameters.
        param_dtype: Dtype of the parameters.

    References:
        Zaremba, Sutskever & Vinyals, Recurrent neural network regularization, 2014 (dropout).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.recurrent.gated_cells import GRU
        >>> from rcnn_jax.layers.recurrent.stack import Stack
        >>> stack = Stack((GRU(8), GRU(4)), bidirectional=True)
        >>> run = lambda key, x: stack.init_with_output(key, x, train=False)[0]
        >>> outputs, carries = jax.eval_shape(run, jax.random.key(0), jnp.ones((2, 5, 3)))
        >>> outputs.shape, len(carries), carries[1]["backward"]["hidden"].shape
        ((2, 5, 8), 2, (2, 4))
    """

    cells: Sequence[Cell]
    bidirectional: bool = False
    merge: str = "concat"
    dropout: float = 0.0
    learned_carry: bool = False
    implementation: str = "scan"
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        train: bool,
        lengths: Any = None,
        initial_carry: Sequence[Any] | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        """Runs all layers.

        Args:
            x: Inputs `[batch, time, features]`.
            train: Whether to drop outputs between layers (random collection `dropout`).
            lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`. None
                means that all steps are real.
            initial_carry: Carry of each layer before the first step. None takes the learned
                carries, or zeros.

        Returns:
            A pair of the outputs of the last layer, zero beyond the lengths, and a tuple of the
            carries of all layers.

        Raises:
            ValueError: If there is no cell, a carry is missing, an argument has a wrong shape, or a
                known length is out of range.
        """
        if not self.cells:
            raise ValueError("a Stack needs at least one cell, got cells=()")
        if initial_carry is not None and len(initial_carry) != len(self.cells):
            raise ValueError(
                f"a Stack of {len(self.cells)} layers starts from as many carries, got "
                f"{len(initial_carry)}"
            )
        carries = []
        for number, cell in enumerate(self.cells):
            if number:
                x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
            start = None if initial_carry is None else initial_carry[number]
            x, carry = self._layer(cell, f"layer{number}")(x, lengths=lengths, initial_carry=start)
            carries.append(carry)
        return x, tuple(carries)

    def _layer(self, cell: Cell, name: str) -> Recurrent | Bidirectional:
        shared: dict[str, Any] = {
            "learned_carry": self.learned_carry,
            "implementation": self.implementation,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
            "name": name,
        }
        if self.bidirectional:
            return Bidirectional(cell, merge=self.merge, **shared)
        return Recurrent(cell, **shared)


def in_chunks(
    layer: Callable[..., tuple[Array, PyTree]],
    x: Array,
    *,
    chunk: int,
    lengths: Any = None,
    initial_carry: PyTree = None,
    truncate: bool = True,
) -> tuple[Array, PyTree]:
    """Runs a layer over long sequences in chunks, each starting from the carry of the one before.

    The values equal those of a single call over the whole sequences. With `truncate` no gradient
    passes from a chunk to the one before, which is truncated backpropagation through time. A
    training loop with an update after each chunk obtains the same by `jax.lax.stop_gradient` of the
    carry.

    Args:
        layer: Function `layer(x, lengths=, initial_carry=) -> (outputs, carry)` that reads forward
            only, such as a bound `Recurrent` or a `functools.partial` of its `apply`.
        x: Inputs `[batch, time, features]`.
        chunk: Number of steps of a chunk, at least 1; the last chunk may be shorter.
        lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`. None
            means that all steps are real.
        initial_carry: Carry before the first chunk. None takes the initial carry of the layer.
        truncate: Whether gradients stop between chunks.

    Returns:
        A pair of the outputs `[batch, time, features]` and the last carry.

    Raises:
        ValueError: If `chunk` is not positive, the layer is bidirectional, or a known length is out
            of range.
    """
    if chunk < 1:
        raise ValueError(f"a chunk has at least 1 time step, got chunk={chunk}")
    if lengths is not None:
        lengths = checked_lengths(lengths, *x.shape[:2])
    carry = initial_carry
    outputs = []
    for start in range(0, max(x.shape[1], 1), chunk):
        inputs = x[:, start : start + chunk]
        chunk_lengths = None
        if lengths is not None:
            chunk_lengths = jnp.clip(lengths - start, 0, inputs.shape[1])
        if truncate and start:
            carry = jax.lax.stop_gradient(carry)
        output, carry = layer(inputs, lengths=chunk_lengths, initial_carry=carry)
        if any("backward" in keystr(path) for path, _ in tree_leaves_with_path(carry)):
            raise ValueError("a bidirectional layer cannot read in chunks: it starts at both ends")
        outputs.append(output)
    return jnp.concatenate(outputs, axis=1), carry
