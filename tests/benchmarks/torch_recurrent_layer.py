"""PyTorch's side of the recurrent rows: its own fused layers."""

import pathlib
from typing import Any

import machine
import recurrent_inputs
import shared_weights
import torch
from row import Prepared

_LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def layer(
    folder: pathlib.Path,
    *,
    cell: str,
    bidirectional: bool,
    backward: bool,
    batch: int,
    time: int,
    features: int,
    time_first: bool = False,
) -> Prepared:
    """One layer over whole sequences; arguments as for ours.

    Args:
        folder: where the weights are.
        cell: `lstm` or `gru`.
        bidirectional: both directions, side by side.
        backward: also the gradients of all weights and of the input.
        batch: sequences.
        time: steps.
        features: length of inputs and of hidden vectors.
        time_first: take `[time, batch, features]`, which torch need not transpose.
    """
    torch.set_num_threads(len(machine.cores()))
    module = _LAYERS[cell](
        features, features, bidirectional=bidirectional, batch_first=not time_first
    )
    state = {name: torch.from_numpy(a) for name, a in shared_weights.load(folder).items()}
    module.load_state_dict(state)
    wide = features * (1 + bidirectional)
    x, cotangent = map(torch.from_numpy, recurrent_inputs.inputs(batch, time, features, wide))
    if time_first:
        x, cotangent = (a.transpose(0, 1).contiguous() for a in (x, cotangent))
    x.requires_grad_(backward)
    now: dict[str, torch.Tensor] = {}

    def run() -> None:
        if not backward:
            with torch.inference_mode():
                now["outputs"] = module(x)[0]
            return
        module.zero_grad(set_to_none=True)
        x.grad = None
        outputs = module(x)[0]
        outputs.backward(cotangent)
        now["outputs"] = outputs.detach()

    def batch_first(array: torch.Tensor) -> Any:
        return (array.transpose(0, 1) if time_first else array).numpy()

    def answers() -> dict[str, Any]:
        found: dict[str, Any] = {"outputs": batch_first(now["outputs"])}
        if backward:
            assert x.grad is not None
            found["gradient of the input"] = batch_first(x.grad)
            grads = {name: p.grad.numpy() for name, p in module.named_parameters()}  # pyright: ignore
            found["gradient"] = recurrent_inputs.comparable(grads)
        return found

    return Prepared(run, answers, work=batch, unit="sequences")
