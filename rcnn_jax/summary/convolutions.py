"""The arithmetic of convolutions as teaching material: sizes, weights, and what weight tying saves.

    out = floor((n + 2p - d(w - 1) - 1) / s) + 1        along each axis

for n pixels, padding p on both sides, window w, stride s and dilation d. Every number is computed
by the layers themselves.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.layers.pooling import avg_pool, max_pool
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.output.tables import table


@dataclasses.dataclass(frozen=True)
class Example:
    """A worked example.

    Attributes:
        name: What the example shows.
        input: Shape of the input without the batch axis.
        layers: Linen modules without biases, or functions of an array, applied one after the other.
        options: Stride, padding, dilation and groups that differ from 1, 0, 1 and 1, as text.
    """

    name: str
    input: tuple[int, ...]
    layers: tuple[Callable[..., Any], ...]
    options: str = ""

    @functools.cached_property
    def shapes(self) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """The output's shape without the batch axis, and the kernels' shapes; no array is made."""

        def apply(x: jax.Array) -> tuple[jax.Array, list[Any]]:
            kernels = []
            for layer in self.layers:
                if isinstance(layer, nn.Module):
                    x, variables = layer.init_with_output(jax.random.key(0), x)
                    held = variables["params"]
                    kernels += [held[name] for name in held if name.endswith("kernel")]
                else:
                    x = layer(x)
            return x, kernels

        x = jax.ShapeDtypeStruct((1, *self.input), jnp.float32)
        output, kernels = jax.eval_shape(apply, x)
        return output.shape[1:], tuple(kernel.shape for kernel in kernels)

    @property
    def weights(self) -> int:
        """The number of weights in all kernels."""
        return sum(map(math.prod, self.shapes[1]))


def _conv(
    name: str,
    size: tuple[int, int, int],
    features: int,
    window: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    border: str = "",
    then: Sequence[tuple[str, Callable[..., Any]]] = (),
) -> Example:
    layer = nn.Conv(
        features,
        window,
        strides=stride,
        padding=border.upper() or [(p, p) for p in padding],
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
    )
    changed = [
        f"{symbol}={_x(value)}"
        for symbol, value, usual in (
            ("s", stride, (1, 1)), ("p", border or padding, (0, 0)), ("d", dilation, (1, 1)),
            ("g", groups, 1),
        )
        if value != usual
    ]  # fmt: skip
    options = " ".join([*changed, *(text for text, _ in then)])
    return Example(name, size, (layer, *(step for _, step in then)), options)


def _pool(name: str, pool: Callable[..., Any], size: tuple[int, int, int], rule: str) -> Example:
    step = functools.partial(pool, window=(3, 3), strides=(2, 2), padding=rule)
    return Example(name, size, (step,), f"w=3 s=2 {rule}")


def _x(value: Any) -> str:
    """Formats a size: `3` for `(3, 3)`, `2x1` for `(2, 1)`."""
    if not isinstance(value, tuple):
        return str(value)
    return str(value[0]) if len(set(value)) == 1 and len(value) == 2 else "x".join(map(str, value))


_POOL_2 = ("then pool w=2 s=2", functools.partial(max_pool, window=(2, 2), strides=(2, 2)))

EXAMPLES = (
    _conv("two filters", (5, 5, 3), 2, (3, 3), stride=(2, 2), padding=(1, 1)),
    _conv("conv and pool", (6, 6, 1), 2, (3, 3), then=[_POOL_2]),
    _conv("square window", (50, 100, 16), 33, (3, 3), stride=(2, 2)),
    _conv("oblong window", (50, 100, 16), 33, (3, 5), stride=(2, 1), padding=(4, 2)),
    _conv(
        "same, dilated", (50, 100, 16), 33, (3, 5), stride=(2, 1), padding=(4, 2), dilation=(3, 1)
    ),
    _conv("no padding", (8, 8, 4), 8, (3, 3)),
    _conv("zeros around", (8, 8, 4), 8, (3, 3), padding=(1, 1)),
    _conv("reflection", (8, 8, 4), 8, (3, 3), border="reflect"),
    _conv("circular", (8, 8, 4), 8, (3, 3), border="circular"),
    _conv("two groups", (8, 8, 4), 8, (3, 3), padding=(1, 1), groups=2),
    _conv("depthwise", (8, 8, 4), 8, (3, 3), padding=(1, 1), groups=4),
    _conv("1x1 window", (8, 8, 4), 8, (1, 1)),
    Example("RCL x4", (8, 8, 4), (RCL(8, steps=3, norm="none"),), "p=1"),
    _pool("max-pool", max_pool, (32, 32, 8), "VALID"),
    _pool("max-pool CEIL", max_pool, (32, 32, 8), "CEIL"),
    _pool("average pool", avg_pool, (32, 32, 8), "CEIL"),
)

# K = 10^3: an image of 1,000 x 1,000 pixels with one channel.
_IMAGE = (1000, 1000, 1)
MEGAPIXEL = (
    Example("fully connected, 10^6 units", (10**6,), (nn.Dense(10**6, use_bias=False),)),
    Example(
        "locally connected, 10^6 units of 10x10",
        _IMAGE,
        (nn.ConvLocal(1, (10, 10), strides=(1, 1), padding="SAME", use_bias=False),),
    ),
    _conv("convolution, 100 filters of 100x100", _IMAGE, 100, (100, 100), border="same"),
    _conv("convolution, one filter of 10x10", _IMAGE, 1, (10, 10), border="same"),
)


def tied_matrix(
    size: tuple[int, int], window: tuple[int, int], channels: int, features: int
) -> np.ndarray:
    """Finds the weight of each entry in the dense matrix that is equivalent to a convolution.

    Args:
        size: Height and width of the image in pixels, which zero padding preserves.
        window: Height and width of the kernel, both odd.
        channels: Number of input channels.
        features: Number of output features.

    Returns:
        The index of each entry's weight in the kernel `[*window, channels, features]`, or -1 if the
        entry is zero, as an integer array `[inputs, outputs]`.
    """
    index = np.full((*size, channels, *size, features), -1)
    weight = np.arange(math.prod(window) * channels * features).reshape(*window, channels, features)
    for i, j in np.ndindex(*size):
        for a, b in np.ndindex(*window):
            row, column = i + a - window[0] // 2, j + b - window[1] // 2
            if 0 <= row < size[0] and 0 <= column < size[1]:
                index[row, column, :, i, j, :] = weight[a, b]
    return index.reshape(math.prod(size) * channels, math.prod(size) * features)


def convolution_table() -> str:
    """Returns all examples as text."""
    rows = []
    for example in EXAMPLES:
        output, kernels = example.shapes
        kernel = "+".join("x".join(map(str, shape)) for shape in kernels)
        sizes = ["x".join(map(str, shape)) for shape in (example.input, output)]
        rows.append(
            [example.name, sizes[0], kernel, example.options, sizes[1], f"{example.weights:,}"]
        )
    examples = table(rows, ["example", "input", "kernel", "options", "output", "weights"])
    megapixel = table(
        [[example.name, f"{example.weights:,}"] for example in MEGAPIXEL],
        ["an image of 1K x 1K pixels, K = 10^3", "weights"],
    )
    index = tied_matrix((5, 4), (3, 3), 2, 3)
    shape, used = "x".join(map(str, index.shape)), index[index >= 0]
    return f"""\
Along each axis: out = floor((n + 2p - d(w - 1) - 1) / s) + 1
n pixels, w window, s stride, p padding on both sides, d dilation, g groups;
unless given s=1 p=0 d=1 g=1. Kernels: window x channels of a group x filters.

{examples}

RCL x4 is a recurrent convolutional layer after 3 iterations. A reflected or
circular border gives the size of p=1. With VALID only windows inside the image
are pooled; with CEIL the last one may hang over the end.

{megapixel}

A convolution is a dense layer whose matrix is sparse, its weights being tied.
With a 3x3 window from 2 to 3 maps on 5x4 pixels the matrix is {shape}: of {index.size:,}
entries {used.size:,} are not zero, and only {len(np.unique(used))} numbers fill them."""
