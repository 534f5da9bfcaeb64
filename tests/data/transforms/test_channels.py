"""Links that know their numbers: the order of channels, means and deviations."""

import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.transforms import chain

IMAGE = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)


def apply(text, image=IMAGE):
    return np.asarray(chain.build(text)({"image": jnp.asarray(image)})["image"])


def test_channels_are_reversed():
    np.testing.assert_array_equal(apply("reverse_channels"), IMAGE[..., ::-1])


def test_means_are_subtracted_and_deviations_divided_by():
    centred = apply("normalize((1, 2.5, 3))")
    np.testing.assert_allclose(centred, IMAGE - np.array([1, 2.5, 3]), rtol=1e-6)
    scaled = apply("reverse_channels|normalize([1, 2, 3], [2, 4, 8])")
    np.testing.assert_allclose(scaled, (IMAGE[..., ::-1] - [1, 2, 3]) / [2, 4, 8], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("normalize(1)", "1 are no numbers, one for each channel"),
        ("normalize('abc')", "no numbers"),
        ("normalize(())", "got 0 and 0"),
        ("normalize((1, 2, 3), (1, 2))", "got 3 and 2"),
        ("normalize((1, 2, 3), (1, 2, 0))", "deviations must be above 0"),
        ("normalize((1, 2))", "2 means, the images have 3 channels"),
    ],
)
def test_impossible_numbers(text, message):
    with pytest.raises(ValueError, match=message):
        apply(text)
