"""PyTorch's side of the CTC loss."""

import pathlib

import ctc_inputs
import machine
import torch
from row import Prepared


def loss(folder: pathlib.Path, **sizes: int) -> Prepared:
    """Sum of the losses of a batch and its gradient by the logits; arguments as for ours."""
    del folder
    torch.set_num_threads(len(machine.cores()))
    logits, labels = map(torch.from_numpy, ctc_inputs.problems(**sizes))
    logits.requires_grad_()
    labels = labels.long()
    frames = torch.full((sizes["batch"],), sizes["time"])
    counts = torch.full((sizes["batch"],), sizes["labels"])
    now: dict[str, torch.Tensor] = {}

    def run() -> None:
        logits.grad = None
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        value = torch.nn.functional.ctc_loss(log_probs, labels, frames, counts, reduction="sum")
        value.backward()
        now["loss"] = value.detach()

    def answers() -> dict[str, object]:
        assert logits.grad is not None
        return {"loss": now["loss"].numpy(), "gradient": logits.grad.numpy()}

    return Prepared(run, answers, work=sizes["batch"], unit="sequences")
