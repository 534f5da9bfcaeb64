"""Features that belong together: one draw, one function a role, and no silent pass."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.transforms.chains import images_of, keys_of
from rcnn_jax.configuration import loading
from rcnn_jax.data import catalog, pipeline, samplers, sources
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.data.transforms.per_image import Geometric, PerImage, RandomPerImage
from rcnn_jax.experiment import task
from rcnn_jax.summary.listing import configured

MANY = 40
SHOWN = (2, 3, 6, 8)  # y0, x0, y1, x1 of what the pictures below show
ROLES = {
    "image": "image", "other": "image", "clip": "frames", "labels": "label_map",
    "flat": "label_map", "boxes": "boxes", "shares": "relative_boxes",
}  # fmt: skip


def pictures(height=9, width=12):
    """Images whose channels are row, column and label; label maps of the same; boxes around it."""
    rows, columns = np.indices((height, width), np.float32)
    labels = np.zeros((height, width), np.int32)
    labels[SHOWN[0] : SHOWN[2], SHOWN[1] : SHOWN[3]] = 7
    image = np.stack([rows, columns, labels.astype(np.float32)], axis=-1)
    box = np.array([SHOWN, (-1, -1, -1, -1), (0, 0, 1, 1)], np.int32)
    share = (box / [height, width, height, width]).astype(np.float32)
    one = {
        "image": image.astype(np.uint8), "other": image + 100, "clip": np.stack([image, image + 9]),
        "labels": labels, "flat": labels[..., None].astype(np.uint8), "boxes": box,
        "shares": np.where(box < 0, 0, share),
    }  # fmt: skip
    return {name: np.repeat(value[None], MANY, 0) for name, value in one.items()}


def changed(text, batch=None, roles=ROLES):
    chain = jax.jit(transforms.build(text, roles=roles))
    batch = chain(pictures() if batch is None else batch, keys_of(MANY) if chain else None)
    return {name: np.asarray(value) for name, value in batch.items()}


def around(labels):
    """The box around what is 7 in a label map, or None."""
    rows, columns = (labels == 7).any(1).nonzero()[0], (labels == 7).any(0).nonzero()[0]
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else None


@pytest.mark.parametrize(
    "text",
    [
        "random_crop((5, 7))|flip",
        "pad_crop(2, 'zeros')|center_crop((8, 5))",
        "random_crop((4, 6))|flip|resize((8, 18))|pad_crop(3, 'zeros')",
    ],
)
def test_everything_of_an_example_moves_by_one_draw(text):
    before, after = pictures(), changed(text)
    height, width = after["image"].shape[1:3]
    corners = set()
    for n in range(MANY):
        labels, box = after["labels"][n], after["boxes"][n]
        seen = labels != -1  # what the padding brings in has this label
        assert after["flat"][n, ..., 0].tolist() == np.where(seen, labels, 255).tolist()
        # The third channel is the label where no interpolation mixes it.
        exact = seen & np.isin(after["image"][n, ..., 2], (0, 7))
        np.testing.assert_array_equal(labels[exact], after["image"][n][exact][:, 2])
        np.testing.assert_allclose(after["other"][n][seen], after["image"][n][seen] + 100, 1e-5)
        np.testing.assert_array_equal(after["clip"][n, 0], after["image"][n])
        np.testing.assert_allclose(after["clip"][n, 1][seen], after["image"][n][seen] + 9, 1e-5)
        assert box[0].tolist() == (around(labels) or [-1] * 4)
        # Absent boxes stay as they were, and one of a single pixel is there where the pixel is.
        assert box[1].tolist() == [-1] * 4
        assert after["shares"][n, 1].tolist() == [0] * 4
        shares = np.where(box < 0, box, box / [height, width, height, width])
        np.testing.assert_allclose(after["shares"][n, [0, 2]], shares[[0, 2]], rtol=1e-5)
        corners.add(tuple(box[0].tolist()))
    assert len(corners) > 1
    kept = ("labels", "flat", "image", "clip")
    assert [after[k].dtype for k in kept] == ["int32", "uint8", "float32", "float32"]
    assert after["boxes"].dtype == np.float32
    # An image alone comes to the same bits: what goes along draws nothing.
    alone = changed(text, {"image": before["image"]}, None)
    np.testing.assert_array_equal(alone["image"], after["image"])


def test_boxes_by_hand():
    box = np.array([[[1, 1, 4, 6], [0, 0, 2, 3]]], np.float32)
    batch = {"image": np.zeros((1, 6, 8, 1), np.float32), "boxes": box}
    roles = {"boxes": "boxes"}

    def moved(text, **columns):
        chain = jax.jit(transforms.build(text, roles=roles))
        return np.asarray(chain({**batch, **columns})["boxes"][0]).tolist()

    assert moved("center_crop((4, 4))") == [[0, 0, 3, 4], [0, 0, 1, 1]]  # from row 1, column 2 on
    assert moved("center_crop(2)") == [[0, 0, 2, 2], [-1, -1, -1, -1]]
    assert moved("resize((3, 16))") == [[0.5, 2, 2, 12], [0, 0, 1, 6]]
    index, epochs = np.ones(1, np.int32), np.arange(2, dtype=np.int32)[:, None]
    sides = [moved("alternating_flip", index=index, epoch=epoch) for epoch in epochs]
    assert sorted(sides) == [[[1, 1, 4, 6], [0, 0, 2, 3]], [[1, 2, 4, 7], [0, 5, 2, 8]]]


def test_random_affine_turns_labels_and_boxes_with_the_image():
    after = changed("random_affine(40, 0.3, 2, fill=-99, void=200)")
    assert set(np.unique(after["labels"])) == {0, 7, 200}
    for image, labels, boxes in zip(after["image"], after["labels"], after["boxes"], strict=True):
        inside = labels != 200
        # Away from the border of what is shown, where pixels are mixed, labels are the image's.
        exact = inside & np.isin(image[..., 2], (0, 7))
        np.testing.assert_array_equal(labels[exact], image[exact][:, 2])
        assert exact.sum() > 20
        # The box contains all that is shown, and no more than the diagonal beyond it.
        shown = around(np.where(image[..., 2] > 3.5, 7, 0))
        assert (boxes[0, :2] <= np.add(shown[:2], 0.51)).all()
        assert (boxes[0, 2:] >= np.subtract(shown[2:], 0.51)).all()
    # By the formula, of the first example: the four corners, turned about the middle.
    draws = jax.random.uniform(jax.random.fold_in(keys_of(MANY)[0], 0), (4,), minval=-1.0)
    turn, grow, down, right = np.asarray(draws, np.float64)
    angle, factor, middle = np.deg2rad(40 * turn), 1 + 0.3 * grow, np.array([4.5, 6])
    rotation = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    y0, x0, y1, x1 = SHOWN
    points = np.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]]) - middle
    points = factor * points @ np.transpose(rotation) + middle + 2 * np.array([down, right])
    wanted = np.clip([*points.min(0), *points.max(0)], 0, [9, 12, 9, 12])
    np.testing.assert_allclose(after["boxes"][0, 0], wanted, atol=1e-4)


def test_pixels_of_images_and_frames_change_and_labels_and_boxes_stay():
    batch = pictures()
    text = "to_float(2)|normalize((1, 2, 3))|reverse_channels|cutout(3, fill=50)"
    after = changed(text)
    for name in ("labels", "flat", "boxes", "shares"):
        np.testing.assert_array_equal(after[name], batch[name])
    holes = (after["image"] == 50).all(-1)
    assert holes.any(axis=(1, 2)).all()
    for name in ("image", "other", "clip"):
        wanted = (batch[name].astype(np.float32) / 2 - [1, 2, 3])[..., ::-1]
        hole = np.broadcast_to(holes[:, None], wanted.shape[:4]) if name == "clip" else holes
        np.testing.assert_allclose(after[name], np.where(hole[..., None], 50, wanted), rtol=1e-6)


def test_padding_by_reflection_reflects_labels():
    after = changed("pad_crop(3)")
    for image, labels in zip(after["image"], after["labels"], strict=True):
        np.testing.assert_array_equal(labels, image[..., 2])


def test_transforms_are_fitted_on_frames_where_there_are_no_images():
    clips = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5, 2)).astype(np.uint8)
    features = {"clip": Feature((3, 4, 5, 2), "uint8", role="frames")}
    fitted = transforms.fit_all(
        ["to_float(255)|standardize"], sources.ArraySource({"clip": clips}, features), 6
    )
    np.testing.assert_allclose(fitted["channel_mean"], clips.mean((0, 1, 2, 3)) / 255, rtol=1e-5)
    chain = transforms.build(
        "to_float(255)|standardize", fitted, roles=transforms.roles_of(features)
    )
    out = np.asarray(chain({"clip": clips})["clip"])
    np.testing.assert_allclose(out.std(axis=(0, 1, 2, 3)), 1, rtol=1e-4)
    both = {name: Feature((4, 5, 2), "uint8", role="image") for name in ("left", "right")}
    pair = sources.ArraySource({"left": clips[:, 0], "right": clips[:, 1]}, both)
    with pytest.raises(ValueError, match="has 'left' and 'right': call one of them so"):
        transforms.fit_all(["standardize"], pair)


def test_views_are_marked_by_what_makes_them():
    assert transforms.build("to_float(2)|nine_crop(4, 2)").makes_views
    assert not transforms.build("flip|resize(4)").makes_views


# Refusals.


@dataclasses.dataclass(frozen=True)
class Undeclared(PerImage):
    name: ClassVar[str] = "undeclared"

    def apply(self, image):
        return image + 1


class Plain:
    random = False

    def __call__(self, batch, keys):
        return {**batch, "image": batch["image"] + 1}


@dataclasses.dataclass(frozen=True)
class Shift(RandomPerImage):
    name: ClassVar[str] = "shift"
    geometric: ClassVar[bool | None] = True

    def apply(self, image, key):
        return jnp.roll(image, jax.random.randint(key, (), 0, 5), axis=0)


@dataclasses.dataclass(frozen=True)
class UpsideDown(Geometric):
    """As in the docstring of `Geometric`, without boxes."""

    name: ClassVar[str] = "upside_down"

    def draw(self, given, size):
        return jax.random.bernoulli(given)

    def on_image(self, image, drawn):
        return jnp.where(drawn, image[::-1], image)

    def on_label_map(self, labels, drawn):
        return jnp.where(drawn, labels[::-1], labels)


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("transform", "role", "says"),
    [
        ("nine_crop(4, 1)", "label_map",
         "nine_crop does not know the role 'label_map' of the feature 'it', only image; "
         "'label_map' is known to .*random_crop, pad_crop, flip,"),
        ("nine_crop(4, 1)", "frames", "does not know the role 'frames'"),
        (Undeclared(), "label_map",
         "undeclared does not say what it does to the feature 'it', whose role is 'label_map': .*"
         "`geometric = False`.*has a method on_label_map"),
        (Undeclared(), "image", "undeclared does not say"),
        (Plain(), "relative_boxes", "Plain does not say .*on_boxes.*`knows = .'image', 'relative"),
        (Shift(), "boxes", "shift does not know the role 'boxes' .*, only image, frames"),
        (UpsideDown(), "boxes", "only image, frames, label_map"),
    ],
)  # fmt: skip
def test_a_role_that_a_transform_does_not_know_is_refused_by_name(transform, role, says):
    links = transforms.parse(transform) if isinstance(transform, str) else (transform,)
    with pytest.raises(ValueError, match=says):
        transforms.Chain(links, roles=(("image", "image"), ("it", role)))
    transforms.Chain(links, roles=(("image", "image"), ("it", "none")))


def test_what_a_fork_declares_is_taken_at_its_word():
    class Value(Undeclared):
        geometric = False

    class Whole(Plain):
        knows = ("image", "label_map")

    batch = {name: pictures()[name] for name in ("image", "labels")}
    roles = (("image", "image"), ("labels", "label_map"))

    def run(transform, batch=batch, roles=roles):
        return jax.jit(transforms.Chain((transform,), roles=roles))(batch, keys_of(MANY))

    for transform in (Value(), Whole()):
        out = run(transform)
        np.testing.assert_array_equal(out["image"], batch["image"] + np.float32(1))
        np.testing.assert_array_equal(out["labels"], batch["labels"])
    out = run(UpsideDown())
    np.testing.assert_array_equal(out["labels"], out["image"][..., 2])
    assert 5 < (np.asarray(out["image"])[:, 0, 0, 0] == 8).sum() < 35
    batch = {name: pictures()[name] for name in ("image", "clip")}
    out = run(Shift(), batch, (("image", "image"), ("clip", "frames")))
    np.testing.assert_array_equal(out["clip"][:, 1], out["image"] + 9)


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("links", "name", "feature", "says"),
    [
        ("flip", "labels", np.zeros((2, 8, 8), np.int32),
         r"flip moves pixels, and the feature 'labels' of int32 \[8, 8\] has no role, though .*"
         r"belongs to 'image': .*role='label_map'\), or role='none'.*config.data.features"),
        ("to_float(2)|resize(4)", "labels", np.zeros((2, 8, 8, 1), np.uint8), "role='label_map'"),
        ("flip", "target", np.zeros((2, 8, 8, 3), np.float32), "role='image'"),
        ("flip", "boxes", np.zeros((2, 5, 4), np.float32), "role='boxes'"),
        ((Undeclared(),), "labels", np.zeros((2, 8, 8), np.int32),
         "undeclared does not say whether it moves pixels.*and the transform `geometric = False`"),
    ],
)  # fmt: skip
def test_a_feature_that_looks_tied_to_moved_pixels_is_refused(links, name, feature, says):
    links = transforms.parse(links) if isinstance(links, str) else links
    batch = {"image": images_of(2), name: feature}
    with pytest.raises(ValueError, match=says):
        transforms.Chain(links)(batch, keys_of(2))
    untied = transforms.Chain(links, roles=(("image", "image"), (name, "none")))
    np.testing.assert_array_equal(jax.jit(untied)(batch, keys_of(2))[name], feature)


def test_what_moves_nothing_or_sees_everything_runs_beside_any_feature():
    batch = {"image": images_of(2), "labels": np.zeros((2, 8, 8), np.int32)}
    for links in (*map(transforms.parse, ("to_float(2)", "cutout(3)")), (Plain(),)):
        out = jax.jit(transforms.Chain(links))(batch, keys_of(2))
        np.testing.assert_array_equal(out["labels"], batch["labels"])


@pytest.mark.one_row
def test_sizes_that_differ_and_labels_that_do_not_fit_are_refused():
    batch = pictures()
    smaller = {"image": batch["image"], "labels": batch["labels"][:, :-1]}
    with pytest.raises(ValueError, match=r"'image' and 'labels' together, but one is 9x12 .* 8x12"):
        changed("flip", smaller)
    with pytest.raises(ValueError, match=r"void=300 is no label of a uint8 label map, .* 0 to 255"):
        changed("random_affine(1, void=300)")
    with pytest.raises(
        ValueError, match=r"flip needs a feature 'image', the batch has \['boxes'\]"
    ):
        changed("flip", {"boxes": batch["boxes"]})


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("shape", "dtype", "role", "says"),
    [
        ((8, 8), "uint8", "labelmap", "role 'labelmap': did you mean 'label_map'?"),
        ((8, 8), "float32", "label_map", "which is for integers"),
        ((8, 8, 3), "uint8", "label_map", r"uint8 \[8, 8, 3\] cannot have the role 'label_map'"),
        ((8, 8), "uint8", "image", r"which is for \[height, width, channels\]"),
        ((8, 8, 3), "uint8", "frames", r"which is for \[time, height, width, channels\]"),
        ((4,), "float32", "boxes", r"which is for numbers \[boxes, 4\]"),
        ((6, 4), "int32", "relative_boxes", "which is for floating numbers"),
    ],
)
def test_a_role_fits_the_shape_and_type_of_its_feature(shape, dtype, role, says):
    with pytest.raises(ValueError, match=says):
        Feature(shape, dtype, role=role)


@pytest.mark.one_row
def test_a_role_does_not_make_prepared_records_old():
    assert repr(Feature((8, 8), "uint8", role="label_map")) == repr(Feature((8, 8), "uint8"))


# A fork.

FORK = '''
import numpy as np

from rcnn_jax.data.spec import DatasetSpec, Feature

SIZE = 10


def read(root, split):
    """The image says which pixel each of its pixels is, and the label map says it again."""
    place = np.arange(24 * SIZE * SIZE).reshape(24, SIZE, SIZE)
    image = np.stack([place // 100, place % 100 // 10, place % 10], axis=-1)
    return {"image": image.astype(np.uint8), "labels": place.astype(np.int32),
            "label": np.arange(24, dtype=np.int32) % 10}


def scenes(**role):
    return DatasetSpec(
        name="scenes", version="1.0.0", splits={"train": 24, "validation": 24},
        features={"image": Feature((SIZE, SIZE, 3), "uint8"), "label": Feature((), "int32", 10),
                  "labels": Feature((SIZE, SIZE), "int32", **role)},
        files=lambda root, split: [], read=read,
    )


SCENES, FORGOTTEN = scenes(role="label_map"), scenes()
'''


def test_a_forks_label_map_is_cropped_flipped_and_resized_with_its_image(tmp_path, monkeypatch):
    (tmp_path / "scene_fork.py").write_text(FORK)
    monkeypatch.syspath_prepend(tmp_path)
    source = catalog.open_source("scene_fork:SCENES", "train", residency="memory")
    chain = transforms.build(
        "random_crop(6)|flip|resize(12)", roles=transforms.roles_of(source.features)
    )
    sampler = samplers.Shuffled(size=24, batch_size=8, seed=0)
    compiled = jax.jit(chain)
    with pipeline.train_batches(
        source, sampler, start_step=0, num_steps=3, residency="memory", place=jax.device_put
    ) as batches:
        seen = set()
        for step, batch in enumerate(batches):
            out = compiled(batch, keys_of(8, step))
            image, labels = np.asarray(out["image"]), np.asarray(out["labels"])
            assert (image.shape, labels.shape) == ((8, 12, 12, 3), (8, 12, 12))
            # Each pixel became four: the labels say which, and the image is at most half away.
            places = np.stack([labels // 100, labels % 100 // 10, labels % 10], axis=-1)
            assert np.abs(image - places).max() <= 0.5
            np.testing.assert_array_equal(labels[:, ::2, ::2], labels[:, 1::2, 1::2])
            seen |= {tuple(corner) for corner in places[:, 0, 0, 1:].tolist()}
    assert len(seen) > 8  # different windows, mirrored or not


CONFIG = """
def get_config():
    return {
        "model": {"name": "rcnn_jax.models.fully_connected:FullyConnected", "classes": 10,
                  "hidden": ()},
        "data": {"name": "scene_fork:SCENES", "preprocess": "to_float(10)",
                 "augment": "random_crop(8)|flip|resize(6)", "evaluate": "center_crop(6)",
                 "residency": "memory"},
        "batch_size": 8, "epochs": 0.0, "steps": 1,
    }
"""


def test_a_run_knows_the_roles_of_its_data_set(door, tmp_path, monkeypatch):
    (tmp_path / "scene_fork.py").write_text(FORK)
    (tmp_path / "mine.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    config = loading.load(str(tmp_path / "mine.py"))
    _, call, _ = configured(config)
    assert [x.shape for x in call.arrays] == [(1, 6, 6, 3)]
    config.data.evaluate = "nine_crop(4, 1)"
    with pytest.raises(ValueError, match="nine_crop does not know the role 'label_map'"):
        task.build_task(config, {}, None, catalog.load_spec("scene_fork:SCENES").features)
    taken = door("train", "--config=mine.py", "--workdir=taken")
    assert taken.returncode == 0, taken.stderr
    name = "--config.data.name=scene_fork:FORGOTTEN"
    refused = door("train", "--config=mine.py", "--workdir=refused", name)
    assert "random_crop moves pixels, and the feature 'labels' of int32 [10, 10]" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "refused").exists()
