"""Batches by length: each example once an epoch, cut where nothing is lost."""

import jax
import numpy as np
import pytest

from rcnn_jax.data import pipeline
from rcnn_jax.data.buckets import Buckets
from rcnn_jax.data.sources import ArraySource, View

RNG = np.random.default_rng(0)
TIME, SIZE = 12, 53
LENGTHS = RNG.integers(1, TIME + 1, SIZE).astype(np.int32)
WORDS = np.where(np.arange(TIME)[None] < LENGTHS[:, None], RNG.integers(1, 9, (SIZE, TIME)), -1)
SOURCE = ArraySource({"words": WORDS.astype(np.int32), "length": LENGTHS, "row": np.arange(SIZE)})


def buckets(source=SOURCE, **arguments):
    given = {"batch_size": 4, "seed": 3, "edges": (3, 7), "features": ("words",)}
    return Buckets(source, **(given | arguments))


def test_every_example_is_seen_once_an_epoch():
    sampler = buckets()
    steps = int(sampler.steps_per_epoch)
    sizes = [(LENGTHS <= 3).sum(), ((LENGTHS > 3) & (LENGTHS <= 7)).sum(), (LENGTHS > 7).sum()]
    assert steps == sum(-(-size // 4) for size in sizes)
    epochs = []
    for epoch in (0, 1):
        batches = [sampler.indices(epoch * steps + step) for step in range(steps)]
        rows = np.concatenate(batches)
        assert sorted(rows[rows >= 0]) == list(range(SIZE))
        epochs.append(batches)
        for step, batch in enumerate(batches):
            found = np.searchsorted((3, 7), LENGTHS[batch[batch >= 0]])
            assert len(set(found)) == 1
            expected = {0: (("words", 3),), 1: (("words", 7),), 2: ()}[found[0]]
            assert sampler.cut(epoch * steps + step) == expected
        # Batches of all buckets are mixed, and not one bucket after the other.
        order = [LENGTHS[batch[0]] for batch in batches]
        assert order != sorted(order)
    assert any((a != b).any() for a, b in zip(*epochs, strict=True))
    assert sampler.epoch(steps) == 1
    again, other = buckets(), buckets(seed=4)
    np.testing.assert_array_equal(again.indices(5), sampler.indices(5))
    assert any((other.indices(s) != sampler.indices(s)).any() for s in range(steps))


@pytest.mark.parametrize("residency", ["memory", "device", "stream"])
def test_batches_end_at_the_edge_and_lose_nothing(residency):
    sampler, steps = buckets(), 20
    source = View(SOURCE, np.arange(SIZE)) if residency == "stream" else SOURCE
    with pipeline.train_batches(
        source, sampler, start_step=2, num_steps=steps, residency=residency, place=jax.device_put
    ) as batches:
        found = list(batches)
    times = set()
    for step, batch in enumerate(found, start=2):
        rows = sampler.indices(step)
        time = dict(sampler.cut(step)).get("words", TIME)
        times.add(time)
        assert batch["words"].shape == (4, time)
        for row, words, length, mask in zip(
            rows, *(np.asarray(batch[k]) for k in ("words", "length", "mask")), strict=True
        ):
            assert mask == (row >= 0)
            assert length == (LENGTHS[row] if mask else 0)
            np.testing.assert_array_equal(words, WORDS[row, :time] if mask else np.zeros(time))
            assert length <= time
    assert times == {3, 7, TIME}


@pytest.mark.parametrize("residency", ["memory", "device"])
def test_pictures_are_cut_along_their_width(residency):
    images = np.repeat(np.maximum(WORDS, 0)[:, None, :, None], 2, axis=1).astype(np.uint8)
    source = ArraySource({"image": images, "words": WORDS, "length": LENGTHS})
    sampler = buckets(source, features=("image", "words"), axes=(1, 0))
    cuts = {sampler.cut(step) for step in range(20)}
    assert cuts == {(("image", edge, 1), ("words", edge)) for edge in (3, 7)} | {()}
    with pipeline.train_batches(
        source, sampler, start_step=0, num_steps=8, residency=residency, place=jax.device_put
    ) as batches:
        found = list(batches)
    for step, batch in enumerate(found):
        rows, length = sampler.indices(step), dict(c[:2] for c in sampler.cut(step))
        time = length.get("image", TIME)
        assert batch["image"].shape == (4, 2, time, 1)
        expected = np.where((rows >= 0)[:, None, None, None], images[rows, :, :time], 0)
        np.testing.assert_array_equal(batch["image"], expected)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"axis 1 of the feature 'words', .* has \[12\]"):
        buckets(axes=(1,))
    with pytest.raises(ValueError, match=r"axes=\(0, 1\) of buckets are one for each of the"):
        buckets(axes=(0, 1))
    with pytest.raises(ValueError, match=r"rising lengths above 0, got \(5, 5\)"):
        buckets(edges=(5, 5))
    with pytest.raises(ValueError, match=r"rising lengths above 0, got \(\)"):
        buckets(edges=())
    with pytest.raises(ValueError, match="a feature 'tags', the data set has sequences 'words'"):
        buckets(features=("tags",))
    with pytest.raises(ValueError, match=r"batch_size must be at least 1.* got 0 and 3"):
        buckets(batch_size=0)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        buckets().indices(-1)
    with pytest.raises(ValueError, match="need a feature 'length', the data set has 'words'"):
        buckets(ArraySource({"words": WORDS})).indices(0)
