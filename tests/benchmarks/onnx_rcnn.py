"""Inference of RCNN by ONNX Runtime: the network of `torch_rcnn.py`, exported by torch."""

import os
import pathlib
import tempfile
from typing import Any

import machine
import onnxruntime
import torch
import torch_rcnn
from row import Prepared


def inference(
    folder: pathlib.Path,
    *,
    batch: int,
    size: int,
    features: int = 96,
    steps: int = 3,
    norm: str = "lrn",
) -> Prepared:
    """Logits of a batch that stays in place, on as many threads as the other sides have.

    Args:
        folder: where weights are.
        batch: images.
        size: their height and width.
        features: maps of a layer.
        steps: iterations.
        norm: `lrn` or `batch`.
    """
    net, x, _ = torch_rcnn._prepare(
        folder, batch=batch, size=size, best=True, channels_last=False, features=features,
        steps=steps, norm=norm,
    )  # fmt: skip
    net.eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(machine.cores())
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = os.path.join(place, "rcnn.onnx")
        torch.onnx.export(net, (x,), file, dynamo=True)
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    images = {given.name: x.numpy()}
    now: dict[str, Any] = {}

    def run() -> None:
        (now["logits"],) = session.run(None, images)

    return Prepared(run, lambda: {"logits": now["logits"]}, work=batch, unit="images")
