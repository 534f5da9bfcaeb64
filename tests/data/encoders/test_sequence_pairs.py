"""Pairs of sequences as ids, and the dates and names that need no file."""

import datetime

import numpy as np
import pytest

from rcnn_jax.data.catalog import open_source
from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.text import dates
from rcnn_jax.data.encoders.base import Encoder, Encoding
from rcnn_jax.data.encoders.sequence_pairs import SequencePairs
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.text.sentences import to_bytes, to_words
from rcnn_jax.data.text.vocabulary import EOS

TRAIN = [("ab", "xy"), ("ba", "x")]
TEST = [("abc", "xz"), ("b", "yxy")]


def source_of(pairs, **columns):
    sides = {
        name: [to_bytes(pair[place]) for pair in pairs]
        for place, name in enumerate(("source", "target"))
    }
    return ArraySource({**sides, **columns}, {})


def bound(pairs=TEST, **columns):
    encoder = SequencePairs()
    encoding = encoder.bind(encoder.fit(source_of(TRAIN)), [source_of(TEST)])
    return encoding, encoding.wrap(source_of(pairs, **columns))


def test_tokens_become_ids_that_end():
    encoding, source = bound()
    assert isinstance(SequencePairs(), Encoder)
    assert isinstance(encoding, Encoding)
    assert {*encoding.for_model, *encoding.for_task} == {*SequencePairs.offers}
    assert encoding.source.tokens == ("<other>", "a", "b")
    assert encoding.target.tokens == ("<other>", "<start>", "<end>", "x", "y")
    assert encoding.for_model == {"vocabulary": 3, "classes": 5}
    batch = source.gather(np.arange(2))
    # "c" is unknown and read as such; "z" is unknown and has an id that no model can answer with.
    np.testing.assert_array_equal(batch["source"], [[1, 2, 0], [2, -1, -1]])
    np.testing.assert_array_equal(batch["target"], [[3, 5, EOS, 0], [4, 3, 4, EOS]])
    assert batch["source_length"].tolist() == [3, 1]
    assert batch["target_length"].tolist() == [3, 4]
    for name, feature in source.features.items():
        assert batch[name].shape[1:] == feature.shape
        assert batch[name].dtype == feature.dtype


def test_pairs_that_could_not_be_read_are_padding():
    mask = np.array([0, 1], np.float32)
    broken = source_of([("", ""), TEST[1]], mask=mask)
    broken = ArraySource(broken.columns, {k: v for k, v in broken.features.items() if k != "mask"})
    batch = bound()[0].wrap(broken).gather(np.arange(2))
    np.testing.assert_array_equal(batch["mask"], mask)
    assert batch["target_length"].tolist() == [0, 4]


def test_what_is_refused():
    with pytest.raises(ValueError, match="the source of example 1 of the split is empty"):
        bound([TEST[0], ("", "x")])
    with pytest.raises(ValueError, match="the target of example 0 of the split is empty"):
        bound([("a", "")])
    with pytest.raises(ValueError, match="feature 'target', the data set has 'source'"):
        SequencePairs().fit(ArraySource({"source": np.zeros((1, 2), np.uint8)}))
    with pytest.raises(ValueError, match=r"needs the asset 'source_vocabulary'.* are none"):
        SequencePairs().bind({}, [])


def test_dates_mean_the_day_that_they_name():
    """Every form is read back by hand, and no day of a split is one of another."""
    days, forms = {}, set()
    for stream, split in enumerate(dates.SPLITS):
        for index in range(400):
            written, iso = dates.date(split, Draws(0, stream, index))
            day = datetime.date.fromisoformat(iso)
            assert dates.FIRST <= day <= dates.LAST
            assert days.setdefault(day, split) == split
            month = dates.MONTHS[day.month - 1]
            ending = "th"
            if day.day not in (11, 12, 13):
                ending = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
            parts = {"month": month, "short": month[:3], "number": day.month, "year": day.year}
            parts |= {"day": day.day, "ordinal": f"{day.day}{ending}"}
            found = {form for form in dates.FORMS if written == form.format(**parts)}
            assert found, (written, iso)
            forms |= found
    assert forms == set(dates.FORMS)


def test_data_sets_open():
    source = open_source("rcnn_jax.data.datasets.text.dates:DATES", "test", residency="memory")
    assert len(source) == 1000
    written, iso = (b"".join(t.encode() for t in to_words(source[3][k])) for k in source.features)
    assert b" " not in written
    datetime.date.fromisoformat(iso.decode())
    names = open_source(
        "rcnn_jax.data.datasets.text.dates:NUMBER_NAMES", "train", residency="memory"
    )
    found = {
        to_words(names[i]["source"])[0]: "".join(to_words(names[i]["target"])) for i in range(100)
    }
    known = {"0": "zero", "13": "thirteen", "20": "twenty", "42": "forty-two", "99": "ninety-nine"}
    assert known.items() <= found.items()
    assert len(set(found.values())) == 100
