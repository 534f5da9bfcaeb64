"""Where the pixels come from: every random position is reached, every window is in its place."""

import jax
import numpy as np
import pytest
import scipy.ndimage

from data.transforms.chains import images_of, keys_of, run
from rcnn_jax.data.transforms import chain as transforms


def windows(image, height, width):
    """All crops of an image as bytes, with where they lie."""
    rows, columns = image.shape[0] - height + 1, image.shape[1] - width + 1
    return {
        np.ascontiguousarray(image[r : r + height, c : c + width]).tobytes(): (r, c)
        for r in range(rows)
        for c in range(columns)
    }


def positions(images, out, pad=0, mode="edge"):
    found = []
    for image, crop in zip(images.astype(np.float32), out, strict=True):
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
        found.append(windows(padded, *crop.shape[:2]).get(crop.tobytes()))
    return found


def test_random_crops_reach_every_position_equally_often():
    images = images_of(1, 7, 6).repeat(1200, 0)
    found = positions(images, run("random_crop((5, 5))", images, keys_of(1200)))
    assert None not in found
    counts = {position: found.count(position) for position in set(found)}
    assert set(counts) == {(r, c) for r in range(3) for c in range(2)}
    # Six positions, 200 each; the standard deviation is 13.
    assert all(abs(count - 200) < 65 for count in counts.values())


@pytest.mark.parametrize(
    ("text", "mode"), [("pad_crop(2)", "reflect"), ("pad_crop(2, 'zeros')", "constant")]
)
def test_pad_crop_moves_by_up_to_its_padding(text, mode):
    images = images_of(1, 6, 5).repeat(500, 0)
    out = run(text, images, keys_of(500))
    assert out.shape == images.shape
    assert set(positions(images, out, 2, mode)) == {(r, c) for r in range(5) for c in range(5)}


def test_flip_mirrors_every_other_image():
    images = images_of(1000)
    out = run("flip", images, keys_of(1000))
    mirrored = (out == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((out == images).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 420 < mirrored.sum() < 580


def test_alternating_flip_shows_both_sides_in_any_two_epochs():
    images, index = images_of(1000), np.random.default_rng(0).permutation(1000).astype(np.int32)
    chain = jax.jit(transforms.build("alternating_flip"))

    def mirrored(epoch):
        batch = {"image": images[index], "index": index, "epoch": np.full(1000, epoch, np.int32)}
        out = np.asarray(chain(batch)["image"])
        turned = (out == images[index][:, :, ::-1]).all(axis=(1, 2, 3))
        assert ((out == images[index]).all(axis=(1, 2, 3)) ^ turned).all()
        return turned[np.argsort(index)]  # by example, in whatever row it came

    first = mirrored(0)
    assert 420 < first.sum() < 580
    assert 420 < (first[1:] == first[:-1]).sum() < 580  # neighbours have nothing in common
    np.testing.assert_array_equal(mirrored(1), ~first)
    np.testing.assert_array_equal(mirrored(6), first)


def test_alternating_flip_says_who_numbers_examples():
    with pytest.raises(ValueError, match=r"'index'.*ShuffledWithEpochs"):
        transforms.build("alternating_flip")({"image": images_of(2)})


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_cutout_fills_one_square_that_the_border_may_cut(size):
    images = images_of(900, 9, 7)
    out = run(f"cutout({size}, fill=-7)", images, keys_of(900))
    holes = (out == -7).all(axis=3)
    np.testing.assert_array_equal(out[~holes], images[~holes])
    centres = set()
    for hole in holes:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole.sum() == len(rows) * len(columns) > 0
        assert np.ptp(rows) < size
        assert np.ptp(columns) < size
        centres.add((int(rows[0]), int(columns[0]), len(rows), len(columns)))
    if size < 8:
        assert max(hole.sum() for hole in holes) == size * size
    if size == 1:
        assert len(centres) == 63


def test_random_affine_does_nothing_where_nothing_is_asked():
    images = images_of(5)
    np.testing.assert_allclose(run("random_affine()", images, keys_of(5)), images, atol=1e-3)


def test_random_affine_agrees_with_scipy():
    images, keys = images_of(20, 9, 7), keys_of(20)
    out = run("random_affine(30, 0.3, 2, fill=5)", images, keys)
    centre = np.array([4.0, 3.0])
    for image, key, got in zip(images, keys, out, strict=True):
        # The chain folds the link's position, 0, into the key.
        draws = jax.random.uniform(jax.random.fold_in(key, 0), (4,), minval=-1.0)
        turn, grow, down, right = np.asarray(draws, np.float64)
        angle = np.deg2rad(30 * turn)
        forward = (1 + 0.3 * grow) * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        backward = np.linalg.inv(forward)
        offset = centre - backward @ (centre + 2 * np.array([down, right]))
        for channel in range(3):
            wanted = scipy.ndimage.affine_transform(
                image[..., channel].astype(np.float64), backward, offset, order=1,
                mode="grid-constant", cval=5,
            )  # fmt: skip
            np.testing.assert_allclose(got[..., channel], wanted, atol=0.05)


def test_center_crop_is_the_middle():
    image = np.arange(7 * 8, dtype=np.uint8).reshape(1, 7, 8, 1)
    np.testing.assert_array_equal(run("center_crop(4)", image), image[:, 1:5, 2:6])


def test_nine_crops_lie_on_the_grid_of_the_paper():
    images = images_of(2, 32, 32)
    out = run("nine_crop(24, 4)", images)
    assert out.shape == (2, 9, 24, 24, 3)
    grid = [(r, c) for r in (0, 4, 8) for c in (0, 4, 8)]
    for view, (r, c) in enumerate(grid):
        np.testing.assert_array_equal(out[:, view], images[:, r : r + 24, c : c + 24])
    # In a larger image the grid is centred.
    larger = images_of(1, 36, 34)
    np.testing.assert_array_equal(run("nine_crop(24)", larger)[:, 0], larger[:, 2:26, 1:25])


def test_values_may_change_after_nine_crops_but_places_may_not(photographs):
    fitted = transforms.fit_all(["standardize"], photographs)
    images = photographs.gather(np.arange(3))["image"]
    after = run("nine_crop(4, 1)|standardize", images, fitted=fitted)
    np.testing.assert_allclose(
        after, run("standardize|nine_crop(4, 1)", images, fitted=fitted), rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"flip takes images \[height, width, channels\], got"):
        run("nine_crop(4, 1)|flip", images, keys_of(3))


def test_resize_is_linear():
    ramp = np.arange(8, dtype=np.float32)[None, :, None, None].repeat(4, 2)
    doubled = run("resize((16, 4))", ramp)[0, :, 0, 0]
    np.testing.assert_allclose(doubled[1:-1], np.arange(1, 15) / 2 - 0.25, atol=1e-6)
    halved = run("resize(4)", np.full((1, 8, 8, 3), 9, np.uint8))
    np.testing.assert_allclose(halved, np.full((1, 4, 4, 3), 9), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("random_crop(9)", "random_crop of 9x9 needs images at least as large, got 8x8"),
        ("center_crop((4, 9))", "center_crop of 4x9 needs images at least as large, got 8x8"),
        ("nine_crop(9)", "nine_crop of 9x9 needs images at least as large, got 8x8"),
        ("nine_crop(4, 4)", "moves by 8 pixels, but an image of 8x8 leaves 4"),
        ("pad_crop(8)", "fewer than 8 pixels of a 8x8 image, got 8"),
        ("random_crop(4)|random_crop(5)", "random_crop of 5x5 .* got 4x4"),
    ],
)
def test_images_smaller_than_the_crop_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        run(text, images_of(2), keys_of(2))
