"""Classification or regression of whole sequences from the last states of recurrent layers.

    [batch, time, features] -> recurrent layers -> state after the last step -> linear layer

An image is a sequence of its rows. With both directions, the forward state after the last step and
the backward state after the first step are used, so that each depends on the whole sequence.

References:
    Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 1997 (the adding problem:
    one number for a sequence);
    Schuster & Paliwal, Bidirectional recurrent neural networks, IEEE Transactions on Signal
    Processing 1997.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.masks import checked_lengths
from rcnn_jax.layers.recurrent.cell import cell_of_model
from rcnn_jax.layers.recurrent.stack import Stack

DIRECTIONS = ("forward", "bidirectional")
EXAMPLE_INPUT = "28x28"


class SequenceClassifier(nn.Module):
    """Recurrent network that predicts a class, or a few numbers, for each sequence.

    Attributes:
        classes: Number of classes, or of predicted numbers.
        cell: Name or import path of the recurrent cell, see `cell_by_name`; `jordan`, which has an
            output at each step, is not supported.
        cell_options: Further attributes of the cell, such as `{"peepholes": True}` of the LSTM.
        hidden: Number of units of each recurrent layer, in each direction.
        layers: Number of recurrent layers.
        direction: `forward` or `bidirectional`.
        dropout: Fraction dropped in training of the values between recurrent layers and of the
            states that the linear layer reads.
        dtype: Dtype of the computation, such as `bfloat16`. None takes the dtype of the parameters.
        param_dtype: Dtype of the parameters.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.models.sequence_classifier import SequenceClassifier
        >>> model = SequenceClassifier(classes=10, cell="gru", hidden=16)
        >>> run = lambda key, x: model.init_with_output(key, x, train=False)[0]
        >>> jax.eval_shape(run, jax.random.key(0), jnp.ones((2, 28, 28, 1))).shape
        (2, 10)
    """

    classes: int
    cell: str = "lstm"
    cell_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hidden: int = 128
    layers: int = 1
    direction: str = "forward"
    dropout: float = 0.0
    dtype: str | None = None
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, lengths: Any = None) -> Array:
        """Classifies sequences.

        Args:
            x: Sequences `[batch, time, features]`, or images `[batch, height, width, channels]`,
                whose rows are the steps.
            train: Whether to drop activations (random collection `dropout`).
            lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`; later
                steps may have any finite values. None means that all steps are real.

        Returns:
            Logits `[batch, classes]` in float32, or wider if the computation is. The logits of a
            sequence of length 0 are the bias of the linear layer.

        Raises:
            ValueError: If an attribute or the shape of `x` is invalid, or a known length is out of
                range.
        """
        if x.ndim == 4:
            x = x.reshape(*x.shape[:2], -1)
        self._check(x)
        last = jnp.full(x.shape[:1], x.shape[1] - 1)
        if lengths is not None:
            lengths = checked_lengths(lengths, *x.shape[:2])
            last = jnp.maximum(lengths - 1, 0)
        outputs, _ = Stack(
            cells=(cell_of_model(self.cell, self.hidden, self.cell_options),) * self.layers,
            bidirectional=self.direction == "bidirectional",
            dropout=self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="recurrent",
        )(x, train=train, lengths=lengths)
        states = jnp.take_along_axis(outputs, last[:, None, None], axis=1)[:, 0]
        if self.direction == "bidirectional":
            units = self.hidden
            states = jnp.concatenate([states[:, :units], outputs[:, 0, units:]], axis=-1)
        states = Dropout(self.dropout, name="dropout_output")(states, train=train)
        states = states.astype(jnp.promote_types(states.dtype, jnp.float32))
        return nn.Dense(self.classes, param_dtype=jnp.dtype(self.param_dtype), name="head")(states)

    def _check(self, x: Array) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction is one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        for name in ("classes", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"SequenceClassifier needs {name} of at least 1, got {getattr(self, name)}"
                )
        if self.cell == "jordan":
            raise ValueError("cell='jordan' answers at each step and keeps no state to be read")
        if x.ndim != 3 or x.shape[1] < 1 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                "SequenceClassifier takes floating [batch, time, features] or images, at least 1 "
                f"step long, got {x.dtype} of shape {x.shape}"
            )
