"""Fitted transforms: against NumPy, and against the released recipe of whitening."""

import numpy as np
import pytest
import scipy.linalg

from data.transforms.chains import images_of, run
from rcnn_jax.data import assets, sources
from rcnn_jax.data.transforms import chain


def test_the_pixel_mean_is_that_of_the_training_images(photographs):
    fitted = chain.fit_all(["subtract_pixel_mean|flip"], photographs, block_size=64)
    images = photographs.gather(np.arange(300))["image"].astype(np.float64)
    np.testing.assert_allclose(fitted["pixel_mean"], images.mean(axis=0), rtol=1e-6)
    out = run("subtract_pixel_mean", images.astype(np.uint8), fitted=fitted)
    np.testing.assert_allclose(out, images - images.mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("block_size", [1, 7, 300])
def test_standardized_channels_have_mean_0_and_deviation_1(photographs, block_size):
    fitted = chain.fit_all(["standardize"], photographs, block_size)
    images = photographs.gather(np.arange(300))["image"]
    np.testing.assert_allclose(fitted["channel_mean"], images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(fitted["channel_std"], images.std((0, 1, 2)), rtol=1e-6)
    out = run("standardize", images, fitted=fitted).astype(np.float64)
    np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=(0, 1, 2)), 1, atol=1e-5)


def test_a_constant_channel_is_only_centred():
    source = sources.ArraySource({"image": np.full((4, 2, 2, 1), 9, np.uint8)})
    fitted = chain.fit_all(["standardize"], source)
    assert not run("standardize", source.columns["image"], fitted=fitted).any()


def test_a_transform_is_fitted_on_what_reaches_it(photographs):
    fitted = chain.fit_all(["to_float(255)|center_crop(4)|standardize"], photographs)
    seen = photographs.gather(np.arange(300))["image"][:, 1:5, 1:5] / 255
    np.testing.assert_allclose(fitted["channel_mean"], seen.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(fitted["channel_std"], seen.std((0, 1, 2)), rtol=1e-5)


def released_gcn_zca(train, images, scale=55.0, bias=0.1):
    """Step by step as pylearn2's CIFAR-10 script does it, in float64."""

    def contrast(vectors):
        vectors = vectors - vectors.mean(axis=1)[:, None]
        norms = np.sqrt((vectors**2).sum(axis=1)) / scale
        norms[norms < 1e-8] = 1.0
        return vectors / norms[:, None]

    train = contrast(train)
    mean = train.mean(axis=0)
    centred = train - mean
    covariance = centred.T @ centred / len(centred) + bias * np.identity(centred.shape[1])
    values, vectors = scipy.linalg.eigh(covariance)
    whitener = np.dot(vectors * np.sqrt(1.0 / values), vectors.T)
    return (contrast(images) - mean) @ whitener


def test_gcn_zca_agrees_with_the_released_recipe(photographs, x64):
    images = photographs.gather(np.arange(300))["image"].astype(np.float64)
    fitted = chain.fit_all(["gcn_zca"], photographs, block_size=70)
    out = run("gcn_zca", images, fitted=fitted).reshape(300, -1)
    wanted = released_gcn_zca(images.reshape(300, -1), images.reshape(300, -1))
    np.testing.assert_allclose(out, wanted, atol=1e-4)
    # Whitened: no direction varies more than 1.
    assert np.linalg.eigvalsh(np.cov(out.T, bias=True)).max() < 1.0001


def test_a_uniform_image_stays_finite_under_gcn(photographs):
    fitted = chain.fit_all(["gcn_zca"], photographs)
    assert np.isfinite(run("gcn_zca", np.full((1, 6, 6, 3), 77, np.uint8), fitted=fitted)).all()


def test_chains_share_what_they_fit_alike(photographs, tmp_path):
    texts = [
        "subtract_pixel_mean|random_crop(4)|flip",
        "subtract_pixel_mean|nine_crop(4, 1)",
        "flip",
    ]
    fitted = chain.fit_all(texts, photographs)
    assert set(fitted) == {"pixel_mean"}
    assets.save(tmp_path, fitted)
    images = photographs.gather(np.arange(5))["image"]
    np.testing.assert_array_equal(
        run(texts[1], images, fitted=assets.load(tmp_path)), run(texts[1], images, fitted=fitted)
    )
    assert chain.fit_all(["flip", ""], photographs) == {}


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["standardize", "to_float(255)|standardize"], "prepare standardize in different ways"),
        (["gcn_zca(55)", "gcn_zca(1)"], "prepare gcn_zca in different ways"),
        (["random_crop(4)|standardize"], "standardize must stand before the random transforms"),
    ],
)
def test_fits_that_contradict_each_other_are_refused(photographs, texts, says):
    with pytest.raises(ValueError, match=says):
        chain.fit_all(texts, photographs)


def test_a_missing_asset_is_named():
    with pytest.raises(ValueError, match="needs the fitted asset 'pixel_mean', there are none"):
        chain.build("subtract_pixel_mean")


@pytest.mark.parametrize(
    ("text", "images", "says"),
    [
        ("subtract_pixel_mean", images_of(2), r"fitted on images \[6, 6, 3\], got \[8, 8, 3\]"),
        ("gcn_zca", images_of(2), r"fitted on images of 108 values, got \[8, 8, 3\]"),
        ("standardize", images_of(2, channels=1), "fitted on 3 channels, got"),
    ],
)
def test_images_of_another_shape_than_fitted_are_refused(photographs, text, images, says):
    fitted = chain.fit_all([text], photographs)
    with pytest.raises(ValueError, match=says):
        run(text, images, fitted=fitted)
