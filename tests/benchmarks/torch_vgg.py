"""PyTorch's side of the VGG rows: configuration D, as torchvision builds it."""

import itertools
import pathlib
from typing import Any

import machine
import numpy as np
import shared_weights
import torch
import vgg_inputs
from row import Prepared
from torch import nn

_CONVOLUTIONS = (2, 2, 3, 3, 3)


def _net(width: int, places: int, weights: dict[str, np.ndarray]) -> nn.Sequential:
    layers: list[nn.Module] = []
    names: list[str] = []
    channels = 3
    for block, (count, factor) in enumerate(
        zip(_CONVOLUTIONS, (1, 2, 4, 8, 8), strict=True), start=1
    ):
        for place in range(1, count + 1):
            layers += [nn.Conv2d(channels, factor * width, 3, padding=1), nn.ReLU(inplace=True)]
            names.append(f"conv{block}_{place}")
            channels = factor * width
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
    layers.append(nn.Flatten())
    sizes = (places * places * channels, 64 * width, 64 * width, vgg_inputs.CLASSES)
    for number, (one, other) in enumerate(itertools.pairwise(sizes), start=6):
        layers += [nn.Linear(one, other), *([nn.ReLU(inplace=True)] if number < 8 else [])]
        names.append(f"fc{number}")
    net = nn.Sequential(*layers)
    own = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    layers_of_ours = {path.rpartition("/")[0] for path in weights}
    paths = {path.rpartition("/")[2]: path for path in layers_of_ours}
    with torch.no_grad():
        for name, layer in zip(names, own, strict=True):
            kernel, bias = (weights[f"{paths[name]}/{leaf}"] for leaf in ("kernel", "bias"))
            if name == "fc6":  # ours reads rows, columns, channels
                kernel = kernel.reshape(places, places, channels, -1).transpose(2, 0, 1, 3)
                kernel = kernel.reshape(-1, kernel.shape[-1])
            order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel.transpose(order))))
            layer.bias.copy_(torch.from_numpy(bias))  # pyright: ignore[reportOptionalMemberAccess]
    return net


def inference(
    folder: pathlib.Path, *, batch: int, size: int, width: int, channels_last: bool = False
) -> Prepared:
    """Logits of VGG16; arguments as for ours, and whether maps lie with their channels last."""
    torch.set_num_threads(len(machine.cores()))
    net = _net(width, -(-size // 32), shared_weights.load(folder)).eval()
    x = torch.from_numpy(vgg_inputs.images(batch, size)).permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, net = x.contiguous(memory_format=layout), net.to(memory_format=layout)
    now: dict[str, Any] = {}

    def run() -> None:
        with torch.inference_mode():
            now["logits"] = net(x)

    return Prepared(run, lambda: {"logits": now["logits"].numpy()}, work=batch, unit="images")
