"""Transforms that move or remove pixels: crops, flips, shifts, rotations, resizing, cutout.

A transform that moves pixels moves those of an example's images and frames, its label map and its
boxes alike. Labels are never interpolated: a label map takes the nearest label, and `void` outside
the picture.

Every random number is drawn as float32 or int32, independently of the dtype of the image, so that
a run in double precision sees the same crops as one in single precision.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from rcnn_jax.data.transforms.geometry import HeightWidth, corners, hull, outside_label
from rcnn_jax.data.transforms.per_image import Batch, Geometric, RandomPerImage, check_image

Size = int | tuple[int, int]


def _height_width(size: Size) -> HeightWidth:
    return (size, size) if isinstance(size, int) else size


def _check_size(name: str, size: Size) -> None:
    if min(_height_width(size)) < 1:
        raise ValueError(f"{name}({size}): a size must be at least 1")


def _margin(name: str, given: tuple[int, ...], size: Size) -> tuple[int, int]:
    """Returns the numbers of pixels by which a crop can move down and to the right."""
    height, width = _height_width(size)
    if given[0] < height or given[1] < width:
        raise ValueError(
            f"{name} of {height}x{width} needs images at least as large, got {given[0]}x{given[1]}"
        )
    return given[0] - height, given[1] - width


def _crop_at(pixels: jax.Array, corner: tuple[jax.Array, jax.Array], size: Size) -> jax.Array:
    """Returns a window of an image or of a label map."""
    (top, left), rest = corner, pixels.shape[2:]
    start = (top, left, *(jnp.zeros_like(top) for _ in rest))
    return jax.lax.dynamic_slice(pixels, start, (*_height_width(size), *rest))


def _shifted(boxes: jax.Array, down: Any, right: Any) -> jax.Array:
    """Returns boxes `[boxes, 4]` moved by a number of pixels down and to the right."""
    shift = jnp.stack([jnp.asarray(n, boxes.dtype) for n in (down, right, down, right)])
    return boxes + shift[None]


def _random_position(key: jax.Array, margin: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    # One draw of bits replaces two calls of `randint`, each of which draws twice. The remainder of
    # 32 bits favours no position by more than one part in a million.
    bits = jax.random.bits(key, (2,), jnp.uint32)
    top, left = (bits % jnp.array([margin[0] + 1, margin[1] + 1], jnp.uint32)).astype(jnp.int32)
    return top, left


@dataclasses.dataclass(frozen=True)
class RandomCrop(Geometric):
    """Cuts out a window at a uniformly random position.

    Images `[height, width, channels]` become `[size, size, channels]`.

    Attributes:
        size: Side of the window in pixels, or (height, width); each at least 1.

    Raises:
        ValueError: If `size` is below 1.
    """

    size: Size
    name: ClassVar[str] = "random_crop"

    def __post_init__(self) -> None:
        _check_size(self.name, self.size)

    def draw(self, given: Any, size: Any) -> Any:
        """Draws the first row and column of the window.

        Args:
            given: Random key of the example.
            size: Height and width of the example's pixels.

        Returns:
            Row and column, each `int32[]`.

        Raises:
            ValueError: If the picture is smaller than the window.
        """
        return _random_position(given, _margin(self.name, size, self.size))

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Cuts the window out of an image.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: First row and column of the window.
        """
        return _crop_at(image, drawn, self.size)

    def on_label_map(self, labels: jax.Array, drawn: Any) -> jax.Array:
        """Cuts the window out of a label map.

        Args:
            labels: Integer labels `[height, width]` or `[height, width, 1]`.
            drawn: First row and column of the window.
        """
        return _crop_at(labels, drawn, self.size)

    def on_boxes(self, boxes: jax.Array, drawn: Any, size: HeightWidth) -> jax.Array:
        """Shifts boxes to coordinates relative to the corner of the window.

        Args:
            boxes: Floating boxes `[boxes, 4]` in pixels.
            drawn: First row and column of the window.
            size: Not used.
        """
        del size
        return _shifted(boxes, -drawn[0], -drawn[1])


@dataclasses.dataclass(frozen=True)
class PadCrop(Geometric):
    """Pads each side, then crops the original size at a uniformly random position.

    With `mode="zeros"` this is a random shift by up to `pad` pixels. He et al. (2016) pad the 32x32
    pixels of CIFAR by 4 zeros. Regions that are reflected into the picture have labels, but no
    boxes.

    Attributes:
        pad: Number of pixels added on each side, at least 0.
        mode: `"reflect"` or `"zeros"`.
        void: Label of padded pixels if `mode` is `"zeros"`; -1 is 255 in a label map of uint8.

    Raises:
        ValueError: If `pad` is negative or `mode` unknown.
    """

    pad: int
    mode: str = "reflect"
    void: int = -1
    name: ClassVar[str] = "pad_crop"

    def __post_init__(self) -> None:
        if self.pad < 0 or self.mode not in ("reflect", "zeros"):
            raise ValueError(
                f"pad_crop({self.pad}, {self.mode!r}): pad must be at least 0 and mode 'reflect' "
                "or 'zeros'"
            )

    def draw(self, given: Any, size: Any) -> Any:
        """Draws the first row and column of the window in the padded picture.

        Args:
            given: Random key of the example.
            size: Height and width of the example's pixels.

        Returns:
            Row and column, each `int32[]`.

        Raises:
            ValueError: If the picture is too small to reflect `pad` pixels.
        """
        height, width = size
        if self.mode == "reflect" and self.pad >= min(height, width):
            raise ValueError(
                f"pad_crop can reflect fewer than {min(height, width)} pixels of a "
                f"{height}x{width} image, got {self.pad}"
            )
        return _random_position(given, (2 * self.pad, 2 * self.pad))

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Pads an image and cuts the window out.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: First row and column of the window in the padded picture.
        """
        return self._padded(image, drawn, 0)

    def on_label_map(self, labels: jax.Array, drawn: Any) -> jax.Array:
        """Pads a label map and cuts the window out.

        Args:
            labels: Integer labels `[height, width]` or `[height, width, 1]`.
            drawn: First row and column of the window in the padded picture.
        """
        return self._padded(labels, drawn, outside_label(self.name, self.void, labels.dtype))

    def on_boxes(self, boxes: jax.Array, drawn: Any, size: HeightWidth) -> jax.Array:
        """Shifts boxes to coordinates relative to the corner of the window.

        Args:
            boxes: Floating boxes `[boxes, 4]` in pixels.
            drawn: First row and column of the window in the padded picture.
            size: Not used.
        """
        del size
        return _shifted(boxes, self.pad - drawn[0], self.pad - drawn[1])

    def _padded(self, pixels: jax.Array, drawn: Any, outside: Any) -> jax.Array:
        widths = [(self.pad, self.pad)] * 2 + [(0, 0)] * (pixels.ndim - 2)
        if self.mode == "reflect":
            padded = jnp.pad(pixels, widths, mode="reflect")
        else:
            padded = jnp.pad(pixels, widths, constant_values=outside)
        height, width = pixels.shape[:2]
        return _crop_at(padded, drawn, (height, width))


class _Mirror(Geometric):
    """Mirrors an example horizontally where the drawn value is true."""

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Mirrors an image.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Whether to mirror, `bool[]`.
        """
        return jnp.where(drawn, image[:, ::-1], image)

    def on_label_map(self, labels: jax.Array, drawn: Any) -> jax.Array:
        """Mirrors a label map.

        Args:
            labels: Integer labels `[height, width]` or `[height, width, 1]`.
            drawn: Whether to mirror, `bool[]`.
        """
        return jnp.where(drawn, labels[:, ::-1], labels)

    def on_boxes(self, boxes: jax.Array, drawn: Any, size: HeightWidth) -> jax.Array:
        """Mirrors boxes, whose right edge becomes the left one.

        Args:
            boxes: Floating boxes `[boxes, 4]` in pixels.
            drawn: Whether to mirror, `bool[]`.
            size: Height and width of the picture.
        """
        y0, x0, y1, x1 = boxes.T
        return jnp.where(drawn, jnp.stack([y0, size[1] - x1, y1, size[1] - x0], axis=1), boxes)


@dataclasses.dataclass(frozen=True)
class Flip(_Mirror):
    """Mirrors an example horizontally with probability 1/2."""

    name: ClassVar[str] = "flip"

    def draw(self, given: Any, size: Any) -> Any:
        """Draws whether to mirror.

        Args:
            given: Random key of the example.
            size: Not used.

        Returns:
            `bool[]`, true with probability 1/2.
        """
        del size
        return jax.random.uniform(given, dtype=jnp.float32) < 0.5


@dataclasses.dataclass(frozen=True)
class AlternatingFlip(_Mirror):
    """Mirrors an image horizontally in every other epoch.

    Any two consecutive epochs therefore show both orientations. Half of the images are mirrored
    first: those whose index, scrambled, is odd. The batch must state which example each row is and
    which epoch it belongs to (`rcnn_jax.data.samplers.ShuffledWithEpochs`).

    References:
        Jordan, 94 % on CIFAR-10 in 3.29 seconds on a single GPU, 2024.
    """

    name: ClassVar[str] = "alternating_flip"

    def given(self, batch: Batch, keys: jax.Array | None) -> Any:
        """Returns whether to mirror each row, determined by its example and the epoch.

        Args:
            batch: Features `[batch, ...]`, with the integer columns `index` and `epoch`, each
                `[batch]`.
            keys: Not used.

        Returns:
            `bool[batch]`.

        Raises:
            ValueError: If the batch lacks `index` or `epoch`.
        """
        del keys
        missing = [name for name in ("index", "epoch") if name not in batch]
        if missing:
            raise ValueError(
                f"{self.name} needs {missing[0]!r} in every batch, there are {sorted(batch)}; "
                "numbers of examples and epochs come with "
                "config.sampler.name='rcnn_jax.data.samplers:ShuffledWithEpochs', and only in "
                "training"
            )
        return (_scrambled(batch["index"]) + batch["epoch"].astype(jnp.uint32)) % 2 == 1


def _scrambled(numbers: jax.Array) -> jax.Array:
    """Applies the finalizer of MurmurHash3, so that neighbouring numbers get unrelated bits."""
    x = numbers.astype(jnp.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)


@dataclasses.dataclass(frozen=True)
class Cutout(RandomPerImage):
    """Replaces a square around a uniformly random pixel, clipped at the border.

    Label maps and boxes are unchanged: they describe what would be visible in the square.

    Attributes:
        size: Side of the square in pixels, at least 1.
        fill: Value of the pixels in the square.

    Raises:
        ValueError: If `size` is below 1.

    References:
        DeVries & Taylor, Improved regularization of convolutional neural networks with cutout,
        2017.
    """

    size: int
    fill: float | int = 0
    name: ClassVar[str] = "cutout"
    geometric: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        _check_size(self.name, self.size)

    def apply(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Replaces a square of an image.

        Args:
            image: Floating image `[height, width, channels]`.
            key: Random key of the example.

        Raises:
            ValueError: If the image does not have three axes.
        """
        check_image(self.name, image)
        height, width = image.shape[:2]
        centre_row, centre_column = _random_position(key, (height - 1, width - 1))
        rows, columns = jnp.arange(height) - centre_row, jnp.arange(width) - centre_column
        low, high = -(self.size // 2), self.size - self.size // 2
        rows, columns = (rows >= low) & (rows < high), (columns >= low) & (columns < high)
        hole = jnp.logical_and(rows.reshape(-1, 1, 1), columns.reshape(1, -1, 1))
        return jnp.where(hole, jnp.asarray(self.fill, image.dtype), image)


@dataclasses.dataclass(frozen=True)
class RandomAffine(Geometric):
    """Rotates, scales and shifts about the centre, with bilinear interpolation of images.

    A box becomes the smallest upright box around its four rotated corners, which is larger than the
    object unless the angle is a multiple of 90 degrees.

    Attributes:
        rotate: Greatest angle in degrees in either direction, at least 0.
        scale: Greatest relative change of size, in `[0, 1)`.
        shift: Greatest shift in pixels along each axis in either direction, at least 0.
        fill: Value of pixels from outside the image.
        void: Label of pixels from outside the picture; -1 is 255 in a label map of uint8.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    rotate: float | int = 0
    scale: float | int = 0
    shift: float | int = 0
    fill: float | int = 0
    void: int = -1
    name: ClassVar[str] = "random_affine"

    def __post_init__(self) -> None:
        if self.rotate < 0 or not 0 <= self.scale < 1 or self.shift < 0:
            raise ValueError(
                "random_affine needs rotate >= 0, 0 <= scale < 1 and shift >= 0, got "
                f"{self.rotate}, {self.scale} and {self.shift}"
            )

    def draw(self, given: Any, size: Any) -> Any:
        """Draws the angle, the scale and the shifts as fractions of their greatest values.

        Args:
            given: Random key of the example.
            size: Not used.

        Returns:
            `float32[4]`, uniform in `[-1, 1)`: angle, scale, shift down and shift to the right.
        """
        del size
        return jax.random.uniform(given, (4,), jnp.float32, -1.0, 1.0)

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Interpolates the four pixels around the place that each new pixel comes from.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Fractions of the greatest angle, scale and shifts, `float32[4]`.
        """
        coordinates = self._sources(drawn.astype(image.dtype), image.shape[:2])

        def sample(channel: jax.Array) -> jax.Array:
            return jax.scipy.ndimage.map_coordinates(
                channel, coordinates, order=1, mode="constant", cval=self.fill
            )

        return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)

    def on_label_map(self, labels: jax.Array, drawn: Any) -> jax.Array:
        """Takes the label nearest to the place that each new pixel comes from.

        Args:
            labels: Integer labels `[height, width]` or `[height, width, 1]`.
            drawn: Fractions of the greatest angle, scale and shifts, `float32[4]`.
        """
        height, width = labels.shape[:2]
        row, column = (
            jnp.round(c).astype(jnp.int32) for c in self._sources(drawn, (height, width))
        )
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        taken = labels[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
        inside = inside.reshape(*inside.shape, *([1] * (labels.ndim - 2)))
        return jnp.where(inside, taken, outside_label(self.name, self.void, labels.dtype))

    def on_boxes(self, boxes: jax.Array, drawn: Any, size: HeightWidth) -> jax.Array:
        """Returns the upright boxes around the transformed corners of each box.

        Args:
            boxes: Floating boxes `[boxes, 4]` in pixels.
            drawn: Fractions of the greatest angle, scale and shifts, `float32[4]`.
            size: Height and width of the picture.
        """
        drawn = drawn.astype(boxes.dtype)
        middle = jnp.array(size, boxes.dtype) / 2  # between pixels, where corners lie
        sine, cosine = (self._factor(drawn) * f(self._angle(drawn)) for f in (jnp.sin, jnp.cos))
        away = corners(boxes) - middle.reshape(1, 1, 2)
        turned = jnp.stack(
            [
                cosine * away[..., 0] - sine * away[..., 1],
                sine * away[..., 0] + cosine * away[..., 1],
            ],
            axis=-1,
        )
        return hull(turned + (middle + self.shift * drawn[2:]).reshape(1, 1, 2))

    def _angle(self, draws: jax.Array) -> jax.Array:
        return draws[0] * jnp.asarray(jnp.deg2rad(self.rotate), draws.dtype)

    def _factor(self, draws: jax.Array) -> jax.Array:
        return 1 + self.scale * draws[1]

    def _sources(self, draws: jax.Array, size: tuple[int, ...]) -> list[jax.Array]:
        """Returns the row and column that each new pixel comes from, by the inverse map.

        The inverse map undoes the shift, then the rotation, then the scaling.
        """
        angle, factor = self._angle(draws), self._factor(draws)
        middle_row, middle_column = (size[0] - 1) / 2, (size[1] - 1) / 2
        row = jnp.arange(size[0], dtype=draws.dtype) - middle_row - self.shift * draws[2]
        column = jnp.arange(size[1], dtype=draws.dtype)
        column = column - middle_column - self.shift * draws[3]
        row, column = jnp.meshgrid(row, column, indexing="ij")
        cosine, sine = jnp.cos(angle) / factor, jnp.sin(angle) / factor
        return [
            cosine * row + sine * column + middle_row,
            cosine * column - sine * row + middle_column,
        ]


@dataclasses.dataclass(frozen=True)
class CenterCrop(Geometric):
    """Cuts out the central window.

    Images `[height, width, channels]` become `[size, size, channels]`. If the margin is odd, it is
    larger below and on the right.

    Attributes:
        size: Side of the window in pixels, or (height, width); each at least 1.

    Raises:
        ValueError: If `size` is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.data.transforms.crops import CenterCrop
        >>> image = jnp.arange(16.0).reshape(4, 4, 1)
        >>> CenterCrop(2).on_image(image, None)[..., 0].tolist()
        [[5.0, 6.0], [9.0, 10.0]]
    """

    size: Size
    name: ClassVar[str] = "center_crop"

    def __post_init__(self) -> None:
        _check_size(self.name, self.size)

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Cuts the window out of an image.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Not used.
        """
        return self._window(image)

    def on_label_map(self, labels: jax.Array, drawn: Any) -> jax.Array:
        """Cuts the window out of a label map.

        Args:
            labels: Integer labels `[height, width]` or `[height, width, 1]`.
            drawn: Not used.
        """
        return self._window(labels)

    def on_boxes(self, boxes: jax.Array, drawn: Any, size: HeightWidth) -> jax.Array:
        """Shifts boxes to coordinates relative to the corner of the window.

        Args:
            boxes: Floating boxes `[boxes, 4]` in pixels.
            drawn: Not used.
            size: Height and width of the picture.
        """
        down, right = _margin(self.name, size, self.size)
        return _shifted(boxes, -(down // 2), -(right // 2))

    def _window(self, pixels: jax.Array) -> jax.Array:
        down, right = _margin(self.name, pixels.shape[:2], self.size)
        height, width = _height_width(self.size)
        return pixels[down // 2 : down // 2 + height, right // 2 : right // 2 + width]


@dataclasses.dataclass(frozen=True)
class NineCrop(Geometric):
    """Cuts out a 3x3 grid of windows, row by row.

    Images `[height, width, channels]` become `[9, size, size, channels]`. Liang & Hu (2015) average
    predictions over the nine 24x24 windows at stride 4 of 32x32 pixels. In a larger image the grid
    is centred. The transform is for images alone: predictions for each pixel or box of nine
    overlapping windows are not predictions for the whole image.

    Attributes:
        size: Side of a window in pixels, or (height, width); each at least 1.
        stride: Distance of neighbouring windows in pixels, at least 1.

    Raises:
        ValueError: If `size` or `stride` is below 1.
    """

    size: Size
    stride: int = 4
    name: ClassVar[str] = "nine_crop"
    knows: ClassVar[tuple[str, ...] | None] = ("image",)
    makes_views: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_size(self.name, self.size)
        if self.stride < 1:
            raise ValueError(f"nine_crop: stride must be at least 1, got {self.stride}")

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Cuts the windows out of an image.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Not used.

        Returns:
            Windows `[9, size, size, channels]`.

        Raises:
            ValueError: If the image is smaller than the grid of windows.
        """
        down, right = _margin(self.name, image.shape[:2], self.size)
        if min(down, right) < 2 * self.stride:
            raise ValueError(
                f"nine_crop({self.size}, {self.stride}) moves by {2 * self.stride} pixels, but an "
                f"image of {image.shape[0]}x{image.shape[1]} leaves {min(down, right)}"
            )
        height, width = _height_width(self.size)
        tops = [(down - 2 * self.stride) // 2 + i * self.stride for i in range(3)]
        lefts = [(right - 2 * self.stride) // 2 + i * self.stride for i in range(3)]
        return jnp.stack(
            [image[top : top + height, left : left + width] for top in tops for left in lefts]
        )


@dataclasses.dataclass(frozen=True)
class Resize(Geometric):
    """Resizes bilinearly, with antialiasing when it shrinks.

    Images `[height, width, channels]` become `[size, size, channels]`. A label map takes the label
    of the pixel in which the centre of the new pixel lies.

    Attributes:
        size: Side of the result in pixels, or (height, width); each at least 1.

    Raises:
        ValueError: If `size` is below 1.
    """

    size: Size
    name: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        _check_size(self.name, self.size)

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Resizes an image bilinearly.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Not used.
        """
        shape = (*_height_width(self.size), image.shape[2])
        return jax.image.resize(image, shape, "linear", antialias=True)

    def on_label_map(self, labels: jax.Array, drawn: Any) -> jax.Array:
        """Resizes a label map by taking the nearest label.

        Args:
            labels: Integer labels `[height, width]` or `[height, width, 1]`.
            drawn: Not used.
        """
        return jax.image.resize(labels, (*_height_width(self.size), *labels.shape[2:]), "nearest")

    def on_boxes(self, boxes: jax.Array, drawn: Any, size: HeightWidth) -> jax.Array:
        """Scales boxes to the new size.

        Args:
            boxes: Floating boxes `[boxes, 4]` in pixels.
            drawn: Not used.
            size: Height and width of the old picture.
        """
        rows, columns = (new / old for new, old in zip(_height_width(self.size), size, strict=True))
        return boxes * jnp.array([[rows, columns, rows, columns]], boxes.dtype)
