"""A whitening first layer: its responses are uncorrelated and equally large."""

import jax
import numpy as np
import pytest

from rcnn_jax.layers.whitening import WhitenedKernel


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(300, 14, 14, 3))
    # Neighbours and channels are alike, as in photographs.
    smooth = noise[:, :-2] + 0.8 * noise[:, 1:-1] + 0.5 * noise[:, 2:]
    smooth = smooth[:, :, :-1] + 0.7 * smooth[:, :, 1:]
    return smooth @ np.array([[1, 0.9, 0.8], [0, 0.5, 0.4], [0, 0, 0.3]]) + 5.0


def initial(features, window=2, channels=3):
    rng = np.random.default_rng(1)
    return rng.normal(size=(window, window, channels, features)).astype(np.float32)


def responses(images, kernel):
    with jax.enable_x64(True):
        maps = jax.lax.conv_general_dilated(
            images, np.float64(kernel), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return np.asarray(maps).reshape(-1, kernel.shape[-1])


def test_responses_are_white(images):
    fitted = WhitenedKernel("conv/kernel", epsilon=1e-9, images=300)
    kernel = fitted.fit([images[:100], images[100:]], np.float64(initial(30)))
    maps = responses(images, kernel)
    np.testing.assert_allclose(np.cov(maps[:, 0:24:2].T), np.eye(12), atol=1e-3)
    np.testing.assert_array_equal(maps[:, 1:24:2], -maps[:, 0:24:2])
    # 12 eigenvectors and their negatives; what is left keeps its weights.
    np.testing.assert_array_equal(kernel[..., 24:], np.float64(initial(30))[..., 24:])


def test_weak_directions_stay_weak(images):
    kernel = WhitenedKernel("conv/kernel", epsilon=0.1, gain=2.0).fit([images], initial(24))
    assert kernel.dtype == np.float32
    variances = responses(images, kernel)[:, ::2].var(0)
    assert 3.5 < variances[0] < 4  # gain squared, by 1 / (1 + epsilon)
    assert (np.diff(variances) < 0).all()
    assert variances[-1] < 0.5


def test_the_strongest_directions_come_first_and_only_some_images_count(images):
    few = WhitenedKernel("conv/kernel", images=50).fit([images], initial(4))
    alone = WhitenedKernel("conv/kernel").fit([images[:50]], initial(4))
    np.testing.assert_allclose(few, alone, rtol=1e-6)
    every = WhitenedKernel("conv/kernel").fit([images[:50]], initial(24))
    np.testing.assert_allclose(few, every[..., :4], rtol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "blocks", "part"),
    [
        (np.zeros((3, 5)), None, "shape (3, 5)"),
        (initial(8, window=15), None, "does not fit images of shape (12, 13, 3)"),
        (initial(8, channels=1), None, "does not fit images"),
        (initial(8), [], "no training images"),
    ],
)
def test_what_does_not_fit_is_said(images, kernel, blocks, part):
    with pytest.raises(ValueError, match=part.replace("(", r"\(").replace(")", r"\)")):
        WhitenedKernel("conv/kernel").fit([images] if blocks is None else blocks, kernel)
