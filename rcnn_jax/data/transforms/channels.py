"""What the channels of a picture become where the numbers are known beforehand."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from rcnn_jax.data.transforms.per_image import PerImage, check_image


@dataclasses.dataclass(frozen=True)
class ReverseChannels(PerImage):
    """Puts the last channel first: red, green, blue becomes blue, green, red, as Caffe reads it."""

    name: ClassVar[str] = "reverse_channels"
    geometric: ClassVar[bool | None] = False

    def apply(self, image: jax.Array) -> jax.Array:
        """See `PerImage.apply`."""
        check_image(self.name, image)
        return image[..., ::-1]


@dataclasses.dataclass(frozen=True)
class Normalize(PerImage):
    """Subtracts a mean from each channel and divides by a deviation, both given.

    Attributes:
        mean: one number a channel.
        deviation: one number a channel, above 0; empty: nothing is divided.
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
        """See `PerImage.apply`."""
        check_image(self.name, image)
        if image.shape[-1] != len(self.mean):
            raise ValueError(
                f"normalize has {len(self.mean)} means, the images have {image.shape[-1]} channels"
            )
        image = image - jnp.asarray(self.mean, image.dtype).reshape(1, 1, -1)
        if not self.deviation:
            return image
        return image / jnp.asarray(self.deviation, image.dtype).reshape(1, 1, -1)
