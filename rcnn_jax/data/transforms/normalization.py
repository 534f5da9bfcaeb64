"""Normalization of pixel values: scaling, mean subtraction, whitening."""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.data.transforms.per_image import Fitted, PerImage


@dataclasses.dataclass(frozen=True)
class ToFloat(PerImage):
    """Divides pixels by a maximum, so that values in `[0, maximum]` are mapped to `[0, 1]`.

    Attributes:
        maximum: The divisor, above 0, such as 255.

    Raises:
        ValueError: If `maximum` is not above 0.
    """

    maximum: float | int
    name: ClassVar[str] = "to_float"
    geometric: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        if not self.maximum > 0:
            raise ValueError(f"to_float: the maximum must be above 0, got {self.maximum}")

    def apply(self, image: jax.Array) -> jax.Array:
        """Divides the pixels of an image.

        Args:
            image: Floating image of any shape.
        """
        return image / self.maximum


@dataclasses.dataclass(frozen=True)
class SubtractPixelMean(Fitted):
    """Subtracts the mean training image: one mean per pixel and channel.

    It must precede any crop, because the mean has the shape of the full image.

    References:
        Liang & Hu, Recurrent convolutional neural network for object recognition, CVPR 2015.
    """

    name: ClassVar[str] = "subtract_pixel_mean"
    geometric: ClassVar[bool | None] = False
    asset_names: ClassVar[tuple[str, ...]] = ("pixel_mean",)

    def fit(self, blocks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Computes the mean image.

        Args:
            blocks: Training images, float64 `[examples, height, width, channels]` per block.

        Returns:
            `pixel_mean` `float32[height, width, channels]`.
        """
        mean, _ = _moments(blocks, axes=(0,))
        return {"pixel_mean": mean.astype(np.float32)}

    def apply(self, image: jax.Array) -> jax.Array:
        """Subtracts the mean image.

        Args:
            image: Floating image `[height, width, channels]`.

        Raises:
            ValueError: If the image differs in shape from the training images.
        """
        mean = self.arrays["pixel_mean"]
        if image.shape != mean.shape:
            raise ValueError(
                f"subtract_pixel_mean was fitted on images {list(mean.shape)}, got "
                f"{list(image.shape)}: it belongs before any crop"
            )
        return image - jnp.asarray(mean, image.dtype)


@dataclasses.dataclass(frozen=True)
class Standardize(Fitted):
    """Subtracts the training mean of each channel and divides by its standard deviation."""

    name: ClassVar[str] = "standardize"
    geometric: ClassVar[bool | None] = False
    asset_names: ClassVar[tuple[str, ...]] = ("channel_mean", "channel_std")

    def fit(self, blocks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Computes the mean and the standard deviation of each channel.

        Args:
            blocks: Training images, float64 `[examples, height, width, channels]` per block.

        Returns:
            `channel_mean` and `channel_std`, each `float32[channels]`. The deviation of a constant
            channel is 1.
        """
        mean, std = _moments(blocks, axes=(0, 1, 2))
        # A constant channel is only centred.
        std = np.where(std > 0, std, 1.0)
        return {"channel_mean": mean.astype(np.float32), "channel_std": std.astype(np.float32)}

    def apply(self, image: jax.Array) -> jax.Array:
        """Standardizes the channels of an image.

        Args:
            image: Floating image `[height, width, channels]`.

        Raises:
            ValueError: If the image has another number of channels than the training images.
        """
        mean, std = self.arrays["channel_mean"], self.arrays["channel_std"]
        if image.shape[-1:] != mean.shape:
            raise ValueError(
                f"standardize was fitted on {len(mean)} channels, got shape {list(image.shape)}"
            )
        shape = (1,) * (image.ndim - 1) + mean.shape
        mean, std = (jnp.asarray(array, image.dtype).reshape(shape) for array in (mean, std))
        return (image - mean) / std


@dataclasses.dataclass(frozen=True)
class GcnZca(Fitted):
    """Applies global contrast normalization and then ZCA whitening, as for Maxout networks.

    The mean of each image, as a vector, is subtracted and the result scaled to the Euclidean norm
    `scale`. Whitening computes `(x - mean) P` with `P = V (L + filter_bias)^(-1/2) V^T` from the
    covariance `V L V^T` of the training images. The defaults are the values of Goodfellow et al.,
    released in pylearn2. Fitting needs memory and time for a matrix of
    (height * width * channels)^2: 75 MB in float64 and about a minute on two cores for CIFAR-10.

    Attributes:
        scale: Euclidean norm of a contrast-normalized image, above 0.
        filter_bias: Number added to each eigenvalue, above 0.

    Raises:
        ValueError: If an argument is not above 0.

    References:
        Coates, Lee & Ng, An analysis of single-layer networks in unsupervised feature learning,
        AISTATS 2011.
        Goodfellow, Warde-Farley, Mirza, Courville & Bengio, Maxout networks, ICML 2013.
    """

    scale: float | int = 55.0
    filter_bias: float | int = 0.1
    name: ClassVar[str] = "gcn_zca"
    geometric: ClassVar[bool | None] = False
    asset_names: ClassVar[tuple[str, ...]] = ("zca_mean", "zca_matrix")

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.filter_bias > 0):
            raise ValueError(
                "gcn_zca: scale and filter_bias must be above 0, got "
                f"{self.scale} and {self.filter_bias}"
            )

    def fit(self, blocks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Computes the mean and the whitening matrix of contrast-normalized images.

        Args:
            blocks: Training images, float64 `[examples, height, width, channels]` per block.

        Returns:
            `zca_mean` `float32[values]` and `zca_matrix` `float32[values, values]`, where `values`
            is height * width * channels.
        """
        count, total, product = 0, 0.0, 0.0
        for block in blocks:
            vectors = self._contrast(block.reshape(len(block), -1), np)
            count += len(vectors)
            total = total + vectors.sum(axis=0)
            product = product + vectors.T @ vectors
        mean = np.asarray(total) / count
        values, basis = np.linalg.eigh(product / count - np.outer(mean, mean))
        # Rounding can leave a tiny negative eigenvalue; the bias must still keep the root real.
        roots = np.sqrt(np.maximum(values, 0.0) + self.filter_bias)
        matrix = (basis / roots) @ basis.T
        return {"zca_mean": mean.astype(np.float32), "zca_matrix": matrix.astype(np.float32)}

    def apply(self, image: jax.Array) -> jax.Array:
        """Normalizes the contrast of an image and whitens it.

        Args:
            image: Floating image `[height, width, channels]`.

        Raises:
            ValueError: If the image has another number of values than the training images.
        """
        mean, matrix = (
            jnp.asarray(self.arrays[name], image.dtype) for name in ("zca_mean", "zca_matrix")
        )
        if image.size != mean.size:
            raise ValueError(
                f"gcn_zca was fitted on images of {mean.size} values, got {list(image.shape)}: it "
                "belongs before any crop"
            )
        vector = self._contrast(image.reshape(-1), jnp) - mean
        whitened = jnp.matmul(vector, matrix, precision=jax.lax.Precision.HIGHEST)
        return whitened.reshape(image.shape)

    def _contrast(self, vectors: Any, xp: Any) -> Any:
        """Normalizes the contrast of flat images `[..., values]` with NumPy (to fit) or JAX."""
        centred = vectors - vectors.mean(axis=-1, keepdims=True)
        divisor = xp.sqrt((centred * centred).sum(axis=-1, keepdims=True)) / self.scale
        # A uniform image has no contrast to amplify.
        return centred / xp.where(divisor < 1e-8, xp.ones_like(divisor), divisor)


def _moments(blocks: Iterable[np.ndarray], axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the standard deviation over `axes` of all blocks, float64.

    Blocks are merged by the formula of Chan, Golub & LeVeque (1979), because sums of squares of raw
    pixels would suffer from cancellation.
    """
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        here = int(np.prod([block.shape[axis] for axis in axes]))
        block_mean = block.mean(axis=axes)
        difference = block_mean - mean
        squares = squares + block.var(axis=axes) * here
        squares = squares + difference**2 * (count * here / (count + here))
        mean = mean + difference * (here / (count + here))
        count += here
    return mean, np.sqrt(squares / count)
