"""Transforms of an image's channels by given numbers."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from rcnn_jax.data.transforms.per_image import PerImage, check_image


@dataclasses.dataclass(frozen=True)
class ReverseChannels(PerImage):
    """Reverses the channels: red, green, blue becomes blue, green, red, as Caffe reads it."""

    name: ClassVar[str] = "reverse_channels"
    geometric: ClassVar[bool | None] = False

    def apply(self, image: jax.Array) -> jax.Array:
        """Reverses the channels of an image.

        Args:
            image: Floating image `[height, width, channels]`.

        Raises:
            ValueError: If the image does not have three axes.
        """
        check_image(self.name, image)
        return image[..., ::-1]


@dataclasses.dataclass(frozen=True)
class Normalize(PerImage):
    """Subtracts a given mean from each channel and divides by a given deviation.

    Attributes:
        mean: One number per channel.
        deviation: One number per channel, above 0; `()` to divide by nothing.

    Raises:
        ValueError: If these are not numbers, differ in length, or a deviation is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.data.transforms.channels import Normalize
        >>> Normalize((1.0, 2.0), (0.5, 4.0)).apply(jnp.array([[[2.0, 6.0]]])).tolist()
        [[[2.0, 1.0]]]
    """

    mean: Sequence[float]
    deviation: Sequence[float] = ()
    name: ClassVar[str] = "normalize"
    geometric: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        for numbers in (self.mean, self.deviation):
            plain = isinstance(numbers, Sequence) and all(type(n) in (int, float) for n in numbers)
            if not plain:
                raise ValueError(f"normalize: {numbers!r} are no numbers, one for each channel")
        if not self.mean or len(self.deviation) not in (0, len(self.mean)):
            raise ValueError(
                "normalize needs a mean for each channel, and as many deviations or none, got "
                f"{len(self.mean)} and {len(self.deviation)}"
            )
        if any(not n > 0 for n in self.deviation):
            raise ValueError(f"normalize: deviations must be above 0, got {self.deviation}")

    def apply(self, image: jax.Array) -> jax.Array:
        """Normalizes the channels of an image.

        Args:
            image: Floating image `[height, width, channels]`.

        Raises:
            ValueError: If the image does not have three axes, or as many channels as there are
                means.
        """
        check_image(self.name, image)
        if image.shape[-1] != len(self.mean):
            raise ValueError(
                f"normalize has {len(self.mean)} means, the images have {image.shape[-1]} channels"
            )
        image = image - jnp.asarray(self.mean, image.dtype).reshape(1, 1, -1)
        if not self.deviation:
            return image
        return image / jnp.asarray(self.deviation, image.dtype).reshape(1, 1, -1)
