"""Recurrent layers on top of each other, and sequences read in chunks."""

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
    """Recurrent layers, each reading the outputs of the one below.

    Parameters: `layer0`, `layer1`, ... from the input on, those of a `Recurrent` or of a
    `Bidirectional` each.

    Attributes:
        cells: one for each layer, for example `(LSTM(512),) * 2`.
        bidirectional: every layer reads both ways.
        merge: see `Bidirectional`.
        dropout: share of the outputs dropped between two layers, drawn anew at each time step;
            neither the recurrence nor the last output is touched.
        learned_carry: see `Recurrent`.
        implementation: see `run_cell`.
        dtype: dtype of the computation; None: that of input and parameters.
        param_dtype: dtype of the parameters.

    Reference:
        Zaremba, Sutskever & Vinyals, Recurrent neural network regularization, 2014 (dropout).
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
            x: inputs `[batch, time, features]`.
            train: drop outputs between layers (random collection `dropout`).
            lengths: see `Recurrent`.
            initial_carry: the carry of each layer.

        Returns:
            The outputs of the last layer, and the carries of all.

        Raises:
            ValueError: there is no cell, a carry is missing, or see `Recurrent`.
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
    """Reads long sequences a chunk at a time, each going on from the carry of the one before.

    Values are those of one call over the whole sequences. With `truncate` no gradient passes from
    a chunk to the one before: truncated backpropagation through time. A training loop that makes
    a step after each chunk does the same with `jax.lax.stop_gradient` of the carry.

    Args:
        layer: `layer(x, lengths=, initial_carry=) -> (outputs, carry)`, in forward direction
            only, such as a bound `Recurrent` or a `functools.partial` of its `apply`.
        x: inputs `[batch, time, features]`.
        chunk: steps of a chunk, at least 1; the last may be shorter.
        lengths: integers `[batch]` in 0..time; None: all steps.
        initial_carry: the carry before the first chunk; None: that of the layer.
        truncate: stop gradients between chunks.

    Returns:
        The outputs `[batch, time, features]`, and the last carry.

    Raises:
        ValueError: `chunk` is not positive, the layer is bidirectional, or a known length is
            impossible.
    """
    if chunk < 1:
        raise ValueError(f"a chunk has at least 1 time step, got chunk={chunk}")
    if lengths is not None:
        lengths = checked_lengths(lengths, *x.shape[:2])
    carry = initial_carry
    outputs = []
    for start in range(0, max(x.shape[1], 1), chunk):
        part = x[:, start : start + chunk]
        left = None
        if lengths is not None:
            left = jnp.clip(lengths - start, 0, part.shape[1])
        if truncate and start:
            carry = jax.lax.stop_gradient(carry)
        output, carry = layer(part, lengths=left, initial_carry=carry)
        if any("backward" in keystr(path) for path, _ in tree_leaves_with_path(carry)):
            raise ValueError("a bidirectional layer cannot read in chunks: it starts at both ends")
        outputs.append(output)
    return jnp.concatenate(outputs, axis=1), carry
