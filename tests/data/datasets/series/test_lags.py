"""Adding and copy memory: what an example is, and that it is always the same."""

import hashlib

import numpy as np
import pytest

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.series import lags

KINDS = {"adding": lags.adding, "copy_memory": lags.copy_memory}


def gathered(spec, split):
    columns = spec.columns(None, split)
    size = spec.splits[split]
    return {name: np.stack([column[i] for i in range(size)]) for name, column in columns.items()}


def test_adding_by_its_definition():
    found = gathered(lags.adding(11, splits={"train": 2000}), "train")
    values, marks = found["inputs"][..., 0], found["inputs"][..., 1]
    assert (found["inputs"].dtype, found["target"].dtype) == (np.float32, np.float32)
    assert set(np.unique(marks)) == {0, 1}
    assert (marks[:, :5].sum(1) == 1).all()
    assert (marks[:, 5:].sum(1) == 1).all()
    np.testing.assert_allclose((values * marks).sum(1), found["target"], rtol=1e-6)
    # Every step of a half is marked about as often as any other of it.
    np.testing.assert_allclose(marks[:, :5].mean(0), 1 / 5, atol=0.04)
    np.testing.assert_allclose(marks[:, 5:].mean(0), 1 / 6, atol=0.04)
    assert values.min() >= 0
    assert values.max() < 1
    np.testing.assert_allclose([values.mean(), values.var()], [1 / 2, 1 / 12], atol=0.01)
    # Whoever always answers 1 is off by 2/12.
    np.testing.assert_allclose(np.mean((found["target"] - 1) ** 2), 2 / 12, rtol=0.1)


def test_copy_memory_by_its_definition():
    found = gathered(lags.copy_memory(5, splits={"train": 1000}), "train")
    inputs, targets = found["inputs"], found["targets"]
    assert inputs.shape == targets.shape == (1000, 25)
    assert inputs.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(inputs[:, :10], targets[:, -10:])
    assert inputs[:, :10].min() == 0
    assert inputs[:, :10].max() == 7
    np.testing.assert_allclose(np.bincount(inputs[:, :10].ravel()) / 10_000, 1 / 8, atol=0.015)
    assert (inputs[:, 10:] == [8] * 4 + [9] + [8] * 10).all()
    assert (targets[:, :15] == 8).all()


@pytest.mark.parametrize(
    ("kind", "digest"), [("adding", "f33dc8f10fddbb10"), ("copy_memory", "a2baea28f0a5984f")]
)
def test_examples_are_the_same_everywhere_and_always(kind, digest):
    """A change of the examples needs a new version of the data set, and then a new sum here."""
    spec = KINDS[kind](20)
    columns = spec.columns(None, "test")
    first = b"".join(column[i].tobytes() for column in columns.values() for i in range(50))
    assert hashlib.sha256(first).hexdigest()[:16] == digest
    assert spec.version == "1.0.0"
    again = KINDS[kind](20).columns(None, "test")
    for name, column in columns.items():
        np.testing.assert_array_equal(column[7], again[name][7])  # without the ones before


@pytest.mark.parametrize("kind", list(KINDS))
def test_seed_split_and_index_tell_examples_apart(kind):
    sizes = {"train": 300, "test": 300}
    one, other = (KINDS[kind](20, seed=seed, splits=sizes) for seed in (0, 1))
    rows = np.concatenate(
        [
            gathered(spec, split)["inputs"].reshape(300, -1)
            for spec in (one, other)
            for split in sizes
        ]
    )
    assert len(np.unique(rows, axis=0)) == 1200
    assert one.name != other.name


@pytest.mark.parametrize("kind", list(KINDS))
def test_they_are_data_sets_like_others(kind, tmp_path, monkeypatch):
    """Also through record files."""
    spec = KINDS[kind](3, splits={"train": 4, "test": 2})
    monkeypatch.setattr(lags, "TINY", spec, raising=False)
    memory, records = (
        catalog.open_source(
            "rcnn_jax.data.datasets.series.lags:TINY", "train", tmp_path, residency=residency
        )
        for residency in ("memory", "stream")
    )
    rows = np.array([3, 0, 3])
    batch = memory.gather(rows)
    for name, values in records.gather(rows).items():
        np.testing.assert_array_equal(values, batch[name])
        assert values.dtype == batch[name].dtype == spec.features[name].dtype
        assert values.shape == (3, *spec.features[name].shape)
    assert len(memory) == len(records) == 4
    with pytest.raises(IndexError):
        memory[4]


def test_shipped_lags():
    for name, shape in (("ADDING_50", (50, 2)), ("ADDING_200", (200, 2)), ("COPY_100", (120,))):
        spec = catalog.load_spec(f"rcnn_jax.data.datasets.series.lags:{name}")
        assert spec.features["inputs"].shape == shape
        assert len(spec.columns(None, "train")["inputs"]) == 50_000


def test_draws():
    draws = Draws(1, 2, 3)
    numbers = draws.uniform(20_000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose([numbers.mean(), numbers.var()], [0.5, 1 / 12], atol=0.01)
    assert draws.integers(1000, 3).dtype == np.int32
    assert set(draws.integers(1000, 3).tolist()) == {0, 1, 2}
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}
    assert {draws.choice("xy") for _ in range(100)} == {"x", "y"}
    np.testing.assert_array_equal(Draws(1, 2, 3).uniform(5), numbers[:5])
    streams = [Draws(*place).uniform(1)[0] for place in ((1, 2, 4), (1, 3, 3), (2, 2, 3))]
    assert len({numbers[0], *streams}) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lags.adding(1), "steps=1"),
        (lambda: lags.copy_memory(0), "lag=0"),
        (lambda: Draws(-1, 0, 0), "seed .* got -1"),
        (lambda: Draws(0, 2**16, 0), "stream .* got 65536"),
        (lambda: Draws(0, 0, -1), "index .* got -1"),
    ],
)
def test_what_is_impossible(call, message):
    with pytest.raises(ValueError, match=message):
        call()
