"""The LSTM of cuDNN, for NVIDIA GPUs.

cuDNN takes all weights as one flat array: the input weights, the recurrent weights, then two
biases, each with rows in the order i, f, g, o.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn
from jaxtyping import Array, Float, Int

from rcnn_jax.layers.masks import reverse_within, time_mask
from rcnn_jax.layers.recurrent.gated_cells import LSTM
from rcnn_jax.layers.recurrent.scan import Arrays


def cudnn_lstm(
    cell: Any,
    weights: Arrays,
    x: Float[Array, "batch time features"],
    carry: Arrays,
    *,
    lengths: Int[Array, "batch"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Array, "batch time hidden"], Arrays]:
    """Runs an LSTM by cuDNN, with the arguments and results of `run_cell`.

    Products have the precision that cuDNN uses by default, TF32 if the GPU has it.

    Args:
        cell: LSTM with a forget gate, tanh activations and no peepholes.
        weights: All weights of the cell by name, in float32.
        x: Inputs `float32[batch, time, features]`.
        carry: State before the first step, `hidden` and `memory` `[batch, hidden]`.
        lengths: Number of real steps of each sequence, integers `[batch]` in `[0, time]`. None
            means that all steps are real.
        reverse: Whether each sequence is read from its last real step to its first.

    Returns:
        A pair of the outputs `[batch, time, hidden]`, zero beyond the lengths, and the carry after
        the last step that was read.

    Raises:
        ValueError: If there is no GPU, cuDNN does not support the cell, or the dtype is not
            float32.
    """
    if jax.default_backend() != "gpu":
        raise ValueError(
            f'implementation="cudnn" needs an NVIDIA GPU, this is a {jax.default_backend()}; use '
            '"scan"'
        )
    if not isinstance(cell, LSTM) or not _plain(cell):
        raise ValueError(
            'implementation="cudnn" runs an LSTM with a forget gate, tanh activations and no '
            f"peepholes, got {cell}"
        )
    if x.dtype != jnp.float32:
        raise ValueError(f'implementation="cudnn" computes in float32, got {x.dtype}')
    batch, time, features = x.shape
    if lengths is None:
        lengths = jnp.full((batch,), time, jnp.int32)
    if reverse:
        x = reverse_within(x, lengths)
    kernels = [weights["kernel"].T.ravel(), weights["recurrent_kernel"].T.ravel()]
    biases = [weights["bias"], jnp.zeros_like(weights["bias"])]
    results: Any = rnn.lstm(
        x,
        carry["hidden"][None],
        carry["memory"][None],
        jnp.concatenate(kernels + biases),
        # cuDNN accepts no empty sequences; the results of those are corrected below.
        jnp.maximum(lengths, 1).astype(jnp.int32),
        features,
        cell.hidden,
        1,
        0.0,
        False,
    )
    outputs, hidden, memory = results
    outputs = jnp.where(time_mask(lengths, time)[..., None], outputs, 0.0)
    if reverse:
        outputs = reverse_within(outputs, lengths)
    not_empty = (lengths > 0)[:, None]
    after = {"hidden": hidden[0], "memory": memory[0]}
    return outputs, {name: jnp.where(not_empty, after[name], carry[name]) for name in after}


def _plain(cell: LSTM) -> bool:
    """Returns whether cuDNN supports the options of an LSTM."""
    gates_supported = cell.forget_gate and not cell.peepholes
    return gates_supported and cell.activation == "tanh" and cell.output_activation == "tanh"
