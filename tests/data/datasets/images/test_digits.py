"""The embedded digits: what scikit-learn has, split as the committed file says."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.images import digits

SPLITS = {"train": 1257, "validation": 180, "test": 360}


@pytest.fixture(scope="module")
def splits():
    return {name: catalog.open_source("digits", name, residency="memory") for name in SPLITS}


def test_the_splits_are_disjoint_and_complete(splits):
    assert {name: len(source) for name, source in splits.items()} == SPLITS
    ids = np.concatenate(
        [source.gather(np.arange(len(source)))["id"] for source in splits.values()]
    )
    assert sorted(ids.tolist()) == list(range(1797))


def test_every_example_is_the_one_of_scikit_learn(splits):
    original = load_digits()
    for source in splits.values():
        examples = source.gather(np.arange(len(source)))
        assert examples["image"].shape == (len(source), 8, 8, 1)
        assert (examples["image"].dtype, examples["label"].dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(examples["image"][..., 0], original.images[examples["id"]])
        np.testing.assert_array_equal(examples["label"], original.target[examples["id"]])


def test_the_classes_are_shared_out_in_proportion(splits):
    everywhere = np.bincount(load_digits().target, minlength=10)
    for source in splits.values():
        here = np.bincount(source.gather(np.arange(len(source)))["label"], minlength=10)
        assert np.abs(here - everywhere * len(source) / 1797).max() <= 1


def test_the_committed_split_follows_its_own_description():
    labels = load_digits().target
    counts = np.bincount(labels)

    def shares(total):
        exact = counts * total / counts.sum()
        share = np.floor(exact).astype(int)
        largest = np.argsort(share - exact, kind="stable")
        share[largest[: total - share.sum()]] += 1
        return share

    made = {name: [] for name in SPLITS}
    for digit, (test, validation) in enumerate(zip(shares(360), shares(180), strict=True)):
        members = np.flatnonzero(labels == digit)
        raw = np.random.Philox(key=np.array([0, digit], np.uint64)).random_raw(len(members))
        members = members[np.argsort(raw, kind="stable")]
        made["test"] += members[:test].tolist()
        made["validation"] += members[test : test + validation].tolist()
        made["train"] += members[test + validation :].tolist()
    for name, index in digits.split_indices().items():
        assert index.tolist() == sorted(made[name])
