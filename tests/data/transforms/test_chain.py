"""Chains of transforms: their language, and what every chain holds to."""

import dataclasses
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.transforms.chains import RANDOM, images_of, keys_of, run
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.data.transforms.per_image import PerImage

# The language.


def test_a_chain_is_read_from_left_to_right():
    names = [t.name for t in transforms.parse("subtract_pixel_mean | random_crop(24)|flip")]
    assert names == ["subtract_pixel_mean", "random_crop", "flip"]
    assert transforms.parse("") == transforms.parse("  ") == ()


def test_arguments_are_positional_or_named_literals():
    (crop,) = transforms.parse("pad_crop(4, mode='zeros')")
    assert crop == transforms.parse("pad_crop(pad=4,mode='zeros')")[0]
    assert (crop.pad, crop.mode) == (4, "zeros")
    (rectangle,) = transforms.parse("center_crop((4, 6))")
    assert rectangle.size == (4, 6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flip|randomcrop(24)", "no transform 'randomcrop'.*did you mean 'random_crop'"),
        ("random_crop", r"missing a required argument: 'size'; it is random_crop\(size\)"),
        ("random_crop(1, 2)", r"too many positional arguments; it is random_crop\(size\)"),
        ("pad_crop(4, kind='zeros')", r"'kind'; it is pad_crop\(pad, mode='reflect', void=-1\)"),
        ("subtract_pixel_mean(arrays={})", r"'arrays'; it is subtract_pixel_mean\(\)"),
        ("random_crop(__import__('os').getcwd())", "plain numbers, texts, tuples or lists"),
        ("random_crop(2 * 12)", "plain numbers"),
        ("random_crop(*[1])", "plain numbers"),
        ("random_crop(**{'size': 1})", "plain numbers"),
        ("random_crop(1)(2)", "plain numbers"),
        ("random_crop(24", "is not understood; write name"),
        ("flip||flip", "'' in 'flip||flip' is not understood"),
        ("random_crop(0)", r"random_crop\(0\): a size must be at least 1"),
        ("pad_crop(4, 'wrap')", "mode 'reflect' or 'zeros'"),
        ("pad_crop(-1)", "pad must be at least 0"),
        ("to_float(0)", "the maximum must be above 0, got 0"),
        ("cutout(0)", "a size must be at least 1"),
        ("nine_crop(24, 0)", "stride must be at least 1, got 0"),
        ("random_affine(scale=1)", "0 <= scale < 1"),
        ("gcn_zca(0)", "must be above 0, got 0"),
        ("nobody.has:this(1)", "no module 'nobody' was found"),
        ("os:sep", "cannot be called"),
        ("builtins:len([1])", "gives a int, which is no transform"),
    ],
)
def test_a_text_that_is_wrong_is_one_sentence(text, says):
    with pytest.raises(ValueError, match=says.replace("||", r"\|\|")):
        transforms.parse(text)


def test_a_fork_brings_its_own_transforms(tmp_path, monkeypatch):
    (tmp_path / "fork_aug.py").write_text(
        textwrap.dedent(
            """
            import dataclasses
            from typing import ClassVar

            import jax
            from rcnn_jax.data.transforms.per_image import PerImage

            @dataclasses.dataclass(frozen=True)
            class Brighten(PerImage):
                by: float
                name: ClassVar[str] = "brighten"

                def apply(self, image):
                    return image + self.by

            @dataclasses.dataclass(frozen=True)
            class Mixup:
                share: float
                random = True

                def __call__(self, batch, keys):
                    mixed = {n: (1 - self.share) * v + self.share * v[::-1]
                             for n, v in batch.items() if n != "mask"}
                    return {**batch, **mixed}
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    chain = transforms.build("fork_aug:Brighten(2.5)|fork_aug:Mixup(0.25)|flip")
    assert chain.random
    batch = {
        "image": np.stack([np.full((2, 2, 1), v, np.uint8) for v in (0, 40)]),
        "label": np.array([[1.0, 0.0], [0.0, 1.0]], np.float32),
        "mask": np.ones(2, np.float32),
    }
    out = chain(batch, keys_of(2))
    assert np.unique(out["image"]).tolist() == [12.5, 32.5]
    assert out["label"].tolist() == [[0.75, 0.25], [0.25, 0.75]]
    np.testing.assert_array_equal(out["mask"], batch["mask"])


# What every chain holds to.


@pytest.mark.parametrize("text", ["", *RANDOM, "center_crop(4)", "nine_crop(4, 2)", "resize(5)"])
def test_integers_become_float32_or_what_is_asked_for(text):
    batch, keys = {"image": images_of(4)}, keys_of(4)
    for dtype in ("float32", "bfloat16"):
        chain = transforms.build(text, dtype=dtype)
        assert jax.eval_shape(chain, batch, keys)["image"].dtype == dtype


def test_the_rest_of_the_batch_passes_through():
    batch = {"image": images_of(32), "label": np.arange(32), "mask": np.ones(32, np.float32)}
    out = jax.jit(transforms.build("|".join(RANDOM)))(batch, keys_of(32))
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_array_equal(out["mask"], batch["mask"])


@pytest.mark.parametrize("text", [*RANDOM, "resize(5)", "to_float(255)"])
def test_double_precision_stays_and_sees_the_same_draws(text):
    images, keys = images_of(32), keys_of(32)
    single = run(text, images, keys)
    with jax.enable_x64(True):
        double = run(text, images.astype(np.float64), keys)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("text", ["standardize", "subtract_pixel_mean", "gcn_zca"])
def test_double_precision_stays_after_fitting(text, photographs, x64):
    fitted = transforms.fit_all([text], photographs)
    images = photographs.gather(np.arange(5))["image"]
    single, double = (run(text, images.astype(t), fitted=fitted) for t in ("f4", "f8"))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("text", RANDOM)
def test_an_example_depends_on_its_own_key_alone(text):
    """Not on its place in the batch, nor on its neighbours."""
    images, keys = images_of(32), keys_of(32)
    whole = run(text, images, keys)
    moved = run(text, np.roll(images, 5, axis=0), jnp.roll(keys, 5))
    np.testing.assert_array_equal(moved, np.roll(whole, 5, axis=0))
    assert (run(text, images, keys_of(32, seed=1)) != whole).any()


@pytest.mark.parametrize("text", RANDOM)
def test_a_random_transform_without_keys_is_refused(text):
    assert transforms.build(text).random
    name = text.partition("(")[0]
    with pytest.raises(ValueError, match=f"{name} is random and needs one key per example"):
        run(text, images_of(2))


def test_two_equal_links_draw_independently():
    """Each moves by 0 or 1; with one draw for both the sum would never be 1."""
    images = np.arange(64, dtype=np.uint8)[None, :, None, None].repeat(200, 0).repeat(2, 2)
    twice = run("random_crop((63, 2))|random_crop((62, 2))", images, keys_of(200))
    assert set(twice[:, 0, 0, 0].tolist()) == {0, 1, 2}


def test_raw_keys_serve_as_well_as_typed_ones():
    images, keys = images_of(6), keys_of(6)
    raw = run("flip|cutout(3)", images, jax.random.key_data(keys))
    np.testing.assert_array_equal(raw, run("flip|cutout(3)", images, keys))


def test_a_batch_without_images_is_refused():
    with pytest.raises(ValueError, match=r"flip needs a feature 'image', the batch has \['text'\]"):
        transforms.build("flip")({"text": np.zeros(3)}, keys_of(3))


def test_every_name_is_that_of_its_class():
    for name, transform in transforms.TRANSFORMS.items():
        assert transform.name == name
        assert dataclasses.is_dataclass(transform)
        assert transform.__doc__


def test_a_transform_of_ones_own_needs_only_apply():
    class Negative(PerImage):
        name = "negative"

        def apply(self, image):
            return -image

    chain = transforms.Chain((Negative(),))
    out = chain({"image": np.ones((2, 3, 3, 1), np.float32)})
    assert isinstance(chain.transforms[0], transforms.Transform)
    assert (np.asarray(out["image"]) == -1).all()
