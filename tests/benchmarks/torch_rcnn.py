"""RCNN in PyTorch: as a user writes it, and in the formulation that runs fastest.

Both compute what `rcnn_jax.models.rcnn.RCNN` computes with `norm="lrn"` or `norm="batch"` and no
dropout; `load` and `gradients` are the one place where weights change their names and layouts.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import machine
import numpy as np
import rcnn_inputs
import shared_weights
import torch
import torch.nn.functional as F  # noqa: N812
import torch_device
from row import Prepared
from torch import nn

_ALPHA, _BETA = 1e-3, 0.75


class UserLRN(nn.Module):
    """Local response normalization by the library's function."""

    def __init__(self, features: int):
        super().__init__()
        self.size = features // 8 + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.local_response_norm(x, self.size, alpha=_ALPHA, beta=_BETA, k=1.0)


class BandedLRN(nn.Module):
    """The same with its sum over channels as a 1x1 convolution with a banded kernel."""

    def __init__(self, features: int):
        super().__init__()
        size = features // 8 + 1
        i = torch.arange(features)
        away = i[None] - i[:, None]
        band = ((away >= -(size // 2)) & (away <= size - 1 - size // 2)).float() * (_ALPHA / size)
        self.band: torch.Tensor
        self.one: torch.Tensor
        self.register_buffer("band", band[:, :, None, None])
        self.register_buffer("one", torch.ones(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.conv2d(x * x, self.band, self.one).pow(-_BETA)


class RCL(nn.Module):
    """A recurrent convolutional layer; `steps=0` is a convolution."""

    def __init__(self, inputs: int, features: int, window: int, steps: int, norm: str, best: bool):
        super().__init__()
        self.steps, self.best, self.norm = steps, best, norm
        bias = norm == "lrn"
        self.forward_conv = nn.Conv2d(inputs, features, window, padding=window // 2, bias=bias)
        if steps:
            self.recurrent_conv = nn.Conv2d(features, features, window, padding=1, bias=False)
        if norm == "lrn":
            self.lrn = (BandedLRN if best else UserLRN)(features)
        else:
            # The share of new statistics, where ours states the share of old ones.
            norms = [nn.BatchNorm2d(features, momentum=0.1) for _ in range(steps + 1)]
            self.norms = nn.ModuleList(norms)

    def activate(self, z: torch.Tensor, t: int) -> torch.Tensor:
        if self.norm == "lrn":
            return self.lrn(F.relu(z))
        return F.relu(self.norms[t](z), inplace=self.best)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        drive = self.forward_conv(u)
        x = self.activate(drive, 0)
        for t in range(1, self.steps + 1):
            if not self.best:
                drive = self.forward_conv(u)
            x = self.activate(drive + self.recurrent_conv(x), t)
        return x


class RCNN(nn.Module):
    """conv 5x5 - max-pool 3/2 - RCL - RCL - max-pool 3/2 - RCL - RCL - global max - linear."""

    def __init__(self, *, features: int, steps: int, norm: str, best: bool):
        super().__init__()
        self.conv = RCL(3, features, 5, 0, norm, best)
        self.rcl1, self.rcl2, self.rcl3, self.rcl4 = (
            RCL(features, features, 3, steps, norm, best) for _ in range(4)
        )
        self.head = nn.Linear(features, rcnn_inputs.CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.conv(images), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.rcl2(self.rcl1(x)), 3, 2, ceil_mode=True)
        x = self.rcl4(self.rcl3(x))
        return self.head(F.adaptive_max_pool2d(x, 1).flatten(1))


def _places(net: RCNN) -> Iterator[tuple[str, int | None, torch.Tensor]]:
    """Our path of every weight and statistic, its step where ours keeps one a step, and theirs."""
    for name in ("conv", "rcl1", "rcl2", "rcl3", "rcl4"):
        layer = getattr(net, name)
        yield f"params/{name}/kernel", None, layer.forward_conv.weight
        if layer.steps:
            yield f"params/{name}/recurrent_kernel", None, layer.recurrent_conv.weight
        if layer.norm == "lrn":
            yield f"params/{name}/norm/bias", None, layer.forward_conv.bias
            continue
        for t, norm in enumerate(layer.norms):
            yield f"params/{name}/norm/scale", t, norm.weight
            yield f"params/{name}/norm/bias", t, norm.bias
            yield f"model_state/batch_stats/{name}/norm/mean", t, norm.running_mean
            yield f"model_state/batch_stats/{name}/norm/var", t, norm.running_var
    yield "params/head_kernel", None, net.head.weight
    yield "params/head_bias", None, net.head.bias


def load(net: RCNN, weights: dict[str, np.ndarray]) -> None:
    """Copies our weights into the net.

    Raises:
        ValueError: one of ours was not used.
    """
    left = set(weights)
    with torch.no_grad():
        for path, t, theirs in _places(net):
            ours = weights[path] if t is None else weights[path][t]
            # [height, width, inputs, outputs] to [outputs, inputs, height, width]; a matrix is
            # transposed likewise.
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[ours.ndim]
            theirs.copy_(torch.from_numpy(np.array(ours.transpose(order))))
            left.discard(path)
    if left:
        raise ValueError(f"the torch net has no place for {', '.join(sorted(left))}")


def gradients(net: RCNN) -> dict[str, np.ndarray]:
    """The gradients by our paths, in our layouts."""
    found: dict[str, Any] = {}
    for path, t, theirs in _places(net):
        if theirs.grad is None:
            continue
        grad = theirs.grad.detach().cpu().numpy()
        order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[grad.ndim]
        own = np.array(grad.transpose(order))
        name = path.removeprefix("params/")
        if t is None:
            found[name] = own
        else:
            found.setdefault(name, []).append(own)
    return {name: np.stack(g) if isinstance(g, list) else g for name, g in found.items()}


def _prepare(
    folder: pathlib.Path,
    *,
    batch: int,
    size: int,
    best: bool,
    channels_last: bool,
    **model: Any,
) -> tuple[RCNN, torch.Tensor, torch.Tensor]:
    device = torch_device.use()
    # Shapes never change: the fastest algorithm of each is worth looking for.
    torch.backends.cudnn.benchmark = best
    net = RCNN(best=best, **model)
    load(net, shared_weights.load(folder))
    net = net.to(device)
    images, labels = rcnn_inputs.inputs(batch, size)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore
        x = x.to(memory_format=torch.channels_last)
    return net, x, torch.from_numpy(labels).long().to(device)


def _with_products_in(precision: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with products in that precision; weights stay float32."""
    if precision == "float32":
        return function
    device, dtype = machine.device(), getattr(torch, precision)

    def cast(*given: torch.Tensor) -> Any:
        with torch.autocast(device, dtype=dtype):
            return function(*given)

    return cast


def _compile(function: Any, compiled: bool | str) -> Any:
    if not compiled:
        return function
    return torch.compile(function, mode=compiled if isinstance(compiled, str) else None)


def training_step(
    folder: pathlib.Path,
    *,
    best: bool,
    channels_last: bool,
    compiled: bool | str,
    batch: int,
    size: int,
    features: int = 96,
    steps: int = 3,
    norm: str = "lrn",
    precision: str = "float32",
) -> Prepared:
    """Forward, backward and the update of SGD with momentum, on a batch that stays in place.

    Args:
        folder: where weights are.
        best: whether in the fastest formulation.
        channels_last: how images and kernels lie in memory.
        compiled: by `torch.compile`, or by a mode of it, such as `reduce-overhead`.
        batch: images.
        size: their height and width.
        features: K.
        steps: T.
        norm: `lrn` or `batch`.
        precision: `float32`, or what autocast is to use.
    """
    net, x, y = _prepare(
        folder, batch=batch, size=size, best=best, channels_last=channels_last,
        features=features, steps=steps, norm=norm,
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(net(x), y)

    forward = _compile(_with_products_in(precision, loss_of), compiled)
    now: dict[str, torch.Tensor] = {}

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        torch_device.wait()
        now["loss"] = loss.detach()

    def answers() -> dict[str, Any]:
        return {"loss": now["loss"].float().cpu().numpy(), "gradient": gradients(net)}

    gflop = rcnn_inputs.training_gflop(batch, size, features, steps)
    return Prepared(run, answers, work=gflop, unit="GFLOP", settings=torch_device.settings())


def inference(
    folder: pathlib.Path,
    *,
    best: bool,
    channels_last: bool,
    compiled: bool | str,
    batch: int,
    size: int,
    features: int = 96,
    steps: int = 3,
    norm: str = "lrn",
    freeze: bool = False,
    precision: str = "float32",
) -> Prepared:
    """Logits of a batch that stays in place; `freeze` lets the compiler prepack the weights."""
    net, x, _ = _prepare(
        folder, batch=batch, size=size, best=best, channels_last=channels_last,
        features=features, steps=steps, norm=norm,
    )  # fmt: skip
    net.eval()
    if freeze:
        import torch._inductor.config as inductor

        inductor.freezing = True
    forward = _compile(_with_products_in(precision, net), compiled)
    now: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def run() -> None:
        now["logits"] = forward(x)
        torch_device.wait()

    def answers() -> dict[str, Any]:
        return {"logits": now["logits"].float().cpu().numpy()}

    return Prepared(run, answers, work=batch, unit="images", settings=torch_device.settings())
