"""This project's side of the recurrent rows, whose weights go to torch by `rcnn_jax.interop`."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import recurrent_inputs
import shared_weights
from row import Prepared

from rcnn_jax.interop import torch_recurrent
from rcnn_jax.layers.recurrent.gated_cells import GRU, LSTM
from rcnn_jax.layers.recurrent.stack import Stack

_CELLS = {"lstm": LSTM, "gru": GRU}


def layer(
    folder: pathlib.Path,
    *,
    cell: str,
    bidirectional: bool,
    backward: bool,
    batch: int,
    time: int,
    features: int,
) -> Prepared:
    """One layer over whole sequences.

    Args:
        folder: where weights are left, in torch's form.
        cell: `lstm` or `gru`.
        bidirectional: both directions, side by side.
        backward: also the gradients of all weights and of the input.
        batch: sequences.
        time: steps.
        features: length of inputs and of hidden vectors.
    """
    stack = Stack((_CELLS[cell](features),), bidirectional=bidirectional)
    wide = features * (1 + bidirectional)
    host_x, host_cotangent = recurrent_inputs.inputs(batch, time, features, wide)
    x, cotangent = jnp.asarray(host_x), jnp.asarray(host_cotangent)
    init = jax.jit(lambda key: stack.init(key, x[:, :1], train=False)["params"])
    state = torch_recurrent.to_torch(init(jax.random.key(0)))
    initial = shared_weights.filled(state, recurrent_inputs.constant)
    shared_weights.save(folder, initial)
    params = jax.device_put(torch_recurrent.from_torch(shared_weights.load(folder)))

    def outputs(params: Any, x: jax.Array) -> jax.Array:
        return stack.apply({"params": params}, x, train=False)[0]  # pyright: ignore

    @jax.jit
    def forward_and_backward(params: Any, x: jax.Array, cotangent: jax.Array) -> Any:
        value, pull = jax.vjp(outputs, params, x)
        return value, *pull(cotangent)

    forward = jax.jit(outputs)
    now: dict[str, Any] = {}

    def run() -> None:
        if backward:
            now["all"] = jax.block_until_ready(forward_and_backward(params, x, cotangent))
        else:
            now["all"] = (jax.block_until_ready(forward(params, x)),)

    def answers() -> dict[str, Any]:
        value, *gradients = now["all"]
        if not backward:
            return {"outputs": np.asarray(value)}
        of_weights = torch_recurrent.to_torch(gradients[0])
        return {
            "outputs": np.asarray(value),
            "gradient of the input": np.asarray(gradients[1]),
            "gradient": recurrent_inputs.comparable(of_weights),
        }

    return Prepared(run, answers, work=batch, unit="sequences")
