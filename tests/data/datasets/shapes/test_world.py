"""Scenes of shapes: what is where, what hides what, and what the picture shows of it."""

import hashlib
import math

import numpy as np
import pytest

from rcnn_jax.data import catalog, sources
from rcnn_jax.data.datasets.shapes import dataset, drawing, kinds, language, stamps, world


def scenes(number, *, held_out=False):
    return [
        world.scene(world.BlockDraws(7, 0, i), held_out=held_out or i % 5 == 4)
        for i in range(number)
    ]


def whole(own):
    """All pixels of an object as if it were alone, bool `[64, 64]`."""
    canvas = np.zeros((world.SIDE, world.SIDE), bool)
    canvas[own.window] = own.stamp.mask
    return canvas


def test_examples_are_the_same_everywhere_and_always():
    """A change of the examples needs a new version of the data set, and then a new sum here."""
    digest = hashlib.sha256()
    for split, size in dataset.SPLITS.items():
        columns = dataset.SHAPES_WORLD.columns(None, split)
        assert {len(column) for column in columns.values()} == {size}
        for index in (*range(40), size - 1):
            for name in dataset.FEATURES:
                value = columns[name][index]
                assert dataset.FEATURES[name].accepts(value), name
                digest.update(value.tobytes())
    assert digest.hexdigest()[:16] == "7ef89ab1acac828c"
    assert dataset.SHAPES_WORLD.version == "1.1.0"


def test_another_seed_or_split_makes_other_scenes():
    made = [dataset.example(seed, split, 0) for seed in (0, 1) for split in dataset.SPLITS]
    assert len({example["objects"].tobytes() for example in made}) == 6
    again = dataset.example(1, "test", 0)
    assert all(np.array_equal(again[name], made[-1][name]) for name in dataset.FEATURES)


def test_there_are_more_than_a_million_scenes():
    """Counted without places, sizes in pixels, rotations and what hides what."""
    kinds = (len(world.SHAPES) * len(world.COLOURS) - len(world.HELD_OUT)) * len(world.SIZES)
    assert (len(world.SHAPES), len(world.COLOURS), len(world.HELD_OUT)) == (8, 8, 6)
    lists = [math.comb(kinds + n - 1, n) for n in range(world.FEWEST, world.MOST + 1)]
    assert lists[0] == 266_916
    assert lists[-1] > 3.8e9
    # And they are drawn from all of that: among some thousand scenes no two have the same list.
    seen = {
        tuple(sorted((o.shape, o.colour, o.size) for o in shown.objects))
        for shown in scenes(300)
        if len(shown.objects) > 3
    }
    assert len(seen) == sum(len(shown.objects) > 3 for shown in scenes(300))


def test_scenes_use_all_that_there_is():
    made = scenes(600)
    objects = [own for shown in made for own in shown.objects]
    counts = np.bincount([len(shown.objects) for shown in made])
    assert list(counts[:3]) == [0, 0, 0]
    assert (np.abs(counts[3:] / 600 - 1 / 4) < 0.07).all()
    for field, values in (("shape", 8), ("colour", 8), ("size", 2), ("turn", stamps.TURNS)):
        shares = np.bincount([getattr(own, field) for own in objects]) / len(objects)
        assert len(shares) == values
        assert shares.min() > 0.7 / values
    assert 0.5 < np.mean([len(shown.pairs) for shown in made]) < 1.5


def test_held_out_pairs_are_in_every_second_test_scene_and_nowhere_else():
    for split in dataset.SPLITS:
        columns = dataset.SHAPES_WORLD.columns(None, split)
        marks = [int(columns["held_out"][i]) for i in range(250)]
        for index, mark in enumerate(marks):
            rows = columns["objects"][index]
            has = any(tuple(row[:2]) in world.HELD_OUT for row in rows)
            assert has == mark == (split == "test" and index % 2 == 1)
    # Each shape and each colour is in training all the same, with most of its partners.
    for at in (0, 1):
        assert max(np.bincount([pair[at] for pair in world.HELD_OUT])) == 1


def test_what_is_hidden_and_what_is_seen():
    """Pasted whole from back to front, on pictures of their own."""
    pairs = 0
    for shown in scenes(300):
        masks = [whole(own) for own in shown.objects]
        owners = np.zeros((world.SIDE, world.SIDE), np.uint8)
        for place, mask in enumerate(masks):
            owners[mask] = place + 1
        np.testing.assert_array_equal(shown.owners, owners)
        table = dataset.object_table(shown)
        boxes = dataset.visible_boxes(shown) * world.SIDE
        assert (table[len(masks) :] == -1).all()
        assert (boxes[len(masks) :] == 0).all()
        for place, mask in enumerate(masks):
            seen = owners == place + 1
            assert seen.sum() >= world.VISIBLE * mask.sum()
            y0, x0, y1, x1 = boxes[place].astype(int)
            rows, columns = np.nonzero(seen)
            assert (y0, y1 - 1) == (rows.min(), rows.max())
            assert (x0, x1 - 1) == (columns.min(), columns.max())
            hidden = {
                back: int((mask & masks[back]).sum())
                for back in range(place)
                if (mask & masks[back]).any()
            }
            assert list(hidden) == [back for front, back in shown.pairs if front == place]
            assert table[place, 5] == next(iter(hidden), -1)
            for back, pixels in hidden.items():
                pairs += 1
                assert pixels >= world.HIDDEN
                assert shown.objects[back].colour != shown.objects[place].colour
    assert pairs > 150


def test_labels_are_the_shapes_that_are_seen():
    for index in range(30):
        made = dataset.example(0, "validation", index)
        shown = world.scene(world.BlockDraws(0, 1, index), held_out=False)
        expected = np.zeros((world.SIDE, world.SIDE), int)
        for own in shown.objects:
            expected[whole(own)] = 1 + own.shape
        np.testing.assert_array_equal(made["labels"], expected)
    assert dataset.FEATURES["labels"].classes == ("background", *world.SHAPES)


def test_what_is_present_is_what_the_table_of_objects_says():
    """Each description is read back as words, and counted in the table."""
    # 2 sizes or none, 8 colours or none, 8 shapes or none, but not nothing; then the numbers.
    assert len(set(kinds.KINDS)) == 3 * 9 * 9 - 1 + (9 * 9 - 1) + 16 + 3
    singular = {language.plural(noun): noun for noun in (*world.SHAPES, "shape")}
    true = 0
    for index in range(30):
        made = dataset.example(0, "test", index)
        objects = [
            {world.SHAPES[row[0]], world.COLOURS[row[1]], world.SIZES[row[2]], "shape"}
            for row in made["objects"]
            if row[0] >= 0
        ]
        for kind, there in zip(kinds.KINDS, made["present"], strict=True):
            words = [singular.get(word, word) for word in kind.split()]
            least = language.NUMBERS.index(words[0]) if words[0] in language.NUMBERS else 1
            asked = set(words) - set(language.NUMBERS)
            assert there == (sum(asked <= own for own in objects) >= least), kind
            true += int(there)
    assert true > 30 * 10


def test_colours_can_be_told_apart():
    """The mean colour of what is seen of an object is nearest to its own, whatever the light."""
    palette = drawing._FILLS / np.linalg.norm(drawing._FILLS, axis=1, keepdims=True)
    right = total = 0
    for shown in scenes(150):
        image = drawing.picture(shown, world.BlockDraws(3, 0, 0)).astype(float)
        ground = image[shown.owners == 0].mean(axis=0)
        for place, own in enumerate(shown.objects):
            seen = image[shown.owners == place + 1].mean(axis=0)
            right += (palette @ (seen / np.linalg.norm(seen))).argmax() == own.colour
            total += 1
            assert np.abs(seen - ground).max() > 60
    assert right / total > 0.98


def test_pictures_are_textured_and_soft_edged():
    shown = scenes(1)[0]
    images = [drawing.picture(shown, world.BlockDraws(3, 0, i)).astype(int) for i in range(8)]
    grounds = np.stack([image[shown.owners == 0] for image in images])
    assert grounds.std(axis=1).min() > 5  # within a picture
    assert grounds.mean(axis=(1, 2)).std() > 3  # between pictures
    both = (shown.owners[:, 1:] == 0) & (shown.owners[:, :-1] == 0)
    for image in images:
        assert np.abs(np.diff(image, axis=1))[both].mean() > 5  # from pixel to pixel
    for name in world.SHAPES:
        found = stamps.stamp(name, 6.0, 3)
        assert found.coverage.min() == 0
        assert found.coverage.max() == stamps.LEVELS
        assert ((found.coverage > 0) & (found.coverage < stamps.LEVELS)).sum() > 12
        # Nothing is cut off at the border, and nothing reaches farther than is said.
        rows, columns = np.nonzero(found.coverage)
        farthest = np.hypot(rows - found.half, columns - found.half).max()
        assert farthest <= stamps.REACH * 6 + 1


@pytest.mark.parametrize("radius", [6.0, 10.5])
def test_no_shape_looks_like_another_one(radius):
    """Even where they lie best on each other, two shapes differ in an eighth of their pixels."""
    fields = {}
    for name in world.SHAPES:
        turned = [stamps.stamp(name, radius, turn).mask for turn in range(stamps.TURNS)]
        fields[name] = np.unique(np.stack(turned), axis=0)
    for one in world.SHAPES:
        for other in world.SHAPES:
            if one != other:
                a, b = fields[one][:, None], fields[other][None]
                differs = (a ^ b).sum(axis=(-2, -1)) / (a | b).sum(axis=(-2, -1))
                assert differs.min() > 1 / 8, (one, other)


def test_scenes_are_made_when_asked_for_and_kept(monkeypatch):
    made = []
    true = dataset.example
    monkeypatch.setattr(dataset, "example", lambda *where: made.append(where) or true(*where))
    source = sources.ArraySource(
        dataset.shapes_world(seed=4).columns(None, "train"), dataset.FEATURES
    )
    assert made == [(4, "train", 0)]  # what a spec's columns are checked on
    names = ("image", "objects", "held_out")
    batch = source.columns["image"], source.columns["objects"]
    stacked = [np.stack([column[i] for i in (5, 9)]) for column in batch]
    assert made[1:] == [(4, "train", 5), (4, "train", 9)]
    assert [own.shape for own in stacked] == [(2, 64, 64, 3), (2, 6, 6)]
    for name in names:
        with pytest.raises(ValueError, match="read-only"):
            source.columns[name][5][...] = 1
    with pytest.raises(IndexError, match="example 20000 of 20000"):
        source.columns["image"][20_000]
    with pytest.raises(IndexError, match="example -1 of 20000"):
        source.columns["image"][-1]


def test_more_training_scenes_change_no_other_scene():
    small, large = (catalog.load_spec(f"shapes_world{more}") for more in ("", "_large"))
    assert large.splits == {**small.splits, "train": 60_000}
    for split, index in (("train", 19_999), ("test", 0)):
        pictures = [own.columns(None, split)["image"][index] for own in (small, large)]
        np.testing.assert_array_equal(*pictures)


def test_other_sizes_and_seeds_are_other_data_sets():
    spec = dataset.shapes_world(seed=2, splits={"train": 3})
    assert spec.name == "shapes_world_seed_2"
    assert len(list(spec.columns(None, "train")["image"])) == 3
    with pytest.raises(ValueError, match="splits train, validation, test, got dev"):
        dataset.shapes_world(splits={"dev": 3})
