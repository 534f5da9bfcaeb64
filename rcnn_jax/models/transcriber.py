"""Transcription of lines of text from images, or from frames of sound, trained with CTC.

    image [height, width] -> front end -> columns -> recurrent layers -> logits of each column

The front end reduces the height of an image faster than its width, so that in the end each column
is one time step. Images are padded on the right; positions beyond the width of an image have no
effect on it.

References:
    Wang & Hu, Gated recurrent convolution neural network for OCR, NIPS 2017 (front end `grcnn`);
    Liang & Hu, Recurrent convolutional neural network for object recognition, CVPR 2015 (`rcl`);
    Graves, Fernandez, Gomez & Schmidhuber, Connectionist temporal classification, ICML 2006.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from rcnn_jax.layers.dropout import Dropout
from rcnn_jax.layers.masks import apply_mask, checked_lengths, column_mask, time_mask
from rcnn_jax.layers.pooling import max_pool
from rcnn_jax.layers.rcl import RCL, RCLOptions
from rcnn_jax.layers.recurrent.cell import cell_of_model
from rcnn_jax.layers.recurrent.stack import Stack

FRONT_ENDS = ("conv", "rcl", "grcnn", "none")
DIRECTIONS = ("forward", "bidirectional")
EXAMPLE_INPUT = "32x100x1"

# Feature maps of each stage, and strides (height, width) of the pool after it. The last maps of
# `grcnn` are those of the convolution over columns, which no pool follows.
_FEATURES = {"conv": (32, 64, 128), "rcl": (32, 64, 128), "grcnn": (64, 64, 128, 256, 512)}
_POOLS = {
    "conv": ((2, 2), (2, 2), (2, 1)),
    "rcl": ((2, 2), (2, 2), (2, 1)),
    "grcnn": ((2, 2), (2, 2), (2, 1), (2, 1)),
}


class Transcriber(RCLOptions):
    """Reads a line, returning the logits of each time step for CTC; class 0 is the blank.

    The front ends are:

    - `conv`: stages of a 3x3 convolution, normalization, rectification and a max-pool with windows
      as large as its strides;
    - `rcl`: the same stages, in which all convolutions but the first are RCLs;
    - `grcnn`: a convolution, three gated RCLs, each followed by a pool of windows 2x2, and a
      convolution over two columns of full height. A pool of width stride 1, whose image is padded
      by one column on both sides, adds one column. Feature maps, windows and strides, and the first
      convolution with a bias and without normalization, are as in the released code, which uses 5
      iterations with untied weights; see `grcnn_released_code`. Choices of this project are that
      images may have any height, and that pools keep the last odd column or row;
    - `none`: each column of the image, or each frame, unchanged, or `stack` of them side by side.

    The other front ends treat frames as images of one channel whose rows are the frequencies.

    Attributes:
        classes: Number of classes, including the blank.
        front_end: `conv`, `rcl`, `grcnn` or `none`, as described above.
        features: Number of feature maps of each stage. None takes the numbers of the front end.
            `grcnn` has one stage more than pools, the convolution over columns.
        pools: Strides (height, width) of the pool after each stage. None takes those of the front
            end. Strides of `grcnn` are 1 or 2.
        stack: Number of frames side by side in one time step (`none` only).
        stride: Number of frames from the start of one time step to the next (`none` only).
        steps: Number of iterations T of each RCL.
        norm: Kind of normalization of every layer, batch normalization by default; see
            `RCLOptions`.
        cell: Name or import path of the recurrent cell, see `cell_by_name`; `jordan`, whose output
            is fed back, is not supported.
        cell_options: Further attributes of the cell, such as `{"peepholes": True}` of the LSTM.
        hidden: Number of units of each recurrent layer, in each direction.
        layers: Number of recurrent layers.
        direction: `forward` or `bidirectional`.
        dropout: Fraction dropped in training of the features of the columns, of the values between
            recurrent layers and of the output of the last one.

    The other attributes are those of every convolutional layer, `rcnn_jax.layers.rcl.RCLOptions`.

    Example:
        >>> from rcnn_jax.models.transcriber import Transcriber
        >>> Transcriber(classes=27).output_lengths(100)  # Two pools halve the width.
        25
    """

    classes: int
    front_end: str = "conv"
    features: Sequence[int] | None = None
    pools: Sequence[Sequence[int]] | None = None
    stack: int = 1
    stride: int = 1
    steps: int = 3
    norm: str = dataclasses.field(default="batch", kw_only=True)
    cell: str = "lstm"
    cell_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hidden: int = 128
    layers: int = 2
    direction: str = "bidirectional"
    dropout: float = 0.0

    def output_lengths(self, lengths: Any) -> Any:
        """Returns the numbers of time steps of lines, computed by arithmetic only.

        Args:
            lengths: Widths of images or numbers of frames, an integer or an array of integers.

        Returns:
            Integers of the same shape; the number for a length of 0 is 0.
        """
        if self.front_end == "none":
            return -(-lengths // self.stride)
        columns = self._columns_behind(len(self._pools()), lengths)
        if self.front_end == "grcnn":
            columns = columns - 1
        return columns * (lengths > 0)

    def _columns_behind(self, pools: int, columns: Any) -> Any:
        """Returns the numbers of columns of images after the first `pools` pools."""
        for _, stride in self._pools()[:pools]:
            overlaps = self.front_end == "grcnn" and stride == 1
            columns = columns + 1 if overlaps else -(-columns // stride)
        return columns

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, lengths: Any = None, steps: int | None = None
    ) -> Array:
        """Transcribes lines.

        Args:
            x: Images `[batch, height, width, channels]`, or frames `[batch, time, features]`.
            train: Whether to drop activations (random collection `dropout`), and to use and record
                the statistics of the batch.
            lengths: Width of each image, or number of frames, integers `[batch]`; positions beyond
                it may have any value. None means that there is no padding.
            steps: Number of iterations of the RCLs in this call. None takes the trained T.

        Returns:
            Logits `[batch, output_lengths(width), classes]`, zero beyond the `output_lengths` of
            the lengths, in float32, or wider if the computation is.

        Raises:
            ValueError: If an attribute, or the shape or dtype of `x` is invalid, or a known length
                is out of range.
        """
        self._check(x)
        if x.ndim == 3:
            x = x.swapaxes(1, 2)[..., None]
        mask = None
        if lengths is not None:
            lengths = checked_lengths(lengths, x.shape[0], x.shape[2])
            mask = column_mask(lengths, x.shape[2])
        x = apply_mask(x, mask)
        if self.front_end == "none":
            x = self._stacked(_columns(x))
        else:
            x = self._front_end(x, lengths, train, steps)
        lengths = None if lengths is None else self.output_lengths(lengths)
        x = Dropout(self.dropout, name="dropout_columns")(x, train=train)
        x, _ = Stack(
            cells=(cell_of_model(self.cell, self.hidden, self.cell_options),) * self.layers,
            bidirectional=self.direction == "bidirectional",
            dropout=self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="recurrent",
        )(x, train=train, lengths=lengths)
        x = Dropout(self.dropout, name="dropout_output")(x, train=train)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        logits = nn.Dense(self.classes, param_dtype=jnp.dtype(self.param_dtype), name="head")(x)
        return logits if lengths is None else apply_mask(logits, time_mask(lengths, x.shape[1]))

    def _front_end(self, x: Array, lengths: Array | None, train: bool, steps: int | None) -> Array:
        """Computes columns `[batch, time, features]` of images with zeros beyond their widths."""
        features, pools, gated = self._features(), self._pools(), self.front_end == "grcnn"
        for number, (maps, strides) in enumerate(zip(features, pools, strict=False)):
            mask = None
            if lengths is not None:
                mask = column_mask(self._columns_behind(number, lengths), x.shape[2])
                mask &= (lengths > 0)[:, None, None]
            if number == 0 or self.front_end == "conv":
                norm = "none" if gated else self.norm
                name = "conv" if number == 0 else f"conv{number}"
                x = self._layer(name, maps, norm=norm)(x, train=train, mask=mask)
            else:
                layer = self._layer(f"rcl{number}", maps, steps=self.steps, gated=gated)
                x = layer(x, train=train, steps=steps, mask=mask)
            # Padding is 0, which is never larger than a rectified activation.
            x = self._pool(x, strides)
        columns = _columns(x)
        if not gated:
            return columns
        if columns.shape[1] < 2:
            raise ValueError(
                f"the convolution over two columns of grcnn has only {columns.shape[1]} to read: "
                f"images are too narrow for pools={pools}"
            )
        pairs = jnp.concatenate([columns[:, :-1], columns[:, 1:]], axis=-1)
        mask = None
        if lengths is not None:
            mask = time_mask(self.output_lengths(lengths), pairs.shape[1])
        return self._layer("columns", features[-1], window=(1,))(pairs, train=train, mask=mask)

    def _layer(
        self,
        name: str,
        features: int,
        window: tuple[int, ...] = (3, 3),
        steps: int = 0,
        gated: bool = False,
        norm: str | None = None,
    ) -> RCL:
        return RCL(
            features,
            kernel_size=window,
            steps=steps,
            gated=gated,
            name=name,
            **self.rcl_options(norm=norm or self.norm),
        )

    def _features(self) -> tuple[int, ...]:
        return tuple(_FEATURES[self.front_end] if self.features is None else self.features)

    def _pools(self) -> tuple[tuple[int, int], ...]:
        pools = _POOLS.get(self.front_end, ()) if self.pools is None else self.pools
        return tuple((int(height), int(width)) for height, width in pools)

    def _pool(self, x: Array, strides: tuple[int, int]) -> Array:
        if self.front_end != "grcnn":
            return max_pool(x, strides, strides, "CEIL")
        height, width = x.shape[1:3]
        rows = (0, height % 2 if strides[0] == 2 else 1)
        columns = (0, width % 2) if strides[1] == 2 else (1, 1)
        return max_pool(x, (2, 2), strides, (rows, columns))

    def _stacked(self, frames: Array) -> Array:
        """Returns every `stride`-th frame with its neighbours, zeros beyond the line's ends."""
        before = max(self.stack - self.stride, 0) // 2
        time = -(-frames.shape[1] // self.stride)
        behind = max((time - 1) * self.stride + self.stack - before - frames.shape[1], 0)
        padded = jnp.pad(frames, ((0, 0), (before, behind), (0, 0)))
        last = (time - 1) * self.stride + 1
        places = [padded[:, place : place + last : self.stride] for place in range(self.stack)]
        return jnp.concatenate(places, axis=-1)

    def _check(self, x: Array) -> None:
        for name, allowed in (("front_end", FRONT_ENDS), ("direction", DIRECTIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        for name in ("classes", "layers", "stack", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Transcriber needs {name} of at least 1, got {getattr(self, name)}"
                )
        if self.cell == "jordan":
            raise ValueError("cell='jordan' answers by itself, and CTC reads one answer a step")
        self._check_stages()
        if (
            x.ndim not in (3, 4)
            or min(x.shape[1:]) < 1
            or not jnp.issubdtype(x.dtype, jnp.floating)
        ):
            raise ValueError(
                "Transcriber takes floating images [batch, height, width, channels] or frames "
                f"[batch, time, features], got {x.dtype} of shape {x.shape}"
            )

    def _check_stages(self) -> None:
        if self.front_end == "none":
            for name in ("features", "pools"):
                if getattr(self, name) is not None:
                    raise ValueError(f"front_end='none' has no {name}, got {getattr(self, name)}")
            return
        if (self.stack, self.stride) != (1, 1):
            raise ValueError(
                f"frames are put side by side with front_end='none' alone, got stack={self.stack} "
                f"and stride={self.stride} with {self.front_end!r}"
            )
        gated = self.front_end == "grcnn"
        features, pools = self._features(), self.pools
        pools = _POOLS[self.front_end] if pools is None else pools
        most = 2 if gated else math.inf
        if not pools or any(
            len(pair) != 2 or not 1 <= min(pair) <= max(pair) <= most for pair in pools
        ):
            raise ValueError(
                f"pools of {self.front_end} are pairs of strides (height, width), each "
                f"{'1 or 2' if gated else 'at least 1'}, got {pools}"
            )
        if len(features) != len(pools) + gated:
            raise ValueError(
                f"{self.front_end} has {'one stage more than pools' if gated else 'a pool a stage'}"
                f", got features={features} and pools={pools}"
            )


def _columns(x: Array) -> Array:
    """Returns the columns of images as vectors, `[batch, width, height * channels]`."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def grcnn_released_code(classes: int, **attributes: Any) -> Transcriber:
    """Builds GRCNN-BLSTM as released: 5 iterations with untied weights, two BLSTMs of 512 units.

    The released model also has a linear layer of 512 units between the two BLSTMs, and biases
    before normalizations, which cancel them.

    Args:
        classes: Number of classes, including the blank.
        **attributes: Further attributes of `Transcriber`.
    """
    released = {"steps": 5, "tie_weights": False, "hidden": 512} | attributes
    return Transcriber(classes=classes, front_end="grcnn", **released)
